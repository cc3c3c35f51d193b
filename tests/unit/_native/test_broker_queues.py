"""Requests made of batches, and batches completed by responses, when all goes well.

What native code writes is decoded by the generic codec; what it reads was encoded by it. A response
that is no plain success must change nothing, whatever it says.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioproducer._native.produce_response import SentRequest
from aioproducer._native.record_batch import BATCH_HEADER_SIZE, Delivery
from aioproducer.network.metadata import NO_LEADER, PartitionLeader
from aioproducer.protocol.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from aioproducer.testing.batch import BatchHeader, records_of
from tests.support.core import TOPIC
from tests.support.native_sender import TOPIC_ID, NativeSender

NATIVE = range(9, 14)


def one_in_flight(sender: NativeSender, partition: int = 0) -> Delivery:
    """Have a record of one partition be in flight."""
    delivery = sender.core.put(partition=partition)
    sender.loop.run_once()
    return delivery


# ---- what leaves


@pytest.mark.parametrize("version", NATIVE)
def test_a_request_says_what_the_generic_codec_would_say(version: int) -> None:
    sender = NativeSender(version=version)
    sender.know("views", 2, bytes(range(1, 17)))
    sender.core.put(b"a" * 5_000, partition=0)
    sender.core.put(b"b", partition=2, key=b"k", headers=[("h", b"v")])
    sender.core.put(b"c", topic="views", partition=1)
    sender.core.put(b"d" * 3_000, partition=0)
    sender.loop.run_once()
    request = sender.request()
    assert (request.transactional_id, request.acks, request.timeout_ms) == (None, -1, 30_000)
    if version >= 13:
        assert [topic.topic_id for topic in request.topic_data] == [TOPIC_ID, bytes(range(1, 17))]
    else:
        assert [topic.name for topic in request.topic_data] == [TOPIC, "views"]
    found = {}
    for topic, name in zip(request.topic_data, (TOPIC, "views"), strict=True):
        for data in topic.partition_data:
            assert data.records is not None
            batch = b"".join(data.records)
            header = BatchHeader.read(memoryview(batch))
            assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 0, 0)
            found[name, data.index] = [
                record.value
                for record in records_of(
                    header,
                    memoryview(batch)[BATCH_HEADER_SIZE:],
                    topic=name,
                    partition=data.index,
                )
            ]
    assert found == {
        (TOPIC, 0): [b"a" * 5_000, b"d" * 3_000],
        (TOPIC, 2): [b"b"],
        ("views", 1): [b"c"],
    }
    assert "send" not in sender.asked


@pytest.mark.parametrize("version", [7, 8])
def test_a_broker_of_old_gets_its_request_from_python(version: int) -> None:
    sender = NativeSender(version=version)
    one_in_flight(sender)
    assert sender.asked.count("send") == 1
    assert sender.wire.sent == []


def test_a_topic_without_id_is_sent_by_python_to_a_broker_that_takes_ids() -> None:
    sender = NativeSender()
    sender.core.topic().topic_id = bytes(16)
    one_in_flight(sender)
    assert "send" in sender.asked


@pytest.mark.parametrize("acks", [0])
def test_without_acks_python_sends(acks: int) -> None:
    sender = NativeSender(acks=acks, enable_idempotence=False)
    one_in_flight(sender)
    assert sender.asked[-2:] == ["send", "sent_without_response"]


def test_what_is_accepted_in_one_turn_leaves_at_its_end_in_one_request() -> None:
    sender = NativeSender()
    for partition in (0, 1, 0, 2):
        sender.core.put(partition=partition)
    assert sender.wire.sent == []
    sender.loop.run_once()
    assert len(sender.wire.sent) == 1
    assert [batch.record_count for batch in sender.last().batches] == [2, 1, 1]


def test_a_partition_that_nothing_was_stored_of_has_one_batch_in_flight() -> None:
    sender = NativeSender()
    one_in_flight(sender)
    one_in_flight(sender)
    assert len(sender.wire.pending) == 1
    sender.answer(sender.last())
    assert [batch.base_sequence for batch in sender.last().batches] == [1]


def test_a_partition_without_leader_asks_for_one() -> None:
    sender = NativeSender()
    queue = sender.core.queue()
    queue.leader = PartitionLeader(NO_LEADER, -1)
    one_in_flight(sender)
    assert "lacks_leader" in sender.asked
    assert sender.wire.sent == []


def test_what_a_woken_task_sends_leaves_in_the_same_callback() -> None:
    sender = NativeSender()
    sender.prove(0)
    first = sender.core.put(partition=0)
    first.add_done_callback(lambda _: sender.core.put(b"next", partition=0))
    sender.loop.run_once()
    sender.answer(sender.last())
    assert [batch.record_count for batch in sender.last().batches] == [1]


def test_what_a_loop_in_a_woken_task_sends_leaves_with_that_loop() -> None:
    sender = NativeSender()
    sender.prove(0)
    left: list[list[int]] = []

    def nest(_: Delivery) -> None:
        sender.core.put(b"nested", partition=1)
        sender.loop.advance(0.001)
        left.append([batch.partition for batch in sender.last().batches])

    sender.core.put(partition=0).add_done_callback(nest)
    sender.loop.run_once()
    sender.answer(sender.last())
    assert left == [[1]]


def test_a_response_that_comes_in_a_nested_loop_does_not_hold_up_what_was_sent_there() -> None:
    sender = NativeSender()
    sender.prove(0)
    left: list[list[int]] = []

    def nest(_: Delivery) -> None:
        sender.core.put(b"nested", partition=2)
        sender.answer(sender.last())
        sender.loop.advance(0.001)
        left.append([batch.partition for batch in sender.last().batches])

    sender.core.put(partition=0).add_done_callback(nest)
    sender.loop.run_once()
    # Full, so it leaves while the other request is in flight.
    sender.core.put(bytes(16_384), partition=1)
    first, _ = sender.wire.pending
    sender.answer(cast("SentRequest", first))
    assert left == [[2]]


def test_a_partition_that_moves_lingers_no_longer_at_its_former_leader() -> None:
    sender = NativeSender()
    sender.prove(0)
    one_in_flight(sender)
    sender.core.put(partition=1)
    sender.loop.run_once()
    former = sender.broker_queues.of(1)
    assert former.lingering_count == 1
    former.withdraw(sender.core.queue(1))
    assert former.lingering_count == 0


def test_without_acks_a_batch_keeps_no_request() -> None:
    sender = NativeSender(acks=0, enable_idempotence=False)
    one_in_flight(sender)
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(one, SentRequest) for one in gc.get_objects())
        for _ in range(10):
            one_in_flight(sender)
        assert sum(isinstance(one, SentRequest) for one in gc.get_objects()) <= before + 1
    finally:
        gc.enable()


# ---- when a small batch leaves


def test_one_caller_alone_never_waits() -> None:
    sender = NativeSender()
    for _ in range(20):
        one_in_flight(sender)
        assert len(sender.wire.pending) == 1
        sender.answer(sender.last())


def test_a_small_batch_goes_with_the_response_that_is_due() -> None:
    sender = NativeSender()
    sender.prove(0, 1)
    one_in_flight(sender, 0)
    one_in_flight(sender, 1)
    assert len(sender.wire.pending) == 1
    sender.answer(sender.last())
    assert [batch.partition for batch in sender.last().batches] == [1]


def test_a_small_batch_waits_no_longer_than_half_a_response_time() -> None:
    sender = NativeSender()
    sender.prove(0, 1)
    one_in_flight(sender, 0)
    one_in_flight(sender, 1)
    sender.loop.advance(0.2)
    assert len(sender.wire.pending) == 2


def ten_callers() -> NativeSender:
    """Have ten callers wait for a record each, time and again."""
    sender = NativeSender(partitions=1)
    sender.prove(0)
    for _ in range(30):
        for _ in range(10):
            sender.core.put(partition=0)
        sender.loop.run_until_quiet()
        assert [batch.record_count for batch in sender.last().batches] == [10]
        sender.answer(sender.last())
    return sender


def test_callers_who_come_back_make_one_request() -> None:
    sender = ten_callers()
    # They come one by one, a turn of the loop each; nine of ten count for all.
    for number in range(9):
        assert not sender.wire.pending, number
        sender.core.put(partition=0)
        sender.loop.run_once()
    assert [batch.record_count for batch in sender.last().batches] == [9]


def test_two_quiet_turns_say_that_nobody_is_coming() -> None:
    sender = ten_callers()
    sender.core.put(partition=0)
    sender.loop.run_once()
    assert not sender.wire.pending
    sender.loop.run_until_quiet()
    assert [batch.record_count for batch in sender.last().batches] == [1]


def test_closing_lets_go_of_the_timer_of_what_is_held_back() -> None:
    sender = NativeSender()
    sender.prove(0, 1)
    one_in_flight(sender, 0)
    one_in_flight(sender, 1)
    assert sender.loop.timers
    sender.broker_queues.close()
    assert not sender.loop.timers


# ---- pauses


def test_nothing_is_sent_in_a_pause_and_all_at_once_after_it() -> None:
    sender = NativeSender()
    sender.broker_queues.pause_until(sender.loop.now + 0.5)
    sender.core.put(partition=0)
    sender.loop.run_until_quiet()
    sender.core.put(partition=1)
    sender.loop.run_until_quiet()
    sender.broker_queues.drain_all()
    assert sender.wire.sent == []
    sender.loop.advance(0.5)
    assert len(sender.wire.sent) == 1
    (topic,) = sender.request().topic_data
    assert [data.index for data in topic.partition_data] == [0, 1]


def test_a_pause_that_is_over_sends_at_once() -> None:
    sender = NativeSender()
    sender.broker_queues.pause_until(sender.loop.now + 0.5)
    one_in_flight(sender)
    assert sender.wire.sent == []
    sender.broker_queues.pause_until(sender.loop.now)
    assert len(sender.wire.sent) == 1


def test_a_pause_can_be_made_longer() -> None:
    sender = NativeSender()
    sender.broker_queues.pause_until(sender.loop.now + 0.5)
    one_in_flight(sender)
    sender.broker_queues.pause_until(sender.loop.now + 1)
    sender.loop.advance(0.75)
    assert sender.wire.sent == []
    sender.loop.advance(0.25)
    assert len(sender.wire.sent) == 1


# ---- a plain success


@pytest.mark.parametrize("version", NATIVE)
def test_a_plain_success_completes_every_batch_without_python(version: int) -> None:
    sender = NativeSender(version=version)
    deliveries = [sender.core.put(partition=partition) for partition in (0, 1, 2)]
    sender.loop.run_once()
    sender.answer(sender.last(), sender.success(sender.last(), base_offset=41))
    assert [delivery.result().offset for delivery in deliveries] == [41, 41, 41]
    assert sender.answers == []
    assert sender.wire.left == []
    assert sender.core.accumulator.buffer_used == 0
    assert sender.broker_queues.counters.records_delivered == 3
    assert sender.broker_queues.active == []
    assert sender.broker_queues.of(1).is_idle


def test_the_time_of_the_broker_is_taken() -> None:
    sender = NativeSender()
    delivery = one_in_flight(sender)
    response = sender.success(sender.last())
    partition = response.responses[0].partition_responses[0]
    stamped = partition._replace(log_append_time_ms=1_234)
    topic = response.responses[0]._replace(partition_responses=[stamped])
    sender.answer(sender.last(), ProduceResponse([topic]))
    assert delivery.result().timestamp_ms == 1_234
    assert delivery.result().is_log_append_time


def test_a_response_in_another_order_is_a_plain_success() -> None:
    sender = NativeSender(partitions=20)
    sender.know("views", 20, bytes(range(1, 17)))
    for partition in range(20):
        sender.core.put(partition=partition)
        sender.core.put(partition=partition, topic="views")
    sender.loop.run_once()
    response = sender.success(sender.last())
    mixed = [
        topic._replace(partition_responses=[*reversed(topic.partition_responses)])
        for topic in reversed(response.responses)
    ]
    sender.answer(sender.last(), ProduceResponse(mixed))
    assert sender.answers == []
    assert sender.broker_queues.counters.records_delivered == 40


def test_two_responses_read_at_once_are_each_taken() -> None:
    sender = NativeSender()
    sender.prove(0)
    first, second = one_in_flight(sender), one_in_flight(sender)
    # It would be held back for a moment.
    sender.broker_queues.linger_over(sender.core.queue())
    sender.broker_queues.drain_offered()
    sent = [*sender.wire.pending]
    assert len(sent) == 2
    frames = b"".join(sender.frame(one, sender.success(one)) for one in sent)
    sender.wire.data_received(frames)
    for frame in sender.wire.left:
        assert sender.wire.take_plain_success(frame)
    assert first.done()
    assert second.done()


# ---- anything else


def changed(response: ProduceResponse, **fields: object) -> ProduceResponse:
    """A response that says something else of its first partition."""
    topic = response.responses[0]
    first, *others = topic.partition_responses
    reported_partitions = [first._replace(**fields), *others]  # type: ignore[arg-type]
    return response._replace(
        responses=[topic._replace(partition_responses=reported_partitions), *response.responses[1:]]
    )


def of_a_stranger(response: ProduceResponse) -> ProduceResponse:
    stranger = TopicProduceResponse("stranger", bytes(range(2, 18)), [PartitionProduceResponse()])
    return response._replace(responses=[*response.responses, stranger])


def twice(response: ProduceResponse) -> ProduceResponse:
    topic = response.responses[0]
    reported_partitions = [topic.partition_responses[0], topic.partition_responses[0]]
    return response._replace(responses=[topic._replace(partition_responses=reported_partitions)])


def without_one(response: ProduceResponse) -> ProduceResponse:
    topic = response.responses[0]
    reported_partitions = topic.partition_responses[1:]
    return response._replace(responses=[topic._replace(partition_responses=reported_partitions)])


def hinted(response: ProduceResponse) -> ProduceResponse:
    return response._replace(node_endpoints=[NodeEndpoint(2, "host", 9)])


Change = Callable[[ProduceResponse], ProduceResponse]

CHANGES: dict[str, Change] = {
    "an error": lambda response: changed(response, error_code=6),
    "another partition": lambda response: changed(response, index=2),
    "no partition": lambda response: changed(response, index=99),
    "a negative partition": lambda response: changed(response, index=-1),
    "a refused record": lambda response: changed(
        response, record_errors=[BatchIndexAndErrorMessage(0, "no")]
    ),
    "a leader": lambda response: changed(response, current_leader=LeaderIdAndEpoch(2, 3)),
    "a throttle": lambda response: response._replace(throttle_time_ms=5),
    "a topic that is not in the request": of_a_stranger,
    "a partition twice": twice,
    "a partition left out": without_one,
    "the address of a leader": hinted,
    "nothing": lambda response: ProduceResponse(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("version", [10, 13])
def test_a_response_that_is_no_plain_success_changes_nothing(version: int, change: str) -> None:
    sender = NativeSender(version=version)
    deliveries = [sender.core.put(partition=partition) for partition in (0, 1)]
    sender.loop.run_once()
    sent = sender.last()
    before = sender.core.accumulator.buffer_used
    sender.answer(sent, CHANGES[change](sender.success(sent)))
    assert len(sender.wire.left) == 1
    assert not sender.wire.take_plain_success(sender.wire.left[0])
    assert [*sender.wire.pending] == [sent]
    assert not any(delivery.done() for delivery in deliveries)
    assert sender.core.accumulator.buffer_used == before
    # And so the true one is still taken.
    sender.answer(sent)
    assert all(delivery.done() for delivery in deliveries)


def test_a_batch_that_was_sent_before_is_pythons() -> None:
    sender = NativeSender()
    one_in_flight(sender)
    (batch,) = sender.last().batches
    batch.attempts = 2
    sender.answer(sender.last())
    assert len(sender.wire.left) == 1


def test_a_partition_that_failed_before_is_pythons() -> None:
    sender = NativeSender()
    one_in_flight(sender)
    sender.core.queue().failures_logged = True
    sender.answer(sender.last())
    assert len(sender.wire.left) == 1


def test_a_batch_that_expired_meanwhile_is_pythons() -> None:
    sender = NativeSender()
    one_in_flight(sender)
    (batch,) = sender.last().batches
    batch.complete(0)
    sender.answer(sender.last())
    assert len(sender.wire.left) == 1


def test_on_the_slow_path_every_response_is_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPRODUCER_SLOW_PATH", "1")
    sender = NativeSender()
    one_in_flight(sender)
    assert "send" in sender.asked


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), version=st.sampled_from(NATIVE))
def test_a_damaged_response_is_taken_only_if_it_still_is_a_plain_success(
    seed: int, version: int
) -> None:
    rng = random.Random(seed)
    sender = NativeSender(version=version)
    deliveries = [sender.core.put(partition=partition) for partition in range(3)]
    sender.loop.run_once()
    sent = sender.last()
    frame = bytearray(sender.frame(sent, sender.success(sent, base_offset=5))[4:])
    for _ in range(rng.randint(1, 3)):
        position = rng.randrange(4, len(frame))
        kind = rng.randrange(3)
        if kind == 0:
            frame[position] = rng.randrange(256)
        elif kind == 1:
            del frame[position:]
        else:
            frame.insert(position, rng.randrange(256))
        if len(frame) <= 4:
            break
    if not sender.wire.take_plain_success(bytes(frame)):
        assert not any(delivery.done() for delivery in deliveries)
        assert [*sender.wire.pending] == [sent]
        return
    reported_partitions = sender.decoded(bytes(frame), version)
    answers = [one for topic in reported_partitions.responses for one in topic.partition_responses]
    assert sorted(one.index for one in answers) == [0, 1, 2]
    assert {one.error_code for one in answers} == {0}
    offsets = {one.index: one.base_offset for one in answers}
    for partition, delivery in enumerate(deliveries):
        assert delivery.result().offset in (offsets[partition], -1)
