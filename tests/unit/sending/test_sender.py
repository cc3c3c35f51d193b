"""The sender as far as it goes without brokers; the rest is in the loop tests."""

from __future__ import annotations

# Some tests are about parts that only the sender has.
# pyright: reportPrivateUsage=false
import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from aioproducer._native.record_batch import Delivery
from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import KafkaTimeoutError
from aioproducer.network.metadata import NO_LEADER, BrokerAddress
from aioproducer.sending.finishing import Finished
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.sender import Sender
from aioproducer.sending.sequences import ProducerIdAndEpoch
from aioproducer.sending.waiting_callers import Waiter
from tests.support.core import TOPIC
from tests.support.topics import topic_response


class SenderHarness:
    """A sender that knows two brokers, and that never reaches any."""

    def __init__(self, *, linger_ms: int = 0, enable_idempotence: bool = False) -> None:
        config = ProducerConfig(
            bootstrap_servers="b:9092",
            buffer_memory=100_000,
            enable_idempotence=enable_idempotence,
            linger_ms=linger_ms,
        )
        self.sender = Sender(config, Background(asyncio.get_running_loop()))

    def learn(self, *leaders: int, brokers: tuple[int, ...] = (1, 2)) -> None:
        """Take a metadata response: the brokers, and who leads each partition of the topic."""
        sender = self.sender
        addresses = [BrokerAddress(node_id, "127.0.0.1", 9) for node_id in brokers]
        sender.cluster.brokers.update(addresses, source="b:9092")
        sender.accumulator.topic(TOPIC)
        answer = topic_response(*((leader, 0) for leader in leaders), name=TOPIC)
        sender.topics.take_metadata([TOPIC], [answer], "b:9092")
        sender.metadata_changed()

    def put(self, partition: int) -> bool:
        """Send to a partition; return whether the buffer took the record."""
        accept = self.sender.accumulator.accept_record
        return accept(TOPIC, None, bytes(1_000), partition, None, 0, None) is not None

    def fill(self, partition: int) -> None:
        """Send to a partition until the buffer is full."""
        while self.put(partition):
            pass

    def queue_with_records(self, partition: int, count: int = 1) -> PartitionQueue:
        """Return the queue of a partition, with one more closed batch."""
        for _ in range(count):
            self.put(partition)
        queue = self.queue(partition)
        queue.close_open()
        return queue

    def queue(self, partition: int) -> PartitionQueue:
        queue = self.sender.topics.by_name[TOPIC].queue(partition)
        assert isinstance(queue, PartitionQueue)
        return queue


@pytest_asyncio.fixture
async def harness() -> AsyncIterator[SenderHarness]:
    made = SenderHarness()
    yield made
    await made.sender.give_up()
    await made.sender.close()


