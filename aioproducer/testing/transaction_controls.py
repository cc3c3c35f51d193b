"""What a test sees of transactions and of their coordinators, and does to them."""

from __future__ import annotations

from collections.abc import Mapping

from aioproducer.testing.coordinators import CoordinatorKind
from aioproducer.testing.loop_bound import on_loop
from aioproducer.testing.orders import FaultOrders
from aioproducer.testing.state import ClusterState
from aioproducer.testing.transaction_values import FakeTransaction

__all__ = ["TransactionControls"]


class TransactionControls(FaultOrders):
    """The half of a fake cluster that is about transactions."""

    _state: ClusterState

    # What there is.

    @on_loop
    def transaction(self, transactional_id: str) -> FakeTransaction | None:
        """Return what the coordinator knows of a transactional id; None if nobody has used it."""
        return self._state.transactions.get(transactional_id)

    @on_loop
    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Return the offsets that a consumer group has committed, by topic and partition.

        Those that an open transaction commits are not among them.
        """
        offsets = self._state.groups.get(group).offsets
        return {where: committed.offset for where, committed in sorted(offsets.items())}

    @on_loop
    def coordinator(self, key: str, *, kind: CoordinatorKind = "transaction") -> int:
        """Return the node id of a coordinator; -1 if there is none that is up.

        Args:
            key: The transactional id, or the consumer group.
            kind: Which of the two it is.
        """
        return self._state.coordinators.node_of(kind, key)

    # What happens to it.

    @on_loop
    def move_coordinator(
        self,
        key: str,
        node_id: int,
        *,
        kind: CoordinatorKind = "transaction",
        loading: int = 0,
    ) -> None:
        """Make another broker the coordinator; the one before answers NOT_COORDINATOR.

        Args:
            key: The transactional id, or the consumer group.
            node_id: The new coordinator.
            kind: Which of the two `key` is.
            loading: How many requests it answers with COORDINATOR_LOAD_IN_PROGRESS first.
        """
        if node_id not in self._state.addresses:
            nodes = sorted(self._state.addresses)
            raise LookupError(f"there is no broker {node_id}; there are {nodes}")
        self._state.coordinators.move(kind, key, node_id, loading)
        self._state.transactions.write_markers()

    @on_loop
    def hold_markers(self) -> None:
        """Let transactions end slowly: no marker is written until `write_markers`.

        EndTxn succeeds, as it does at a broker that has decided and not yet told the partitions.
        Until the markers are written, records stay invisible to readers of committed ones, and the
        producer's next transaction meets CONCURRENT_TRANSACTIONS.
        """
        self._state.transactions.holds_markers = True

    @on_loop
    def write_markers(self) -> None:
        """Write the markers that `hold_markers` held, and hold no more."""
        self._state.transactions.holds_markers = False
        self._state.transactions.write_markers()

    @on_loop
    def time_out_transaction(self, transactional_id: str) -> None:
        """Abort an open transaction, as its coordinator does after `transaction.timeout.ms`.

        That happens by itself too, as soon as the time is over; Kafka looks every ten seconds.

        Raises:
            ValueError: No transaction is open.
        """
        self._state.transactions.fence(transactional_id)

    @on_loop
    def forget_transactional_id(self, transactional_id: str) -> None:
        """Forget a transactional id, as brokers do after `transactional.id.expiration.ms`.

        Raises:
            ValueError: It has an open transaction.
        """
        self._state.transactions.forget(transactional_id)

    @on_loop
    def set_next_epoch(self, transactional_id: str, epoch: int) -> None:
        """Let the next producer of a transactional id get this epoch.

        After 32766, the last one, a producer gets another producer id.

        Raises:
            ValueError: The epoch is impossible, or a transaction is open.
        """
        self._state.transactions.set_next_epoch(transactional_id, epoch)

    @on_loop
    def set_group_members(
        self, group: str, generation: int, members: Mapping[str, str | None]
    ) -> None:
        """Let a consumer group have members: only they can commit its offsets from now on.

        Consumers cannot join a group of a fake cluster by themselves.

        Args:
            group: The group.
            generation: Its generation id.
            members: The ids of the members, with their `group.instance.id` or None.
        """
        self._state.groups.set_members(group, generation, members)
