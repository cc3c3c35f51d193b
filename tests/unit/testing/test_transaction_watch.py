"""Rare cases; what a producer never does is tested over sockets, in loop/testing."""

from __future__ import annotations

import pytest

from aioproducer.testing.apis.end_txn import EndTxnResponse
from aioproducer.testing.observed import FakeRequest, SentBatch
from aioproducer.testing.transaction_watch import TransactionWatch
from tests.support.fake_broker import TOPIC, state_of

HIGHEST = 2**31 - 1
ID = 1000


class Watched:
    """A watch, and the mistakes that it lists."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.watch = TransactionWatch(state_of(), lambda _where, what: self.found.append(what))

    def produce(self, *sequences: int, count: int = 1, epoch: int = 0, connection: int = 1) -> None:
        """Send a request with a batch for each sequence, to a partition of its own."""
        batches = tuple(
            SentBatch(TOPIC, index, 100, count, ID, epoch, sequence, True)
            for index, sequence in enumerate(sequences)
        )
        self.watch.arrived("here", request("produce", connection, batches=batches))


def request(api: str, connection: int = 1, **fields: object) -> FakeRequest:
    values = {
        "version": {"produce": 13, "end_txn": 5}[api],
        "node_id": 0,
        "client_id": None,
        "correlation_id": 1,
        "received_at": 0.0,
        "size": 1,
        "transactional_id": "tx",
        **fields,
    }
    return FakeRequest(api=api, connection=connection, **values)  # type: ignore[arg-type]  # pyright: ignore


def test_a_batch_that_is_sent_again_leaves_no_gap() -> None:
    watched = Watched()
    for sequence in (0, 2, 4, 0, 2, 4, 6):
        watched.produce(sequence, count=2)
    assert watched.found == []
    watched.produce(10)
    assert watched.found == ["producer 1000 (epoch 0) sent the sequence 10, but never 8"]


def test_after_the_highest_sequence_comes_0() -> None:
    watched = Watched()
    watched.produce(0, count=HIGHEST // 2)
    watched.produce(HIGHEST // 2, count=HIGHEST // 2)
    watched.produce(HIGHEST - 1, count=2)
    watched.produce(0)
    watched.produce(HIGHEST - 1, count=2)
    watched.produce(1)
    assert watched.found == []
    watched.produce(3)
    assert len(watched.found) == 1


def test_each_partition_and_epoch_has_its_own_sequences() -> None:
    watched = Watched()
    watched.produce(0, 0)
    watched.produce(1, 1)
    watched.produce(0, 0, epoch=1)
    assert watched.found == []
    watched.produce(1, 2, epoch=1)
    assert len(watched.found) == 1


@pytest.mark.parametrize(
    ("connection", "is_closed", "mistakes"), [(1, False, 1), (1, True, 0), (2, False, 0)]
)
def test_an_epoch_counts_as_returned_on_its_connection(
    connection: int, is_closed: bool, mistakes: int
) -> None:
    watched = Watched()
    end = request("end_txn", producer_id=ID, producer_epoch=0, commit=False)
    watched.watch.arrived("here", end)
    watched.watch.answered(end, EndTxnResponse(0, ID, 1))
    if is_closed:
        watched.watch.closed(1)
    watched.produce(0, connection=connection)
    assert len(watched.found) == mistakes


def test_the_epoch_in_an_error_is_none() -> None:
    watched = Watched()
    end = request("end_txn", producer_id=ID, producer_epoch=0, commit=False)
    watched.watch.answered(end, EndTxnResponse(51, ID, 1))
    watched.watch.answered(end, None)
    watched.produce(0)
    assert watched.found == []
