"""The orders a test gives about requests to come: one method for each kind of fault.

ClusterControls adds the orders about whole brokers. Nothing here touches a broker: an order
becomes a rule of the plan, which the brokers ask about each request (faults.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, cast, overload

from aioproducer.testing.apis.add_offsets_to_txn import AddOffsetsToTxnResponse
from aioproducer.testing.apis.add_partitions_to_txn import AddPartitionsToTxnResponse
from aioproducer.testing.apis.api_versions import ApiVersionsResponse
from aioproducer.testing.apis.describe_transactions import DescribeTransactionsResponse
from aioproducer.testing.apis.end_txn import EndTxnResponse
from aioproducer.testing.apis.find_coordinator import FindCoordinatorResponse
from aioproducer.testing.apis.init_producer_id import InitProducerIdResponse
from aioproducer.testing.apis.metadata import MetadataResponse
from aioproducer.testing.apis.produce import ProduceResponse
from aioproducer.testing.apis.sasl_authenticate import SaslAuthenticateResponse
from aioproducer.testing.apis.sasl_handshake import SaslHandshakeResponse
from aioproducer.testing.apis.txn_offset_commit import TxnOffsetCommitResponse
from aioproducer.testing.errors_to_order import OrderedError, as_error_code
from aioproducer.testing.faults import Cut, Delay, Edit, Fail, FaultPlan, Hang, Hook, Mutate, Rule
from aioproducer.testing.loop_bound import LoopBound, on_loop
from aioproducer.testing.observed import ApiName

__all__ = ["FaultOrders"]


class FaultOrders(LoopBound):
    """What a test may order to go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self._plan = FaultPlan()

    @on_loop
    def fail_next(
        self,
        api: ApiName,
        error: OrderedError,
        *,
        count: int | None = 1,
        node_id: int | None = None,
        topic: str | None = None,
        partition: int | None = None,
        stored: bool = False,
        message: str | None = None,
        record_errors: Mapping[int, str | None] | None = None,
        current_leader: tuple[int, int] | None = None,
    ) -> None:
        """Fail the next requests.

        In Produce, Metadata, AddPartitionsToTxn and TxnOffsetCommit it is the error of the
        partitions and topics chosen, all of them unless `topic` and `partition` say otherwise.

        Args:
            api: The API.
            error: Its class, e.g. `NotLeaderOrFollowerError`, an instance, whose message is the
                broker's, Kafka's name `"NOT_LEADER_OR_FOLLOWER"`, or the code.
            count: How many requests; None for ever.
            node_id: Only those to this broker.
            topic: Only those that name this topic.
            partition: Only those that name this partition.
            stored: Whether the request is carried out before the error is told (Produce, and what
                changes a transaction).
            message: What the broker says about it (Produce, version 8 and later).
            record_errors: What is wrong with single records, by index in the batch (KIP-467).
            current_leader: The leader and epoch to hint at (KIP-951); None for the true ones,
                with the errors that come with a hint.

        Raises:
            ValueError: No broker sends this error.
        """
        code, own_message = as_error_code(error)
        fail = Fail(
            code,
            stored,
            own_message if message is None else message,
            topic,
            partition,
            dict(record_errors or {}),
            current_leader,
        )
        self._plan.add(Rule(api, fail, count, node_id, topic, partition))

    @on_loop
    def delay(
        self,
        api: ApiName | Literal["any"],
        seconds: float,
        *,
        count: int | None = None,
        node_id: int | None = None,
        when: Literal["before", "after"] = "after",
    ) -> None:
        """Respond late to some requests, and thus to all that follow on the same connection.

        `slow` is for a whole broker.

        Args:
            api: The API, or "any".
            seconds: How late.
            count: How many requests; None for ever.
            node_id: Only those to this broker.
            when: "after": the request is carried out at once and only the response is late;
                "before": it is carried out when the time is over.
        """
        self._plan.add(Rule(api, Delay(seconds, when), count, node_id))

    @on_loop
    def hang(
        self,
        api: ApiName | Literal["any"] = "any",
        *,
        count: int | None = None,
        node_id: int | None = None,
        stored: bool = False,
    ) -> None:
        """Take some requests and respond to nothing from there on, until `release`.

        `freeze` is for a whole broker.

        Args:
            api: The API, or "any".
            count: How many requests; None for ever.
            node_id: Only those to this broker.
            stored: Whether they are carried out at once; else they are when released, even if
                their connections are gone by then.
        """
        self._plan.add(Rule(api, Hang(stored), count, node_id))

    @on_loop
    def cut_next(
        self,
        api: ApiName | Literal["any"],
        *,
        when: Literal["before", "after"] = "before",
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None:
        """Reset the connection instead of responding.

        Args:
            api: The API, or "any".
            when: "before" the request is carried out, or "after".
            count: How many requests; None for ever.
            node_id: Only those to this broker.
        """
        self._plan.add(Rule(api, Cut(when), count, node_id))

    @on_loop
    def mutate_next(
        self,
        api: ApiName | Literal["any"],
        mutate: Callable[[bytes], bytes],
        *,
        count: int | None = 1,
        node_id: int | None = None,
        framed: bool = False,
    ) -> None:
        """Change the bytes of the next responses.

        Args:
            api: The API, or "any".
            mutate: Gets the response from its correlation id on, returns what is sent in its
                place, with a size that fits.
            count: How many responses; None for ever.
            node_id: Only those of this broker.
            framed: Whether `mutate` gets and returns the 4 bytes of the size as well.
        """
        self._plan.add(Rule(api, Mutate(mutate, framed), count, node_id))

    @overload
    def edit_next(
        self,
        api: Literal["produce"],
        edit: Callable[[ProduceResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["metadata"],
        edit: Callable[[MetadataResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["init_producer_id"],
        edit: Callable[[InitProducerIdResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["api_versions"],
        edit: Callable[[ApiVersionsResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["sasl_handshake"],
        edit: Callable[[SaslHandshakeResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["sasl_authenticate"],
        edit: Callable[[SaslAuthenticateResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["find_coordinator"],
        edit: Callable[[FindCoordinatorResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["add_partitions_to_txn"],
        edit: Callable[[AddPartitionsToTxnResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["add_offsets_to_txn"],
        edit: Callable[[AddOffsetsToTxnResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["end_txn"],
        edit: Callable[[EndTxnResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["txn_offset_commit"],
        edit: Callable[[TxnOffsetCommitResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    @overload
    def edit_next(
        self,
        api: Literal["describe_transactions"],
        edit: Callable[[DescribeTransactionsResponse], object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None: ...
    def edit_next(
        self,
        api: ApiName,
        edit: Callable[..., object],
        *,
        count: int | None = 1,
        node_id: int | None = None,
    ) -> None:
        """Change the next responses before they are encoded: what is in them stays well-formed.

        Args:
            api: The API.
            edit: Gets the response and changes it in place, e.g. leaves a partition out.
            count: How many responses; None for ever.
            node_id: Only those of this broker.
        """
        rule = Rule(api, Edit(cast("Callable[[object], object]", edit)), count, node_id)
        self._on_loop(partial(self._plan.add, rule))

    @on_loop
    def clear_faults(self) -> None:
        """Forget all faults ordered so far; requests that hang go on hanging until `release`."""
        self._plan.clear()

    @on_loop
    def on_request(self, fn: Hook) -> Callable[[], None]:
        """Call a function with each request when its turn comes.

        Args:
            fn: Gets the request; returns None, or what to do with it: `Fail`, `Cut`, `Hang`,
                `Delay`, `Edit`, `Mutate` or `FakeResponse`.

        Returns:
            A function that ends this.
        """
        return self._plan.add_hook(fn)
