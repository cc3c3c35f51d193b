"""The accumulator: order, bytes, limits, partitions, and records of topics not known yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioproducer._native.accumulator import murmur2
from aioproducer._native.queues import CorePartitionQueue, CoreTopic, WaitingRecords
from aioproducer._native.record_batch import BATCH_HEADER_SIZE, Delivery
from aioproducer.errors import (
    InvalidPartitionError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    RecordTooLargeError,
)
from aioproducer.hooks import Partitioner
from tests.support import kafka_python
from tests.support.core import NO_LIMIT, TOPIC, Core, append_to, records_of

quick = settings(max_examples=50, deadline=None, database=None)

RECORD = 8
"""What a record of one byte takes when it is the first of its batch."""


def always(partition: int) -> Partitioner:
    def choose(
        topic: str, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        return partition

    return choose


def sizes(core: Core, partition: int = 0) -> list[int]:
    """Return the record counts of the closed batches of a partition."""
    return [batch.record_count for batch in core.queue(partition).closed]


# ---- order and batches


def test_records_of_a_partition_stand_in_the_order_of_the_calls() -> None:
    core = Core(batch_size=200)
    values = [b"%d" % index for index in range(100)]
    for value in values:
        core.put(value)
    assert core.values() == values


def test_records_share_the_open_batch_of_their_partition() -> None:
    core = Core(partitions=2)
    for partition in (0, 1, 0, 1):
        core.put(partition=partition)
    for partition in (0, 1):
        batch = core.queue(partition).open
        assert batch is not None
        assert (batch.topic, batch.partition, batch.record_count) == (TOPIC, partition, 2)


def test_a_batch_is_created_when_its_first_record_comes() -> None:
    core = Core()
    core.now = 5.0
    core.put()
    core.now = 9.0
    core.put()
    assert core.take().created_at == 5.0


def test_a_batch_that_is_full_to_the_byte_is_closed_at_once() -> None:
    core = Core(batch_size=BATCH_HEADER_SIZE + 2 * RECORD)
    core.put()
    assert sizes(core) == []
    core.put()
    assert sizes(core) == [2]
    assert core.queue().open is None


def test_a_batch_is_closed_by_the_record_that_does_not_fit() -> None:
    core = Core(batch_size=BATCH_HEADER_SIZE + 2 * RECORD + 1)
    for _ in range(2):
        core.put()
    assert core.queue().open is not None
    core.put()
    assert sizes(core) == [2]
    assert core.values() == [b"v"] * 3


def test_no_batch_of_several_records_is_larger_than_the_batch_size() -> None:
    core = Core(batch_size=300)
    for index in range(100):
        core.put(bytes(index))
    for batch in core.queue().closed:
        assert batch.record_count == 1 or BATCH_HEADER_SIZE + batch.records_size <= 300


def test_a_record_larger_than_the_batch_size_gets_a_batch_of_its_own() -> None:
    core = Core(batch_size=200)
    for size in (1, 1000, 1):
        core.put(bytes(size))
    assert sizes(core) == [1, 1]
    assert [len(value or b"") for value in core.values()] == [1, 1000, 1]


def test_a_batch_size_of_zero_gives_each_record_a_batch() -> None:
    core = Core(batch_size=0)
    for _ in range(3):
        core.put()
    assert sizes(core) == [1, 1, 1]


def test_the_sender_hears_of_each_batch_that_is_full() -> None:
    core = Core(partitions=2, batch_size=0)
    for partition in (1, 0, 1):
        core.put(partition=partition)
    assert core.events.closed == [core.queue(1), core.queue(0), core.queue(1)]


def test_the_sender_hears_once_of_a_turn_in_which_batches_were_opened() -> None:
    core = Core(partitions=2)
    for partition in (0, 1, 0):
        core.put(partition=partition)
    assert core.events.turns == 1
    assert core.accumulator.take_touched() == [core.queue(0), core.queue(1)]
    core.put(partition=0)
    assert core.events.turns == 1


def test_the_next_turn_gets_the_queues_touched_after_the_last() -> None:
    core = Core()
    core.put()
    core.accumulator.take_touched()
    core.take()
    core.put()
    assert core.events.turns == 2
    assert core.accumulator.take_touched() == [core.queue()]
    assert core.accumulator.take_touched() == []


def test_closing_the_open_batch_moves_it_behind_the_closed_ones() -> None:
    core = Core(batch_size=0)
    core.put(b"1")
    core.queue().close_open()
    assert core.values() == [b"1"]


def test_accepted_records_are_counted() -> None:
    core = Core()
    before = core.accumulator.accepted_count
    core.put()
    core.put()
    assert core.accumulator.accepted_count == before + 2


# ---- bytes


def test_the_bytes_used_are_those_of_records_and_batch_headers() -> None:
    core = Core()
    core.put()
    core.put(b"12345678901")
    assert core.accumulator.buffer_used == BATCH_HEADER_SIZE + RECORD + RECORD + 10
    assert core.take().charged_bytes == core.accumulator.buffer_used


def test_releasing_every_batch_gives_every_byte_back() -> None:
    core = Core(partitions=3, batch_size=150)
    for index in range(60):
        core.put(bytes(index), partition=index % 3)
    for partition in range(3):
        queue = core.queue(partition)
        queue.close_open()
        for batch in queue.closed:
            core.accumulator.release(batch)
    assert core.accumulator.buffer_used == 0


def test_releasing_a_batch_twice_gives_its_bytes_back_once() -> None:
    core = Core()
    core.put()
    core.put(topic=TOPIC)
    batch = core.take()
    core.put()
    left = BATCH_HEADER_SIZE + RECORD
    core.accumulator.release(batch)
    core.accumulator.release(batch)
    assert core.accumulator.buffer_used == left


def test_the_parts_of_a_split_batch_are_charged_in_its_place() -> None:
    core = Core()
    for _ in range(4):
        core.put()
    batch = core.take()
    charged = core.accumulator.buffer_used
    children = batch.split(BATCH_HEADER_SIZE + 2 * RECORD)
    assert len(children) == 2
    core.accumulator.recharge(batch, children)
    # Not more than before: there may be no room for a second header.
    assert core.accumulator.buffer_used == charged == BATCH_HEADER_SIZE + 4 * RECORD
    for child in children:
        core.accumulator.release(child)
    assert core.accumulator.buffer_used == 0


# ---- limits


def test_a_record_is_refused_when_the_buffer_is_full() -> None:
    core = Core(buffer_memory=300)
    assert core.offer(bytes(100)) is not None
    assert core.offer(bytes(100)) is None
    assert core.values() == [bytes(100)]


def test_a_refused_record_fits_after_a_release() -> None:
    core = Core(buffer_memory=300)
    core.put(bytes(100))
    assert core.offer(bytes(100)) is None
    core.accumulator.release(core.take())
    assert core.offer(bytes(100)) is not None


@quick
@given(st.lists(st.integers(0, 300), max_size=60), st.integers(0, 500))
def test_the_buffer_never_holds_more_than_it_may(values: list[int], batch_size: int) -> None:
    core = Core(partitions=3, batch_size=batch_size, buffer_memory=1000)
    for index, size in enumerate(values):
        core.offer(bytes(size), partition=index % 3)
        assert 0 <= core.accumulator.buffer_used <= 1000


def test_the_buffer_never_holds_more_than_it_may_after_routing_either() -> None:
    core = Core(partitions=0, buffer_memory=4000)
    index = 0
    while core.offer(b"", partition=index) is not None:
        index += 1
    core.route(index)
    assert core.accumulator.buffer_used <= 4000


def test_a_record_over_max_request_size_is_refused_with_its_size() -> None:
    core = Core(max_request_size=1000)
    with pytest.raises(RecordTooLargeError, match=r"'clicks' is 1098 bytes .* 1000 .*max_request"):
        core.put(bytes(1000))
    assert core.values() == []


def test_a_record_of_max_request_size_is_accepted() -> None:
    core = Core(max_request_size=1000)
    core.put(bytes(1000 - 98))
    with pytest.raises(RecordTooLargeError):
        core.put(bytes(1000 - 97))


def test_key_and_headers_count_against_max_request_size() -> None:
    core = Core(max_request_size=1000)
    with pytest.raises(RecordTooLargeError):
        core.put(b"", key=bytes(1000))
    with pytest.raises(RecordTooLargeError):
        core.put(b"", headers=[("h", bytes(1000))])


def test_a_record_over_the_whole_buffer_is_refused_and_does_not_wait() -> None:
    core = Core(buffer_memory=1000)
    with pytest.raises(RecordTooLargeError, match=r"1098 bytes .* 1000 .*buffer_memory"):
        core.put(bytes(1000))


def test_the_error_of_a_large_record_names_its_partition() -> None:
    core = Core(max_request_size=100)
    with pytest.raises(RecordTooLargeError) as caught:
        core.put(bytes(100), partition=0)
    assert str(caught.value.topic_partition) == "clicks-0"


def test_a_refused_name_of_a_topic_leaves_nothing_behind() -> None:
    core = Core()
    core.topics.refused.add("no way")
    with pytest.raises(InvalidTopicError):
        core.put(topic="no way")
    assert "no way" not in core.accumulator.topics_by_name


def test_a_caller_who_waited_passes_those_who_still_wait() -> None:
    core = Core()
    core.accumulator.has_blocked = core.accumulator.is_full = True
    assert core.offer() is not None
    assert core.accumulator.has_blocked


def test_others_still_wait_when_a_caller_who_waited_is_refused() -> None:
    core = Core(max_request_size=100)
    core.accumulator.has_blocked = core.accumulator.is_full = True
    with pytest.raises(RecordTooLargeError):
        core.put(bytes(100))
    assert core.accumulator.has_blocked


# ---- the partition of a record

# org.apache.kafka.common.utils.UtilsTest#testMurmur2
JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JAVA_MURMUR2.items())
def test_murmur2_matches_javas_vectors(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


@given(st.binary(max_size=40))
def test_murmur2_matches_kafka_python(key: bytes) -> None:
    assert murmur2(key) == kafka_python.partitioner.murmur2(key) % 2**32


def test_a_partition_gets_its_queue_with_its_first_record() -> None:
    core = Core(partitions=10_000)
    assert core.topic().queues == []
    core.put(partition=7_000)
    core.put(partition=7_000)
    assert [queue.partition for queue in core.topic().queues] == [7_000]
    core.set_partitions(TOPIC, 20_000)
    core.put(partition=19_999)
    assert [queue.partition for queue in core.topic().queues] == [7_000, 19_999]


@quick
@given(st.binary(max_size=20), st.integers(1, 50))
def test_a_key_goes_where_java_puts_it(key: bytes, partitions: int) -> None:
    core = Core(partitions=partitions)
    core.put(key=key)
    expected = (kafka_python.partitioner.murmur2(key) & 0x7FFFFFFF) % partitions
    assert core.values(expected) == [b"v"]


def test_an_empty_key_is_a_key() -> None:
    core = Core(partitions=100)
    for _ in range(3):
        core.put(key=b"")
    assert core.values((murmur2(b"") & 0x7FFFFFFF) % 100) == [b"v"] * 3


def test_a_key_may_go_to_a_partition_without_leader() -> None:
    core = Core(partitions=0)
    core.know(TOPIC, 4)
    core.set_partitions(TOPIC, 4, available=())
    core.put(key=b"abc")
    assert core.values(479470107 % 4) == [b"v"]


def test_an_explicit_partition_comes_before_key_and_partitioner() -> None:
    core = Core(partitions=3, partitioner=always(0))
    core.put(key=b"key", partition=2)
    assert core.values(2) == [b"v"]


def test_ignored_keys_leave_the_record_to_the_sticky_partition() -> None:
    core = Core(partitions=50, ignore_keys=True)
    for index in range(5):
        core.put(key=b"%d" % index)
    assert len(core.values(0)) == 5


def test_a_partitioner_gets_topic_key_all_and_available_partitions() -> None:
    asked: list[tuple[str, bytes | None, list[int], list[int]]] = []

    def choose(
        topic: str, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        asked.append((topic, key, list(partitions), list(available)))
        return 1

    core = Core(partitioner=choose)
    core.set_partitions(TOPIC, 3, available=(0, 2))
    core.put(key=b"key")
    core.put()
    assert asked == [(TOPIC, b"key", [0, 1, 2], [0, 2]), (TOPIC, None, [0, 1, 2], [0, 2])]
    assert core.values(1) == [b"v", b"v"]


@pytest.mark.parametrize("partition", [3, -1, 2**31 - 1])
def test_a_partition_out_of_range_is_refused_with_the_count(partition: int) -> None:
    core = Core(partitions=3)
    with pytest.raises(InvalidPartitionError, match="3 partitions") as caught:
        core.put(partition=partition)
    assert caught.value.topic_partition == (TOPIC, partition)


@pytest.mark.parametrize("partition", [3, -1])
def test_a_partitioner_that_answers_out_of_range_is_refused(partition: int) -> None:
    core = Core(partitions=3, partitioner=always(partition))
    with pytest.raises(InvalidPartitionError):
        core.put()


def breaks(
    topic: str, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
) -> int:
    raise ValueError("mine")


def test_a_partitioner_that_raises_fails_the_one_call() -> None:
    core = Core(partitioner=breaks)
    used = core.accumulator.buffer_used
    with pytest.raises(KafkaError, match="mine") as caught:
        core.put()
    assert isinstance(caught.value.__cause__, ValueError)
    assert core.accumulator.buffer_used == used
    core.put(partition=0)
    assert core.values() == [b"v"]


def test_a_partitioner_may_raise_an_error_of_kafkas() -> None:
    error = InvalidPartitionError("none will do")

    def refuse(*_: object) -> int:
        raise error

    with pytest.raises(InvalidPartitionError) as caught:
        Core(partitioner=refuse).put()
    assert caught.value is error
    assert error.__cause__ is None


# ---- the sticky partition (KIP-794)


def lengths(core: Core, partitions: int) -> list[int]:
    return [core.count(partition) for partition in range(partitions)]


def test_records_without_key_stay_on_one_partition() -> None:
    core = Core(partitions=3)
    for _ in range(10):
        core.put()
    assert lengths(core, 3) == [10, 0, 0]


def test_a_full_batch_ends_the_stay() -> None:
    core = Core(partitions=3, batch_size=BATCH_HEADER_SIZE + 2 * RECORD)
    for _ in range(5):
        core.put()
    assert lengths(core, 3) == [2, 2, 1]


def test_a_batch_that_the_next_record_does_not_fit_in_ends_the_stay() -> None:
    # The stay began in the middle of a batch, so that batch_size bytes were put before its end.
    core = Core(partitions=2, batch_size=200)
    core.put(bytes(100))  # 168 bytes with the header
    core.put(bytes(50))  # closes the batch at 168: fewer than 200 bytes, the stay goes on
    assert lengths(core, 2) == [2, 0]
    core.put(bytes(60))  # 118 + 68 = 186 bytes in the second batch, 354 since the stay began
    core.put(bytes(60))  # closes it: more than 200 bytes at the end of a batch
    assert lengths(core, 2) == [3, 1]


def test_the_stay_does_not_end_within_a_batch_before_twice_the_batch_size() -> None:
    core = Core(partitions=2, batch_size=200)
    core.put(bytes(100))  # 168
    core.put(bytes(50))  # a second batch: 118, 286 in all
    core.put(bytes(20))  # 145 in it, 313 in all: over batch_size, but not at the end of a batch
    core.put(bytes(20))
    assert lengths(core, 2) == [4, 0]


def test_the_stay_ends_at_twice_the_batch_size_whatever_the_batches() -> None:
    # Batches that the sender takes half full never end by being full.
    core = Core(partitions=2, batch_size=200)
    for _ in range(2):
        core.put(bytes(80))  # 148 each in a batch of its own
        core.take()
    assert lengths(core, 2) == [0, 0]
    core.put(bytes(80))  # 444 in all: at least twice 200
    core.put(b"elsewhere")
    assert core.values(0) == [bytes(80)]
    assert core.values(1) == [b"elsewhere"]


def test_records_with_a_key_do_not_shorten_the_stay() -> None:
    core = Core(partitions=2, batch_size=200)
    for _ in range(20):
        core.put(bytes(50), partition=0)
    core.put(b"no key")
    core.put(b"no key")
    assert core.values(1) == []
    assert core.values(0)[-2:] == [b"no key", b"no key"]


@pytest.mark.parametrize("waits", [False, True])
def test_a_record_with_a_key_stays_when_the_sticky_partition_changes(waits: bool) -> None:
    key = b"c"
    assert murmur2(key) & 1 == 0
    core = Core(partitions=0 if waits else 2, batch_size=200)
    core.put(bytes(100))  # 168 bytes with the header
    core.put(bytes(50))
    core.put(bytes(20))  # 313 in all: the next batch without key goes to the other partition
    core.put(bytes(60), key=key)
    if waits:
        core.route(2)
    assert core.values(0)[-1] == bytes(60)
    assert core.values(1) == []


def test_the_stay_ends_when_the_partition_loses_its_leader() -> None:
    core = Core(partitions=2)
    core.put(b"first")
    topic = core.topic()
    topic.set_partitions(2, (1,))
    core.put(b"second")
    assert (core.values(0), core.values(1)) == ([b"first"], [b"second"])


def test_the_stay_goes_on_when_another_partition_loses_its_leader() -> None:
    core = Core(partitions=2)
    core.put(b"first")
    topic = core.topic()
    topic.set_partitions(2, (0,))
    core.put(b"second")
    assert core.values(0) == [b"first", b"second"]


# ---- topics that are not known yet


def unknown(
    *,
    buffer_memory: int = 1 << 20,
    batch_size: int = 1 << 14,
    partitioner: Partitioner | None = None,
) -> Core:
    return Core(
        partitions=0, buffer_memory=buffer_memory, batch_size=batch_size, partitioner=partitioner
    )


def test_the_first_record_of_an_unknown_topic_asks_for_it() -> None:
    core = unknown()
    core.put()
    core.put()
    (waiting,) = core.topics.needed
    assert waiting.topic is core.topic()
    batch = waiting.batch
    assert (batch.topic, batch.partition, batch.created_at) == (TOPIC, -1, 100.0)
    assert not core.topic().is_known


def test_waiting_records_are_routed_in_the_order_of_the_calls() -> None:
    core = unknown()
    values = [b"%d" % index for index in range(30)]
    for index, value in enumerate(values):
        core.put(value, partition=index % 3)
    core.route(3)
    assert [core.values(partition) for partition in range(3)] == [
        values[0::3],
        values[1::3],
        values[2::3],
    ]


def test_records_that_come_after_the_routing_stand_behind_those_that_waited() -> None:
    core = unknown()
    core.put(b"waiting")
    core.route()
    core.put(b"later")
    assert core.values() == [b"waiting", b"later"]


def test_waiting_records_keep_key_headers_and_timestamp() -> None:
    core = unknown()
    core.put(None, key=b"k", headers=[("h", None)], timestamp_ms=5)
    (waiting,) = core.topics.needed
    assert waiting.left() == [(b"k", None, None, [("h", None)], 5)]
    core.route()
    assert records_of(core.take()) == [(b"k", None, (("h", None),), 5)]


def test_the_deliveries_of_waiting_records_get_their_offsets() -> None:
    core = unknown()
    deliveries = [core.put(partition=partition) for partition in (0, 1, 0)]
    core.route(2)
    core.take(0).complete(10)
    core.take(1).complete(20)
    found = [(d.result().partition, d.result().offset) for d in deliveries]
    assert found == [(0, 10), (1, 20), (0, 11)]


def test_who_waits_for_a_waiting_record_waits_for_its_batch_after_the_routing() -> None:
    core = unknown()
    notified: list[str] = []
    core.put(partition=0, on_delivery=append_to(notified, "first"))
    delivery = core.put(partition=1)
    delivery.add_done_callback(append_to(notified, "second"))
    core.route(2)
    for partition in (0, 1):
        batch = core.take(partition)
        assert batch.waiter_count == 1
        batch.complete(0)
        batch.wake(True)
    assert notified == ["first", "second"]


def test_who_waits_is_woken_when_the_batch_is_done_while_it_is_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With acks=0 a full batch is handed to the socket, and done, at once.
    core = unknown(batch_size=100)

    def send_at_once(queue: CorePartitionQueue) -> None:
        batch = queue.closed.popleft()
        batch.complete(-1)
        batch.wake(False)

    monkeypatch.setattr(core.events, "batch_closed", send_at_once)
    notified: list[int] = []
    for index in range(3):
        core.put(bytes(60), on_delivery=append_to(notified, index))
    core.route()
    core.manual.run_once()
    assert notified == [0, 1, 2]


def test_waiting_records_count_against_the_buffer() -> None:
    core = unknown(buffer_memory=1000)
    core.put(bytes(400))
    assert core.accumulator.buffer_used >= 400
    assert core.offer(bytes(700)) is None


def test_the_bytes_of_routed_records_are_given_back_with_their_batches() -> None:
    core = unknown(batch_size=100)
    for _ in range(20):
        core.put(bytes(30))
    core.route()
    queue = core.queue()
    queue.close_open()
    for batch in queue.closed:
        core.accumulator.release(batch)
    assert core.accumulator.buffer_used == 0


def test_a_waiting_record_is_counted_once() -> None:
    core = unknown()
    core.put()
    core.route()
    assert core.accumulator.accepted_count == 1


def test_a_waiting_record_for_a_partition_that_is_not_there_fails_alone() -> None:
    core = unknown()
    notified: list[KafkaError | None] = []
    bad = core.put(partition=5, on_delivery=lambda _, error: notified.append(error))
    good = core.put(partition=0)
    core.set_partitions(TOPIC, 1)
    _, ((failed, _),) = core.accumulator.route(core.topic(), NO_LIMIT)
    failed.wake(True)
    assert isinstance(bad.exception(), InvalidPartitionError)
    assert [type(error) for error in notified] == [InvalidPartitionError]
    assert not good.done()
    assert core.values() == [b"v"]


def test_a_waiting_record_whose_partitioner_raises_fails_alone() -> None:
    core = unknown(partitioner=breaks)
    bad, good = core.put(), core.put(partition=0)
    core.set_partitions(TOPIC, 1)
    core.accumulator.route(core.topic(), NO_LIMIT)
    assert "mine" in str(bad.exception())
    core.accumulator.release(core.take())
    assert core.accumulator.buffer_used == 0
    assert not good.done()


def test_records_that_came_at_about_one_time_wait_together() -> None:
    core = unknown()
    for now in (100.0, 100.05, 100.2, 100.25):
        core.now = now
        core.put()
    assert [*core.topic().waiting] == core.topics.needed
    assert [waiting.batch.created_at for waiting in core.topics.needed] == [100.0, 100.2]
    assert [waiting.count for waiting in core.topics.needed] == [2, 2]


def waiting_twice() -> tuple[Core, list[Delivery]]:
    """Have two records wait for their topic that did not come together."""
    core = unknown()
    early = core.put()
    core.now += 1
    return core, [early, core.put()]


def give_up(core: Core, waiting: WaitingRecords) -> None:
    core.accumulator.fail_waiting(waiting, KafkaTimeoutError())
    waiting.batch.wake(False)


def test_records_that_came_together_fail_together_and_no_later_ones() -> None:
    core, (early, late) = waiting_twice()
    give_up(core, core.topic().waiting[0])
    assert isinstance(early.exception(), KafkaTimeoutError)
    assert not late.done()
    assert core.topic().waiting_count == 1
    core.route()
    assert core.values() == [b"v"]


def test_failing_all_that_waits_gives_every_byte_back() -> None:
    core, deliveries = waiting_twice()
    for waiting in [*core.topic().waiting]:
        give_up(core, waiting)
    assert core.accumulator.buffer_used == 0
    assert all(delivery.done() for delivery in deliveries)
    assert core.topic().waiting_count == 0


def test_records_that_fail_together_notify_each_of_their_waiters() -> None:
    core = unknown()
    notified: list[int] = []
    for index in range(3):
        core.put(on_delivery=append_to(notified, index))
    give_up(core, core.topic().waiting[0])
    core.manual.run_once()
    assert notified == [0, 1, 2]


def test_the_record_after_failed_ones_waits_and_asks_again() -> None:
    core = unknown()
    core.put()
    give_up(core, core.topic().waiting[0])
    core.put()
    assert len(core.topics.needed) == 2


def partition_by(order: list[int | BaseException]) -> Partitioner:
    """Return a partitioner that gives, or raises, one after the other."""
    answers = iter(order)

    def choose(*_: object) -> int:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return choose


class Escape(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), GeneratorExit(), Escape(), ValueError("mine")], ids=repr
)
def test_whatever_a_partitioner_raises_for_one_waiting_record_loses_none_of_the_others(
    error: BaseException,
) -> None:
    core = unknown(partitioner=partition_by([0, error, 0]))
    deliveries = [core.put(b"%d" % index) for index in range(3)]
    core.set_partitions(TOPIC, 1)
    _, ((failed, _),) = core.accumulator.route(core.topic(), NO_LIMIT)
    assert core.values() == [b"0", b"2"]
    assert deliveries[1].exception() is not None
    assert failed.error is not None
    assert [delivery.done() for delivery in deliveries] == [False, True, False]
    core.manual.run_once()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_while_records_are_routed_passes_once_all_are(
    kind: type[BaseException],
) -> None:
    core = unknown(partitioner=partition_by([0, kind(), 0]))
    deliveries = [core.put(b"%d" % index) for index in range(3)]
    core.set_partitions(TOPIC, 1)
    core.accumulator.route(core.topic(), NO_LIMIT)
    assert core.values() == [b"0", b"2"]
    assert isinstance(deliveries[1].exception(), KafkaError)
    assert core.topic().waiting_count == 0
    with pytest.raises(kind):
        core.manual.run_once()


def test_records_that_fail_while_they_are_routed_are_counted_once_and_give_their_bytes_back() -> (
    None
):
    core = unknown(partitioner=partition_by([0, ValueError(), 0]))
    for _ in range(3):
        core.put()
    core.set_partitions(TOPIC, 1)
    core.accumulator.route(core.topic(), NO_LIMIT)
    assert core.accumulator.accepted_count == 3
    core.accumulator.release(core.take())
    assert core.accumulator.buffer_used == 0


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Escape])
def test_an_interrupt_while_a_topic_is_asked_for_leaves_nothing_behind(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    core = unknown()

    def interrupts(waiting: WaitingRecords) -> None:
        raise kind

    with monkeypatch.context() as patch:
        patch.setattr(core.topics, "metadata_needed", interrupts)
        with pytest.raises(kind):
            core.put(b"not accepted")
    assert core.accumulator.buffer_used == 0
    assert core.topic().waiting_count == 0
    core.put(b"accepted")
    assert len(core.topics.needed) == 1
    core.route()
    assert core.values() == [b"accepted"]


def test_an_interrupt_while_no_record_was_routed_yet_leaves_the_topic_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = unknown()
    core.put(b"first")
    core.now += 1

    def interrupts(waiting: WaitingRecords) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(core.topics, "metadata_needed", interrupts)
        with pytest.raises(KeyboardInterrupt):
            core.put(b"not accepted")
    core.set_partitions(TOPIC, 1)
    core.put(b"second")
    core.route()
    assert core.values() == [b"first", b"second"]


def test_no_more_records_are_routed_at_once_than_is_asked_for() -> None:
    core = unknown()
    values = [b"%d" % index for index in range(10)]
    for value in values:
        core.put(value)
    core.set_partitions(TOPIC, 1)
    for routed in (4, 8, 10):
        core.accumulator.route(core.topic(), 4)
        assert (core.count(), core.topic().waiting_count) == (routed, 10 - routed)
    assert core.values() == values


def test_records_that_come_between_two_routings_stand_behind_those_that_wait() -> None:
    core = unknown()
    for value in (b"1", b"2", b"3"):
        core.put(value)
    core.route(limit=2)
    core.put(b"4")
    assert core.topic().waiting_count == 2
    core.route()
    core.put(b"5")
    assert core.values() == [b"1", b"2", b"3", b"4", b"5"]


def test_records_that_came_together_are_over_when_the_last_of_them_is_routed() -> None:
    core, _ = waiting_twice()
    core.put()
    first, second = core.topic().waiting
    core.set_partitions(TOPIC, 1)
    assert core.accumulator.route(core.topic(), 1) == ([first], [])
    assert core.accumulator.route(core.topic(), 1) == ([], [])
    assert core.accumulator.route(core.topic(), 1) == ([second], [])
    assert core.accumulator.route(core.topic(), 1) == ([], [])
    assert not core.topic().waiting


def test_of_records_that_came_together_only_those_that_still_wait_fail() -> None:
    core = unknown()
    notified: list[int] = []
    deliveries = [core.put(on_delivery=append_to(notified, index)) for index in range(4)]
    (waiting,) = core.topic().waiting
    core.route(limit=2)
    assert waiting.count == 2
    assert len(waiting.left()) == 2
    give_up(core, waiting)
    core.manual.run_once()
    assert notified == [2, 3]
    assert waiting.batch.record_count == 2
    batch = core.take()
    batch.complete(5)
    batch.wake(False)
    core.manual.run_once()
    assert notified == [2, 3, 0, 1]
    assert [delivery.result().offset for delivery in deliveries[:2]] == [5, 6]


def test_a_partitioner_that_sends_while_records_are_routed_has_them_stand_behind() -> None:
    sent: list[Delivery] = []

    def sends(
        topic: str, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        if len(sent) < 2:
            sent.append(core.put(b"from within", partition=0))
        return 0

    core = unknown(partitioner=sends)
    for value in (b"1", b"2"):
        core.put(value)
    core.route()
    assert core.values() == [b"1", b"2", b"from within", b"from within"]


def test_records_of_a_topic_whose_partitions_are_not_known_are_not_routed() -> None:
    core = unknown()
    core.put(key=b"key")
    assert core.accumulator.route(core.topic(), NO_LIMIT) == ([], [])
    assert core.topic().waiting_count == 1


def test_the_work_to_fail_those_that_came_together_does_not_grow_with_those_that_wait() -> None:
    core = unknown(buffer_memory=1 << 28)
    for _ in range(200):
        core.now += 1
        core.put()
    core.now += 1
    for _ in range(100_000):
        core.put()
    groups = [*core.topic().waiting]
    begun = time.process_time()
    for waiting in groups[:-1]:
        core.accumulator.fail_waiting(waiting, KafkaTimeoutError())
    took = time.process_time() - begun
    assert core.topic().waiting_count == 100_000
    # A walk over all of them takes some milliseconds, 200 times.
    assert took < 0.1
    core.accumulator.fail_waiting(groups[-1], KafkaTimeoutError())


def test_a_stream_of_topic_names_is_bounded_by_the_buffer() -> None:
    core = unknown(buffer_memory=1 << 20)
    count = 0
    while core.offer(b"", topic=f"name-{count}") is not None:
        count += 1
    assert count < 1_000
    for waiting in core.topics.needed:
        core.accumulator.fail_waiting(waiting, KafkaTimeoutError())
    assert core.accumulator.buffer_used == 0


def test_a_small_buffer_takes_a_record_of_an_unknown_topic() -> None:
    core = unknown(buffer_memory=200)
    assert core.offer() is not None
    assert core.accumulator.buffer_used <= 200
    core.route()
    core.accumulator.release(core.take())
    assert core.accumulator.buffer_used == 0


def test_a_partition_that_is_not_there_has_no_queue() -> None:
    core = Core(partitions=2)
    core.put(partition=0)
    found = [core.topic().queue(partition) for partition in (-1, 0, 1, 2, 2**31 - 1)]
    assert found == [None, core.queue(0), None, None, None]


def test_a_forgotten_topic_is_unknown_again() -> None:
    core = Core()
    core.accumulator.forget_topic(TOPIC)
    core.put()
    assert len(core.topics.needed) == 1


# ---- the share of the buffer that one broker's records may take


def with_shares(*, buffer_memory: int = 100_000, partitions: int = 2) -> Core:
    """Have each partition led by a broker of its own; there are several."""
    core = Core(partitions=partitions, buffer_memory=buffer_memory)
    core.accumulator.has_brokers = True
    return core


def fill(core: Core, partition: int | None = None, *, size: int = 1_000) -> int:
    """Send to a partition until the buffer is full; return how many records were accepted."""
    count = 0
    while core.offer(bytes(size), partition=partition) is not None:
        count += 1
    return count


def test_with_one_broker_its_records_may_take_the_whole_buffer() -> None:
    core = Core(partitions=2, buffer_memory=100_000)
    fill(core, 0)
    assert core.accumulator.buffer_used > 98_000


def test_a_silent_broker_leaves_a_quarter_of_the_buffer_to_the_others() -> None:
    core = with_shares()
    fill(core, 0)
    assert core.accumulator.buffer_used == pytest.approx(75_000, abs=2_000)
    assert core.accumulator.refused_share is core.queue(0).share
    assert core.offer(bytes(1_000), partition=1) is not None


def test_two_silent_brokers_leave_a_seventh_of_the_buffer_to_the_others() -> None:
    core = with_shares(partitions=3)
    for _ in range(100):
        for partition in (0, 1):
            core.offer(bytes(500), partition=partition)
    assert core.accumulator.buffer_used == pytest.approx(100_000 * 6 / 7, abs=2_000)
    assert core.offer(bytes(500), partition=2) is not None


def test_a_share_counts_what_its_records_hold_until_it_is_released() -> None:
    core = with_shares()
    core.put(bytes(1_000), partition=0)
    core.put(bytes(1_000), partition=1)
    held = [core.queue(partition).share.held_bytes for partition in (0, 1)]
    assert held[0] == held[1] == core.accumulator.buffer_used / 2
    core.accumulator.release(core.take(0))
    assert [core.queue(partition).share.held_bytes for partition in (0, 1)] == [0, held[1]]


def test_the_parts_of_a_split_batch_count_for_its_share() -> None:
    core = with_shares()
    for _ in range(4):
        core.put(bytes(100), partition=0)
    batch = core.take(0)
    held = core.queue(0).share.held_bytes
    parts = batch.split(300)
    core.accumulator.recharge(batch, parts)
    assert core.queue(0).share.held_bytes == held
    for part in parts:
        core.accumulator.release(part)
    assert core.queue(0).share.held_bytes == 0


def test_a_batch_counts_for_the_broker_that_it_was_filled_for() -> None:
    core = with_shares()
    core.put(bytes(1_000), partition=0)
    before, core.queue(0).share = core.queue(0).share, core.queue(1).share
    batch = core.take(0)
    assert before.held_bytes == batch.charged_bytes
    core.accumulator.release(batch)
    assert before.held_bytes == core.queue(0).share.held_bytes == 0


def test_records_of_unknown_topics_leave_a_quarter_of_the_buffer_to_the_others() -> None:
    core = Core(partitions=1, buffer_memory=100_000)
    core.put()
    while core.offer(bytes(1_000), topic="unknown") is not None:
        pass
    assert core.accumulator.refused_share is core.accumulator.unrouted
    assert core.accumulator.buffer_used == pytest.approx(75_000, abs=4_000)
    assert core.offer(bytes(1_000)) is not None


def test_records_of_unknown_topics_may_take_the_whole_buffer_while_no_topic_is_known() -> None:
    core = unknown(buffer_memory=100_000)
    while core.offer(bytes(1_000)) is not None:
        pass
    assert core.accumulator.buffer_used > 95_000
    core.route()
    assert core.accumulator.unrouted.held_bytes == 0


def test_records_that_wait_and_fail_hold_nothing_of_a_share() -> None:
    core = unknown()
    core.put()
    assert core.accumulator.unrouted.held_bytes > 0
    give_up(core, core.topic().waiting[0])
    assert core.accumulator.unrouted.held_bytes == 0


def test_a_record_without_key_goes_to_a_partition_whose_broker_has_buffer_space() -> None:
    core = with_shares()
    fill(core, 0)
    assert core.topic().queue(1) is None
    assert core.offer(bytes(1_000)) is not None
    assert core.count(1) == 1


def test_a_record_without_key_waits_for_any_broker_when_none_has_buffer_space() -> None:
    core = with_shares()
    fill(core)
    assert core.accumulator.refused_share is core.topic().anywhere
    assert core.accumulator.refused_line is core.topic()


def test_a_record_without_key_waits_for_the_buffer_when_that_is_full() -> None:
    core = with_shares()
    assert core.offer(bytes(90_000)) is not None
    assert core.offer(bytes(90_000)) is None
    assert core.accumulator.refused_share is None


def test_a_stay_that_ends_within_a_call_takes_its_record_to_no_full_share() -> None:
    core = Core(partitions=2, buffer_memory=100_000, batch_size=2_000)
    core.accumulator.has_brokers = True
    core.put(bytes(1_000))  # 1 068 bytes with the header
    fill(core, 1)
    core.take(0)
    core.put(bytes(1_000))  # 2 136 since the stay on partition 0 began, but the batch is open
    held = core.queue(1).share.held_bytes
    core.put(bytes(1_000))  # closes it, so the stay is over; of partition 1 the share is full
    assert core.queue(1).share.held_bytes == held
    assert sizes(core, 0) == [1]
    assert core.count(0) == 2


def test_a_record_for_a_partition_waits_for_the_share_of_its_broker() -> None:
    core = with_shares()
    fill(core, 0)
    assert core.accumulator.refused_line is core.queue(0)
    assert core.accumulator.share_of(core.queue(0)) is core.queue(0).share


def test_the_line_of_a_topic_that_is_not_known_waits_for_the_share_of_all_such() -> None:
    core = unknown()
    core.put()
    assert core.accumulator.share_of(core.topic()) is core.accumulator.unrouted
    core.route()
    assert core.accumulator.share_of(core.topic()) is core.topic().anywhere


@pytest.mark.parametrize("line", ["clicks", 3, object()])
def test_what_is_no_line_has_no_share(line: object) -> None:
    with pytest.raises(TypeError):
        Core().accumulator.share_of(line)


def test_looking_for_buffer_space_makes_no_queue_for_every_partition_of_a_large_topic() -> None:
    core = with_shares(partitions=5_000)
    core.put(partition=0)
    shared = core.queue(0).share
    made: list[int] = []
    new_queue = core.topics.new_queue

    def on_one_broker(topic: CoreTopic, partition: int) -> CorePartitionQueue:
        made.append(partition)
        queue = new_queue(topic, partition)
        queue.share = shared
        return queue

    core.topics.new_queue = on_one_broker  # type: ignore[method-assign]
    fill(core)
    assert len(made) < 100


# ---- the limit of a partition's batches


def test_a_queue_takes_batches_of_the_batch_size_unless_it_was_made_with_a_limit() -> None:
    core = Core(batch_size=500)
    core.put()
    assert core.queue().batch_limit == 500
    core.topics.batch_limit = 300
    core.put(topic="other", partition=None)
    core.know("other", 1)
    core.route(name="other")
    assert core.queue(name="other").batch_limit == 300


def test_a_batch_is_closed_at_the_limit_of_its_queue() -> None:
    core = Core(batch_size=10_000)
    core.topics.batch_limit = BATCH_HEADER_SIZE + 2 * RECORD
    for _ in range(5):
        core.put()
    assert sizes(core) == [2, 2]


def test_a_record_larger_than_the_limit_of_its_queue_gets_a_batch_of_its_own() -> None:
    core = Core(batch_size=10_000)
    core.topics.batch_limit = 200
    for size in (1, 1000, 1):
        core.put(bytes(size))
    assert sizes(core) == [1, 1]


def test_a_limit_that_is_lowered_holds_for_the_open_batch_too() -> None:
    core = Core(batch_size=10_000)
    for _ in range(5):
        core.put()
    core.queue().batch_limit = BATCH_HEADER_SIZE + 2 * RECORD
    core.put()
    assert sizes(core) == [5]
    core.put()
    assert sizes(core) == [5, 2]


def test_a_limit_that_is_raised_lets_the_open_batch_grow() -> None:
    core = Core(batch_size=10_000)
    core.topics.batch_limit = BATCH_HEADER_SIZE + 2 * RECORD
    core.put()
    core.queue().batch_limit = BATCH_HEADER_SIZE + 4 * RECORD
    for _ in range(3):
        core.put()
    assert sizes(core) == [4]


def test_each_queue_has_a_limit_of_its_own() -> None:
    core = Core(partitions=2, batch_size=10_000)
    for partition in (0, 1):
        core.put(partition=partition)
    core.queue(1).batch_limit = BATCH_HEADER_SIZE + 2 * RECORD
    for partition in (0, 1, 0, 1):
        core.put(partition=partition)
    assert (sizes(core, 0), sizes(core, 1)) == ([], [2])


def test_full_batches_under_a_lower_limit_have_their_own_records() -> None:
    # They come in no block of the pool, which is as large as the batch size.
    core = Core(batch_size=65_536)
    core.topics.batch_limit = 20_000
    values = [b"%05d" % index * 20 for index in range(2_000)]
    for value in values:
        core.put(value)
    assert core.values() == values
    assert all(BATCH_HEADER_SIZE + batch.records_size <= 20_000 for batch in core.queue().closed)


def test_an_open_batch_is_announced_each_time_it_has_grown_by_128_kib() -> None:
    core = Core(batch_size=500_000)
    for _ in range(9):
        core.put(b"x" * 50_000)
    assert [size // 50_000 for size in core.events.grown] == [3, 6, 8]
    assert core.events.closed == []
    core.put(b"x" * 50_000)
    assert len(core.events.closed) == 1
    core.put(b"x" * 140_000)
    assert core.events.grown[3:] == [core.queue().open.records_size]  # type: ignore[union-attr]
