from __future__ import annotations

import struct

import pytest

from aioproducer.testing.observed import FakeRequest
from aioproducer.testing.state import ClusterState
from aioproducer.testing.violations import Watch
from tests.support.fake_broker import TOPIC, read, state_of
from tests.support.kio_client import batch, produce_request
from tests.support.reference_batch import crc32c

PRODUCER = 1000


class Watched:
    """A watch, and the state it writes into; one producer id has been given out."""

    def __init__(self) -> None:
        self.state: ClusterState = state_of()
        self.state.new_producer_id()
        self._watch = Watch(self.state)

    def send(
        self, *batches: bytes, acks: int = -1, version: int = 12, connection: int = 1
    ) -> list[str]:
        """Return what is new among the violations; batch i goes to partition i."""
        before = len(self.state.violations)
        message = produce_request(
            {(TOPIC, index): data for index, data in enumerate(batches)},
            acks=acks,
            version=version,
        )
        call = read(message)
        request = FakeRequest(
            api="produce",
            version=version,
            node_id=0,
            connection=connection,
            client_id=None,
            correlation_id=1,
            received_at=0.0,
            size=1,
            topics=call.topics(self.state),
            batches=call.batches(self.state),
            acks=call.acks,
        )
        self._watch.produce("here", request, call.records())
        return self.state.violations[before:]


def patched(place: int, data: bytes, *, reseal: bool = True) -> bytes:
    whole = batch()
    whole = whole[:place] + data + whole[place + len(data) :]
    return whole[:17] + struct.pack(">I", crc32c(whole[21:])) + whole[21:] if reseal else whole


def idempotent(epoch: int = 0, sequence: int = 0, producer_id: int = PRODUCER) -> bytes:
    return batch(producer=(producer_id, epoch, sequence))


def test_a_correct_request_is_no_violation() -> None:
    watched = Watched()
    assert watched.send(batch(b"a", b"b"), idempotent()) == []
    assert watched.send(idempotent(sequence=1), idempotent(epoch=1)) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "too few"),
        (patched(16, b"\1", reseal=False), "magic is 1"),
        (batch() + b"x", "are there"),
        (patched(61, b"\x44", reseal=False), "CRC"),
        (patched(7, b"\5", reseal=False), "base offset is 5"),
        (patched(57, b"\0\0\0\2"), "last offset delta"),
        (patched(57, b"\0\0\0\0"), "last offset delta"),
        (patched(23, b"\0\0\1\0" + batch()[27:57] + b"\0\0\1\1"), "cannot be in"),
        (batch(attributes=0x05), "attributes"),
        (batch(attributes=0x08), "attributes"),
        (batch(attributes=0x20), "attributes"),
        (batch(attributes=0x40), "attributes"),
        (batch(attributes=0x100), "attributes"),
        (idempotent(producer_id=99), "no producer got the id"),
        (idempotent(sequence=-1), "sequence -1"),
    ],
)
def test_a_bad_batch_is_a_violation(data: bytes, words: str) -> None:
    found = Watched().send(data)
    assert any(words in violation for violation in found), found
    assert all(violation.startswith("here, t-0: ") for violation in found)


def test_zstd_in_an_old_version_is_a_violation() -> None:
    assert "version 7" in Watched().send(batch(attributes=4), version=6)[0]


def test_impossible_acks_are_a_violation() -> None:
    assert "acks is 3" in Watched().send(batch(), acks=3)[0]


@pytest.mark.parametrize("acks", [0, 1])
def test_an_idempotent_batch_needs_all_acks(acks: int) -> None:
    assert f"acks={acks}" in Watched().send(idempotent(), acks=acks)[0]


def test_an_epoch_does_not_go_back_in_one_partition() -> None:
    watched = Watched()
    assert watched.send(idempotent(1), idempotent(0)) == []
    (found,) = watched.send(idempotent(0), idempotent(0, 1))
    assert "went back from epoch 1 to 0" in found


def test_an_epoch_that_comes_late_on_an_earlier_connection_did_not_go_back() -> None:
    producers = Watched()
    assert producers.send(idempotent(epoch=1), connection=2) == []
    assert producers.send(idempotent(epoch=0, sequence=3), connection=1) == []
    assert producers.send(idempotent(epoch=0, sequence=3), connection=3) != []


def test_a_request_with_nothing_in_it_is_a_violation() -> None:
    state = state_of()
    request = FakeRequest("produce", 9, 0, 1, None, 1, 0.0, 1, acks=-1)
    Watch(state).produce("here", request, [])
    assert state.violations == ["here: there is nothing in it"]


def test_a_partition_comes_once_in_a_request() -> None:
    state = state_of()
    call = read(produce_request({(TOPIC, 0): batch()}))
    (one,) = call.batches(state)
    request = FakeRequest("produce", 9, 0, 1, None, 1, 0.0, 1, batches=(one, one), acks=-1)
    Watch(state).produce("here", request, call.records() * 2)
    assert state.violations == ["here, t-0: the partition is in the request twice"]