async def test_a_flush_waits_for_routed_records_when_the_last_of_their_group_are_withdrawn(
    harness: SenderHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioproducer.sending.topics._ROUTED_AT_ONCE", 1)
    harness.put(0)
    harness.put(0)
    (waiting,) = harness.sender.topics.by_name[TOPIC].waiting
    flushing = asyncio.create_task(harness.sender.flush())
    await asyncio.sleep(0)
    harness.learn(1)
    assert waiting.count == 1
    harness.sender.topics.withdraw_waiting(waiting.batch, [(1, KafkaTimeoutError())])
    for _ in range(3):
        await asyncio.sleep(0)
    assert not flushing.done()
    (batch,) = harness.queue(0).batches()
    await harness.sender.give_up()
    await flushing
    assert batch.is_done


async def test_a_broker_whose_records_fill_its_share_is_named(harness: SenderHarness) -> None:
    harness.learn(1, 2)
    harness.put(0)
    harness.fill(1)
    text = str(harness.sender.backpressure.no_space_error())
    assert "Records for broker 2 at 127.0.0.1:9 hold " in text
    assert f"hold {harness.queue(1).share.held_bytes} bytes" in text


async def test_records_for_partitions_without_leader_have_a_share_of_their_own(
    harness: SenderHarness,
) -> None:
    harness.learn(1, NO_LEADER)
    harness.put(0)
    harness.fill(1)
    assert harness.queue(0).share is not harness.queue(1).share
    harness.learn(1, 2)
    assert harness.queue(1).share.held_bytes == 0


async def test_a_broker_that_is_gone_does_not_get_in_the_way_of_an_error(
    harness: SenderHarness,
) -> None:
    harness.learn(1, 2)
    harness.put(1)
    # The metadata names it as a leader, and not as a broker.
    harness.learn(1, 2, brokers=(1, 3))
    harness.put(0)
    harness.sender.connection_writable(3)
    harness.fill(1)
    assert "Records for a broker that is gone hold " in str(
        harness.sender.backpressure.no_space_error()
    )


async def test_a_partition_queue_takes_the_share_of_its_new_leader(harness: SenderHarness) -> None:
    harness.learn(1, 2)
    harness.put(0)
    harness.put(1)
    before = harness.queue(0).share
    harness.learn(2, 2)
    assert harness.queue(0).share is harness.queue(1).share is not before


async def test_the_error_of_a_caller_names_what_it_waits_for_itself_and_not_who_came_later(
    harness: SenderHarness,
) -> None:
    harness.learn(1, 2)
    harness.put(0)
    harness.fill(1)
    waiter: Waiter[Delivery] = Waiter(lambda: None, print, print, 60.0)
    harness.sender.backpressure.join(waiter)
    harness.fill(0)
    text = str(harness.sender.backpressure.no_space_error(waiter))
    assert "Records for broker 2 at 127.0.0.1:9 hold " in text
    assert "no buffer space for 1" in text


async def test_the_pause_of_a_broker_that_left_is_forgotten(harness: SenderHarness) -> None:
    harness.learn(1, 2)
    harness.put(1)
    queue = harness.sender.broker_queues.of(3)
    queue.throttle_timer.set(harness.sender.background.time() + 3_600)
    harness.learn(1, 2)
    assert queue.throttle_timer.at is None


async def test_records_without_leader_do_not_count_as_those_of_a_broker() -> None:
    harness = SenderHarness(linger_ms=60_000)
    harness.learn(1, NO_LEADER, brokers=(1,))
    harness.put(0)
    harness.put(1)
    await asyncio.sleep(0)
    assert not harness.sender.accumulator.has_brokers
    await harness.sender.give_up()
    await harness.sender.close()


async def test_a_batch_that_waits_for_its_retry_expires_before_younger_ones_in_flight(
    harness: SenderHarness,
) -> None:
    harness.learn(1)
    queue = harness.queue_with_records(0)
    old = queue.head
    assert old is not None
    queue.take(None)
    await asyncio.sleep(0.02)
    harness.queue_with_records(0)
    young = queue.take(None)
    queue.request_ended(old)
    queue.requeue(old, 0.0)
    finished = Finished()
    results = harness.sender._results
    due = old.created_at + 120.0
    assert results.expire(queue, due, finished) == young.created_at + 120.0
    assert finished.batches == [old]


async def test_sequences_of_a_part_that_expires_before_it_is_sent_are_given_back(
    harness: SenderHarness,
) -> None:
    harness.learn(1)
    queue = harness.queue_with_records(0, count=2)
    whole = queue.take(ProducerIdAndEpoch(7, 0))
    queue.request_ended(whole)
    queue.split(whole, whole.split(1))
    harness.sender._results.expire(queue, whole.created_at + 120.0, Finished())
    assert (queue.gap, queue.next_sequence) != ("none", 2)


async def test_a_batch_of_unknown_outcome_behind_an_acknowledged_one_is_stored_when_it_expires(
    harness: SenderHarness,
) -> None:
    harness.learn(1)
    id_and_epoch = ProducerIdAndEpoch(7, 0)
    queue = harness.queue_with_records(0)
    proof = queue.take(id_and_epoch)
    queue.request_ended(proof)
    queue.acknowledged(proof)
    harness.queue_with_records(0)
    lost = queue.take(id_and_epoch)
    harness.queue_with_records(0)
    later = queue.take(id_and_epoch)
    queue.request_ended(lost)
    lost.possibly_persisted = True
    queue.requeue(lost, 0.0)
    queue.request_ended(later)
    queue.acknowledged(later)
    harness.sender._results.expire(queue, lost.created_at + 120.0, Finished())
    assert lost.is_delivered


async def test_a_queued_partition_whose_sequences_were_lost_is_not_sent_under_them() -> None:
    harness = SenderHarness(enable_idempotence=True)
    sender = harness.sender
    sender._producer_id.need = lambda: None  # type: ignore[method-assign]
    sender._producer_id.current = ProducerIdAndEpoch(7, 0)
    harness.learn(1)
    queue = harness.queue_with_records(0)
    sender.broker_queues.offer(queue)
    assert sender.wants_connection(1)
    sender._producer_id.current = None
    sender.broker_queues.offer(queue)
    assert not sender.wants_connection(1)
    await sender.give_up()
    await sender.close()
