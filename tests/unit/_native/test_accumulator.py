"""The accumulator: order, bytes, limits, partitions, and records of topics not known yet."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioproducer._native.accumulator import PartitionQueue, murmur2
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
from tests.support.core import TOPIC, Core, noting

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


def test_the_next_turn_is_told_of_queues_touched_after_the_last() -> None:
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


def test_a_record_is_refused_when_the_buffer_has_no_room() -> None:
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
    core.set_partitions(TOPIC, index)
    core.accumulator.route(core.topic())
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
    core.events.refused_topics.add("no way")
    with pytest.raises(InvalidTopicError):
        core.put(topic="no way")
    assert "no way" not in core.accumulator.topic_queues


def test_a_caller_who_waited_passes_those_who_still_wait() -> None:
    core = Core()
    core.accumulator.has_blocked = True
    assert core.offer() is not None
    assert core.accumulator.has_blocked


def test_others_still_wait_when_a_caller_who_waited_is_refused() -> None:
    core = Core(max_request_size=100)
    core.accumulator.has_blocked = True
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
    return [len(core.values(partition)) for partition in range(partitions)]


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


@pytest.mark.parametrize("is_held", [False, True])
def test_a_record_with_a_key_stays_when_the_sticky_partition_changes(is_held: bool) -> None:
    key = b"c"
    assert murmur2(key) & 1 == 0
    core = Core(partitions=0 if is_held else 2, batch_size=200)
    core.put(bytes(100))  # 168 bytes with the header
    core.put(bytes(50))
    core.put(bytes(20))  # 313 in all: the next batch without key goes to the other partition
    core.put(bytes(60), key=key)
    if is_held:
        route(core, 2)
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


def route(core: Core, partitions: int) -> None:
    core.set_partitions(TOPIC, partitions)
    assert core.accumulator.route(core.topic()) == []


def test_the_first_record_of_an_unknown_topic_asks_for_it() -> None:
    core = unknown()
    core.put()
    core.put()
    ((topic, room),) = core.events.needed
    assert topic is core.topic()
    assert (room.topic, room.partition, room.created_at) == (TOPIC, -1, 100.0)
    assert not topic.is_known


def test_held_records_are_routed_in_the_order_of_the_calls() -> None:
    core = unknown()
    values = [b"%d" % index for index in range(30)]
    for index, value in enumerate(values):
        core.put(value, partition=index % 3)
    route(core, 3)
    assert [core.values(partition) for partition in range(3)] == [
        values[0::3],
        values[1::3],
        values[2::3],
    ]


def test_records_that_come_after_the_routing_stand_behind_the_held_ones() -> None:
    core = unknown()
    core.put(b"held")
    route(core, 1)
    core.put(b"later")
    assert core.values() == [b"held", b"later"]


def test_held_records_keep_key_headers_and_timestamp() -> None:
    core = unknown()
    core.put(None, key=b"k", headers=[("h", None)], timestamp_ms=5)
    assert core.accumulator.held_records(core.topic()) == [(b"k", None, None, [("h", None)], 5)]
    route(core, 1)
    assert core.take().records() == [(b"k", None, (("h", None),), 5)]


def test_the_deliveries_of_held_records_get_their_offsets() -> None:
    core = unknown()
    deliveries = [core.put(partition=partition) for partition in (0, 1, 0)]
    route(core, 2)
    core.take(0).complete(10)
    core.take(1).complete(20)
    found = [(d.result().partition, d.result().offset) for d in deliveries]
    assert found == [(0, 10), (1, 20), (0, 11)]


def test_who_waits_for_a_held_record_waits_for_its_batch_after_the_routing() -> None:
    core = unknown()
    told: list[str] = []
    core.put(partition=0, on_delivery=noting(told, "first"))
    delivery = core.put(partition=1)
    delivery.add_done_callback(noting(told, "second"))
    route(core, 2)
    for partition in (0, 1):
        batch = core.take(partition)
        assert batch.waiter_count == 1
        batch.complete(0)
        batch.wake(True)
    assert told == ["first", "second"]


def test_who_waits_is_told_when_the_batch_is_done_while_it_is_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With acks=0 a full batch is handed to the socket, and done, at once.
    core = unknown(batch_size=100)

    def send_at_once(queue: PartitionQueue) -> None:
        batch = queue.closed.popleft()
        batch.complete(-1)
        batch.wake(False)

    monkeypatch.setattr(core.events, "batch_closed", send_at_once)
    told: list[int] = []
    for index in range(3):
        core.put(bytes(60), on_delivery=noting(told, index))
    route(core, 1)
    core.manual.run_once()
    assert told == [0, 1, 2]


def test_held_records_count_against_the_buffer() -> None:
    core = unknown(buffer_memory=1000)
    core.put(bytes(400))
    assert core.accumulator.buffer_used >= 400
    assert core.offer(bytes(700)) is None


def test_the_bytes_of_routed_records_are_given_back_with_their_batches() -> None:
    core = unknown(batch_size=100)
    for _ in range(20):
        core.put(bytes(30))
    route(core, 1)
    queue = core.queue()
    queue.close_open()
    for batch in queue.closed:
        core.accumulator.release(batch)
    assert core.accumulator.buffer_used == 0


def test_a_held_record_is_counted_once() -> None:
    core = unknown()
    core.put()
    route(core, 1)
    assert core.accumulator.accepted_count == 1


def test_a_held_record_for_a_partition_that_is_not_there_fails_alone() -> None:
    core = unknown()
    told: list[KafkaError | None] = []
    bad = core.put(partition=5, on_delivery=lambda _, error: told.append(error))
    good = core.put(partition=0)
    core.set_partitions(TOPIC, 1)
    (failed,) = core.accumulator.route(core.topic())
    failed.wake(True)
    assert isinstance(bad.exception(), InvalidPartitionError)
    assert [type(error) for error in told] == [InvalidPartitionError]
    assert not good.done()
    assert core.values() == [b"v"]


def test_a_held_record_whose_partitioner_raises_fails_alone() -> None:
    core = unknown(partitioner=breaks)
    bad, good = core.put(), core.put(partition=0)
    core.set_partitions(TOPIC, 1)
    core.accumulator.route(core.topic())
    assert "mine" in str(bad.exception())
    core.accumulator.release(core.take())
    assert core.accumulator.buffer_used == 0
    assert not good.done()


def test_records_that_came_at_about_one_time_share_a_waiting_room() -> None:
    core = unknown()
    for now in (100.0, 100.05, 100.2, 100.25):
        core.now = now
        core.put()
    rooms = core.accumulator.rooms(core.topic())
    assert [room.created_at for room in rooms] == [100.0, 100.2]
    assert [room for _, room in core.events.needed] == rooms


def two_rooms() -> tuple[Core, list[Delivery]]:
    core = unknown()
    early = core.put()
    core.now += 1
    return core, [early, core.put()]


def test_failing_a_room_fails_its_records_and_no_later_ones() -> None:
    core, (early, late) = two_rooms()
    first, _ = core.accumulator.rooms(core.topic())
    core.accumulator.fail_room(core.topic(), first, KafkaTimeoutError())
    assert isinstance(early.exception(), KafkaTimeoutError)
    assert not late.done()
    assert core.topic().unrouted_count == 1
    route(core, 1)
    assert core.values() == [b"v"]


def test_failing_every_room_gives_every_byte_back() -> None:
    core, deliveries = two_rooms()
    for room in core.accumulator.rooms(core.topic()):
        core.accumulator.fail_room(core.topic(), room, KafkaTimeoutError())
    assert core.accumulator.buffer_used == 0
    assert all(delivery.done() for delivery in deliveries)


def test_a_failed_room_tells_each_of_its_waiters() -> None:
    core = unknown()
    told: list[int] = []
    for index in range(3):
        core.put(on_delivery=noting(told, index))
    (room,) = core.accumulator.rooms(core.topic())
    core.accumulator.fail_room(core.topic(), room, KafkaTimeoutError())
    room.wake(False)
    core.manual.run_once()
    assert told == [0, 1, 2]


def test_the_record_after_a_failed_room_opens_another_and_asks_again() -> None:
    core = unknown()
    core.put()
    (room,) = core.accumulator.rooms(core.topic())
    core.accumulator.fail_room(core.topic(), room, KafkaTimeoutError())
    core.put()
    assert len(core.events.needed) == 2


def test_a_forgotten_topic_is_unknown_again() -> None:
    core = Core()
    core.accumulator.forget_topic(TOPIC)
    core.put()
    assert len(core.events.needed) == 1


def test_an_open_batch_is_told_of_each_time_it_has_grown_by_128_kib() -> None:
    core = Core(batch_size=500_000)
    for _ in range(9):
        core.put(b"x" * 50_000)
    assert [size // 50_000 for size in core.events.grown] == [3, 6, 8]
    assert core.events.closed == []
    core.put(b"x" * 50_000)
    assert len(core.events.closed) == 1
    core.put(b"x" * 140_000)
    assert core.events.grown[3:] == [core.queue().open.records_size]  # type: ignore[union-attr]
