"""examples/consume_transform_produce.py on FakeCluster, and what docs/transactions.md shows of it.

FakeCluster has no members of groups, so a consumer of our own hands out what the source has.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from aioproducer import Producer
from aioproducer.errors import ProducerFencedError, TransactionFailedError
from aioproducer.testing import ApiName, ErrorCode, FakeCluster

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what aiokafka imports is not ours to mend
    example: Any = importlib.import_module("examples.consume_transform_produce")
    TopicPartition: Any = importlib.import_module("aiokafka").TopicPartition

ROOT = Path(__file__).parents[2]
SOURCE, TARGET, GROUP, ID = "orders", "enriched", "enrichers", "ids"


class Message(NamedTuple):
    """A record of the source, as aiokafka hands it out."""

    offset: int
    key: bytes
    value: bytes


class Consumer:
    """Reads one partition from a list, three messages at a time; stops its program at the end."""

    def __init__(self, cluster: FakeCluster, values: Iterable[bytes], **options: object) -> None:
        assert options["enable_auto_commit"] is False
        self._cluster = cluster
        self._messages = [Message(n, b"%d" % n, value) for n, value in enumerate(values)]
        self._position = 0
        self.partition = TopicPartition(SOURCE, 0)
        self.listener: Any = None

    def subscribe(self, topics: list[str], listener: object) -> None:
        self.listener = listener

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def getmany(self, **_: object) -> dict[Any, list[Message]]:
        read = self._messages[self._position : self._position + 3]
        self._position += len(read)
        if not read:
            self.listener.stop()
            return {}
        return {self.partition: read}

    async def committed(self, partition: tuple[str, int]) -> int | None:
        return self._cluster.committed(GROUP).get((partition[0], partition[1]))

    def seek(self, _: object, offset: int) -> None:
        self._position = offset

    async def seek_to_beginning(self, _: object) -> None:
        self._position = 0


def orders(count: int) -> list[bytes]:
    return [json.dumps({"id": n, "cents": 100 * n}).encode() for n in range(count)]


def enricher(
    patch: pytest.MonkeyPatch,
    cluster: FakeCluster,
    values: Iterable[bytes],
    consumer: type[Consumer] = Consumer,
) -> Any:
    """Return the example's, reading these values."""
    patch.setattr(example, "AIOKafkaConsumer", partial(consumer, cluster, values))
    return example.Enricher(
        argparse.Namespace(
            bootstrap_servers=cluster.bootstrap_servers,
            source=SOURCE,
            target=TARGET,
            group=GROUP,
            transactional_id=ID,
        )
    )


def enriched(cluster: FakeCluster) -> list[int]:
    """Return the ids of the orders that readers of committed records see."""
    seen = cluster.records(TARGET, isolation="read_committed")
    return [json.loads(record.value or b"")["id"] for record in seen]


async def test_each_order_is_enriched_and_counted_as_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeCluster(topics={SOURCE: 1, TARGET: 1}) as cluster:
        await enricher(monkeypatch, cluster, orders(8)).run()
        assert enriched(cluster) == list(range(8))
        assert cluster.committed(GROUP) == {(SOURCE, 0): 8}
        # A restart has nothing to do.
        await enricher(monkeypatch, cluster, orders(8)).run()
        assert enriched(cluster) == list(range(8))


@pytest.mark.parametrize("api", ["produce", "txn_offset_commit"])
async def test_orders_of_an_aborted_transaction_are_read_again(
    monkeypatch: pytest.MonkeyPatch, api: ApiName
) -> None:
    async with FakeCluster(topics={SOURCE: 1, TARGET: 1}) as cluster:
        cluster.fail_next(api, ErrorCode.TRANSACTION_ABORTABLE)
        await enricher(monkeypatch, cluster, orders(8)).run()
        assert enriched(cluster) == list(range(8))
        assert cluster.committed(GROUP) == {(SOURCE, 0): 8}


async def test_what_does_not_pass_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeCluster(topics={SOURCE: 1, TARGET: 1}) as cluster:
        cluster.fail_next("produce", ErrorCode.TRANSACTION_ABORTABLE, count=3)
        with pytest.raises(TransactionFailedError):
            await enricher(monkeypatch, cluster, orders(8)).run()
        assert enriched(cluster) == []
        assert cluster.committed(GROUP) == {}


async def test_an_order_that_cannot_be_enriched_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeCluster(topics={SOURCE: 1, TARGET: 1}) as cluster:
        values = [*orders(4), b"not an order"]
        with pytest.raises(ValueError) as caught:
            await enricher(monkeypatch, cluster, values).run()
        assert caught.value.__notes__ == [
            "in TopicPartition(topic='orders', partition=0) at offset 4"
        ]
        assert enriched(cluster) == [0, 1, 2]
        assert cluster.committed(GROUP) == {(SOURCE, 0): 3}


async def test_an_instance_whose_partition_was_taken_over_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Frozen(Consumer):
        """Meanwhile the group gives its partition to another instance."""

        async def getmany(self, **options: object) -> dict[Any, list[Message]]:
            read = await super().getmany(**options)
            if cluster.committed(GROUP):
                async with Producer(
                    bootstrap_servers=cluster.bootstrap_servers, transactional_id=f"{ID}-0"
                ):
                    pass
            return read

    async with FakeCluster(topics={SOURCE: 1, TARGET: 1}) as cluster:
        with pytest.raises(ProducerFencedError):
            await enricher(monkeypatch, cluster, orders(8), Frozen).run()
        assert enriched(cluster) == [0, 1, 2]
        assert cluster.committed(GROUP) == {(SOURCE, 0): 3}


async def test_a_partition_is_given_away_after_its_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeCluster(topics={SOURCE: 1, TARGET: 1}) as cluster:
        instance = enricher(monkeypatch, cluster, orders(3))
        cluster.hang("end_txn")
        running = asyncio.create_task(instance.run())
        await cluster.received("end_txn")
        revoking = asyncio.create_task(instance.on_partitions_revoked(set()))
        await asyncio.sleep(0)
        assert not revoking.done()
        cluster.release()
        await revoking
        assert cluster.committed(GROUP) == {(SOURCE, 0): 3}
        await running
        assert enriched(cluster) == [0, 1, 2]


def test_the_page_shows_lines_of_the_program() -> None:
    page = (ROOT / "docs/transactions.md").read_text()
    section = page.partition("## Read, transform, write")[2]
    program = (ROOT / "examples/consume_transform_produce.py").read_text()
    lines = [line.strip() for line in program.splitlines()]
    blocks = [block.partition("```")[0] for block in section.split("```python\n")[1:]]
    assert blocks
    for line in "".join(blocks).splitlines():
        assert line.strip() in lines
