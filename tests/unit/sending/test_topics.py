"""The topics in use: asked about at the right pace, kept as known, forgotten when unused."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import random
from typing import Any

import pytest

from aioproducer._native.record_batch import Delivery
from aioproducer.errors import (
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    ProducerClosedError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aioproducer.network.metadata import NO_LEADER, NOBODY, PartitionLeader
from aioproducer.protocol.schema import NO_TOPIC_ID
from aioproducer.sending.topics import TopicInUse
from tests.support.topics import ID, OTHER_ID, TopicsInUse, topic_response

UNKNOWN_TOPIC, INVALID_TOPIC, DENIED, LEADER_NOT_AVAILABLE = 3, 17, 29, 5


@pytest.fixture(autouse=True)
def _middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every backoff be neither shorter nor longer than its base."""
    monkeypatch.setattr(random, "random", lambda: 0.5)


# ---- names


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a b", "a/b", "tüte", "a\n", "a" * 250, "a\x00", "*"]
)
def test_what_is_no_topic_name_is_refused_and_leaves_nothing_behind(name: str) -> None:
    harness = TopicsInUse()
    with pytest.raises(InvalidTopicError, match="no topic name"):
        harness.put(name)
    assert dict(harness.topics.by_name) == {}
    assert harness.loop.timers == []


@pytest.mark.parametrize("name", ["a", "...", "a.b_c-D9", "a" * 249, "0"])
def test_what_is_a_topic_name_is_taken(name: str) -> None:
    harness = TopicsInUse()
    harness.put(name)
    assert harness.ask() == [name]


# ---- asking


def test_a_new_topic_is_due_at_once_and_once() -> None:
    harness = TopicsInUse()
    harness.put()
    harness.put()
    assert harness.topics.next_due_at == harness.loop.now
    assert harness.ask() == ["t"]
    assert harness.ask() == []


def test_topics_that_are_new_together_are_asked_about_together() -> None:
    harness = TopicsInUse()
    for name in ("a", "b", "c"):
        harness.put(name)
    assert harness.ask() == ["a", "b", "c"]


def test_nothing_is_due_when_every_topic_is_known() -> None:
    harness = TopicsInUse()
    harness.put()
    harness.ask()
    harness.answer(topic_response((1, 0)))
    assert harness.topics.next_due_at == float("inf")
    assert harness.ask() == []
    assert harness.topics.all_names() == ["t"]


def test_an_unknown_topic_is_asked_about_again_with_growing_pauses() -> None:
    harness = TopicsInUse(retry_backoff_ms=100, retry_backoff_max_ms=1_000)
    harness.put()
    pauses: list[float] = []
    harness.ask()
    for _ in range(6):
        harness.answer(topic_response(error_code=UNKNOWN_TOPIC))
        pauses.append(round(harness.topics.next_due_at - harness.loop.now, 3))
        harness.loop.advance(pauses[-1])
        assert harness.ask() == ["t"]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_topic_that_the_response_leaves_out_is_asked_about_again() -> None:
    harness = TopicsInUse()
    harness.put("a")
    harness.put("b")
    asked = harness.ask()
    harness.answer(topic_response((1, 0), name="a"), asked=asked)
    harness.loop.advance(1)
    assert harness.ask() == ["b"]


def test_topics_that_no_broker_answered_are_due_again() -> None:
    harness = TopicsInUse()
    harness.put("a")
    harness.know((1, 0), name="b")
    harness.topics.metadata_missed([*harness.ask(), "b", "never heard of"])
    assert harness.ask() == ["a"]


def test_a_topic_that_nobody_waits_for_any_more_is_not_asked_about() -> None:
    harness = TopicsInUse(max_block_ms=500)
    harness.put()
    harness.ask()
    harness.answer(topic_response(error_code=UNKNOWN_TOPIC))
    harness.loop.advance(0.6)
    assert harness.ask() == []
    assert harness.topics.all_names() == []


def test_the_next_record_of_a_topic_that_did_not_appear_waits_for_the_pace() -> None:
    harness = TopicsInUse(max_block_ms=300, retry_backoff_ms=1_000)
    harness.put()
    harness.ask()
    harness.answer(topic_response(error_code=UNKNOWN_TOPIC))
    harness.loop.advance(0.5)
    harness.put()
    assert harness.ask() == []
    harness.loop.advance(0.3)
    harness.put()
    assert harness.ask() == []
    harness.loop.advance(0.21)
    assert harness.ask() == ["t"]


def test_what_a_response_says_of_topics_that_are_not_in_use_is_dropped() -> None:
    harness = TopicsInUse()
    harness.put()
    names = [None, "other", "t"]
    harness.answer(*[topic_response((1, 0), name=name) for name in names], asked=["t"])
    assert [*harness.topics.by_name] == ["t"]
    assert harness.topic().is_known


# ---- a topic that becomes known


def test_waiting_records_get_their_partition_queues_when_the_topic_becomes_known() -> None:
    harness = TopicsInUse()
    for partition in (0, 1, 0):
        harness.put(partition=partition)
    assert harness.answer(topic_response((1, 0), (2, 0)))
    assert harness.counts() == {0: 2, 1: 1}
    assert [queue.leader for queue in harness.topic().partition_queues] == [(1, 0), (2, 0)]
    assert [waiting.count for waiting in harness.over] == [0]


def test_a_response_that_says_what_is_known_is_no_news() -> None:
    harness = TopicsInUse()
    harness.put()
    assert harness.answer(topic_response((1, 0)))
    assert not harness.answer(topic_response((1, 0)))


def test_many_waiting_records_are_routed_in_turns_of_the_loop_and_in_order() -> None:
    harness = TopicsInUse()
    for index in range(10_000):
        harness.put(value=b"%d" % index)
    harness.answer(topic_response((1, 0)))
    routed = [harness.counts()[0]]
    while harness.topic().waiting_count:
        harness.put(value=b"late")
        harness.loop.turn()
        routed.append(harness.counts()[0])
    assert 1_000 < routed[0] < 10_000
    assert routed[-1] == 10_000 + len(routed) - 1
    steps = [after - before for before, after in itertools.pairwise(routed)]
    assert max(steps) <= routed[0]


def test_records_that_are_being_routed_do_not_time_out_meanwhile() -> None:
    harness = TopicsInUse(max_block_ms=1_000)
    deliveries = [harness.put() for _ in range(10_000)]
    harness.answer(topic_response((1, 0)))
    harness.loop.advance(2)
    assert harness.topic().waiting_count == 0
    assert harness.failed == []
    assert not any(delivery.done() for delivery in deliveries)


def test_a_waiting_record_for_a_partition_that_is_not_there_fails_alone() -> None:
    harness = TopicsInUse()
    bad, good = harness.put(partition=5), harness.put(partition=0)
    harness.answer(topic_response((1, 0)))
    harness.loop.run_until_quiet()
    assert harness.failed == [("t", "InvalidPartitionError", 1)]
    assert bad.done()
    assert not good.done()


def test_what_a_partitioner_raises_is_named_without_its_text() -> None:
    def breaks(*_: object) -> int:
        raise ValueError("the key is 4111 1111")

    harness = TopicsInUse(partitioner=breaks)
    delivery = harness.put()
    harness.answer(topic_response((1, 0)))
    error = delivery.exception()
    assert "raised ValueError" in str(error)
    assert "4111" not in str(error)
    assert isinstance(error, KafkaError)
    assert isinstance(error.__cause__, ValueError)


def test_a_new_partition_queue_has_its_leader_and_its_batch_limit() -> None:
    harness = TopicsInUse()
    harness.broker_limit = 500_000
    harness.know((1, 3), (2, 4))
    harness.put(partition=1)
    assert harness.queue(1).leader == (2, 4)
    assert harness.queue(1).batch_limit == 500_000


# ---- leaders that move


def test_a_partition_queue_moves_with_its_leader() -> None:
    harness = TopicsInUse()
    harness.know((1, 0), (1, 0))
    for partition in (0, 1):
        harness.put(partition=partition)
    assert harness.answer(topic_response((1, 0), (2, 1)))
    assert harness.moved == [("t", 1, (1, 0), (2, 1))]


def test_an_older_response_moves_no_partition_queue_back() -> None:
    harness = TopicsInUse()
    harness.know((2, 5))
    harness.put()
    assert not harness.answer(topic_response((1, 4)))
    assert harness.queue().leader == (2, 5)


def test_a_topic_whose_leader_is_no_broker_is_asked_about_until_it_is_one() -> None:
    harness = TopicsInUse(retry_backoff_ms=100)
    harness.know((9, 0))
    pauses: list[float] = []
    for _ in range(3):
        pauses.append(round(harness.topics.next_due_at - harness.loop.now, 3))
        harness.loop.advance(pauses[-1])
        assert harness.ask() == ["t"]
        harness.answer(topic_response((9, 0)))
    assert pauses == [0.1, 0.2, 0.4]
    harness.cluster.brokers.add(9)
    harness.answer(topic_response((9, 0)))
    harness.loop.advance(5)
    assert harness.ask() == []
    assert harness.topics.next_due_at == float("inf")


def test_a_partition_without_leader_is_not_available_and_asked_about() -> None:
    harness = TopicsInUse()
    topic = harness.know((1, 0), (NO_LEADER, 0))
    assert topic.available == (0,)
    harness.loop.advance(1)
    assert harness.ask() == ["t"]


def test_a_topic_whose_leaders_seem_to_be_others_is_asked_about_soon_and_once() -> None:
    harness = TopicsInUse(retry_backoff_ms=100)
    topic = harness.know((1, 0))
    harness.loop.advance(10)
    for _ in range(3):
        harness.topics.refresh(topic)
    assert harness.ask() == ["t"]
    assert harness.ask() == []
    harness.answer(topic_response((1, 0)))
    harness.topics.refresh(topic)
    assert harness.topics.next_due_at == pytest.approx(harness.loop.now + 0.1)


# ---- a leader that a Produce response names (KIP-951)


def hinted(leader: PartitionLeader, partition: int = 1) -> tuple[TopicsInUse, bool]:
    harness = TopicsInUse()
    harness.know((1, 5), (1, 5))
    for each in (0, 1):
        harness.put(partition=each)
    return harness, harness.topics.take_leader_hint(harness.queue(partition), leader)


def test_a_newer_leader_moves_its_partition_queue_only() -> None:
    harness, is_news = hinted(PartitionLeader(2, 6))
    assert is_news
    assert harness.moved == [("t", 1, (1, 5), (2, 6))]
    assert harness.topic().leaders == [(1, 5), (2, 6)]


@pytest.mark.parametrize("epoch", [4, 5])
def test_a_hint_that_is_not_newer_is_no_news(epoch: int) -> None:
    harness, is_news = hinted(PartitionLeader(2, epoch))
    assert not is_news
    assert harness.moved == []


def test_a_hint_is_news_where_no_leader_epochs_are_known() -> None:
    harness = TopicsInUse()
    harness.know((1, -1), topic_id=NO_TOPIC_ID)
    harness.put()
    assert harness.topics.take_leader_hint(harness.queue(), PartitionLeader(2, 0))
    assert not harness.topics.take_leader_hint(harness.queue(), PartitionLeader(1, 0))


def test_a_hint_for_a_partition_that_is_gone_is_no_news() -> None:
    harness = TopicsInUse()
    harness.know((1, 5), (1, 5))
    harness.put(partition=1)
    queue = harness.queue(1)
    harness.answer(topic_response((1, 0), topic_id=OTHER_ID))
    assert not harness.topics.take_leader_hint(queue, PartitionLeader(2, 9))


def test_a_hint_makes_a_partition_available_that_had_no_leader() -> None:
    harness = TopicsInUse()
    topic = harness.know((1, 0), (NO_LEADER, 0))
    harness.put(partition=1)
    harness.topics.take_leader_hint(harness.queue(1), PartitionLeader(2, 1))
    assert topic.available == (0, 1)


# ---- topics that are recreated, shrink, or are another cluster's


def test_a_recreated_topic_has_its_partition_queues_begin_again() -> None:
    harness = TopicsInUse()
    harness.know((1, 5))
    harness.put()
    queue = harness.queue()
    queue.is_proven = True
    harness.answer(topic_response((1, 0), topic_id=OTHER_ID))
    assert not queue.is_proven
    assert harness.topic().topic_id == OTHER_ID


def test_partition_queues_that_a_smaller_topic_lacks_wait_without_leader() -> None:
    harness = TopicsInUse()
    harness.know((1, 5), (2, 5), topic_id=NO_TOPIC_ID)
    for partition in (0, 1):
        harness.put(partition=partition)
    harness.answer(topic_response((1, 0), topic_id=NO_TOPIC_ID))
    assert harness.topic().partition_count == 1
    assert harness.queue(1).leader == NOBODY
    harness.answer(topic_response((1, 0), (2, 0), topic_id=NO_TOPIC_ID))
    assert harness.queue(1).leader == (2, 0)
    assert harness.counts() == {0: 1, 1: 1}


def test_another_cluster_leaves_no_leader_of_the_one_that_was() -> None:
    harness = TopicsInUse()
    harness.know((1, 5), (2, 5))
    harness.put(partition=0)
    harness.topics.cluster_changed()
    assert harness.topic().leaders == [NOBODY, NOBODY]
    assert harness.topic().available == ()
    assert harness.queue(0).leader == NOBODY
    harness.answer(topic_response((2, 0), (1, 0), topic_id=OTHER_ID))
    assert harness.queue(0).leader == (2, 0)


# ---- errors


@pytest.mark.parametrize("code", [UNKNOWN_TOPIC, LEADER_NOT_AVAILABLE, DENIED, INVALID_TOPIC])
def test_a_known_topic_keeps_its_leaders_whatever_a_broker_says_once(code: int) -> None:
    harness = TopicsInUse()
    harness.know((1, 0))
    harness.put()
    harness.answer(topic_response(error_code=code))
    assert harness.topic().leaders == [(1, 0)]
    assert harness.topics.all_names() == ["t"]
    assert harness.failed == []
    harness.loop.advance(1)
    assert harness.ask() == ["t"]


def test_trouble_with_a_known_topic_is_logged_once_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = TopicsInUse()
    harness.know((1, 0))
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            harness.answer(topic_response(error_code=DENIED))
        harness.answer(topic_response((1, 0)))
        harness.answer(topic_response((1, 0)))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert all("topic t" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(DENIED, TopicAuthorizationFailedError), (INVALID_TOPIC, InvalidTopicError)],
)
def test_an_unknown_topic_that_is_denied_or_impossible_fails_what_waits_at_once(
    code: int, expected: type[KafkaError]
) -> None:
    harness = TopicsInUse()
    deliveries = [harness.put() for _ in range(3)]
    harness.ask()
    harness.answer(topic_response(error_code=code))
    assert [type(delivery.exception()) for delivery in deliveries] == [expected] * 3
    assert harness.failed == [("t", expected.__name__, 3)]
    assert "'t'" in str(deliveries[0].exception())


def test_after_a_denial_the_next_record_waits_for_the_backoff() -> None:
    harness = TopicsInUse(retry_backoff_ms=100)
    requests = 0
    for _ in range(100):
        harness.put()
        if harness.ask():
            requests += 1
            harness.answer(topic_response(error_code=DENIED))
        harness.loop.advance(0.1)
    assert requests < 15


def test_a_denial_that_is_taken_back_is_over() -> None:
    harness = TopicsInUse()
    harness.put()
    harness.answer(topic_response(error_code=DENIED))
    harness.loop.advance(1)
    delivery = harness.put()
    assert harness.ask() == ["t"]
    harness.answer(topic_response((1, 0)))
    assert harness.counts() == {0: 1}
    assert not delivery.done()


# ---- giving up


def test_records_wait_for_their_topic_no_longer_than_max_block_ms() -> None:
    harness = TopicsInUse(max_block_ms=5_000)
    early = harness.put()
    harness.loop.advance(2)
    late = harness.put()
    harness.loop.advance(2.9)
    assert not early.done()
    harness.loop.advance(0.2)
    assert isinstance(early.exception(), KafkaTimeoutError)
    assert not late.done()
    harness.loop.advance(2)
    assert late.done()
    assert harness.failed == [("t", "KafkaTimeoutError", 1)] * 2


def test_records_that_came_together_give_up_together() -> None:
    harness = TopicsInUse(max_block_ms=5_000)
    for _ in range(100):
        harness.put()
    harness.loop.advance(5)
    assert harness.failed == [("t", "KafkaTimeoutError", 100)]
    assert len(harness.over) == 1


def test_who_waits_for_a_record_hears_when_it_gives_up() -> None:
    harness = TopicsInUse(max_block_ms=1_000)
    heard: list[object] = []
    harness.put(on_delivery=lambda metadata, error: heard.append(type(error)))
    harness.loop.advance(1)
    assert heard == [KafkaTimeoutError]


def test_a_topic_that_the_broker_does_not_know_says_so_when_records_give_up() -> None:
    harness = TopicsInUse(max_block_ms=1_000)
    delivery = harness.put()
    harness.answer(topic_response(error_code=UNKNOWN_TOPIC))
    harness.loop.advance(1)
    error = delivery.exception()
    assert isinstance(error, UnknownTopicOrPartitionError)
    assert "Topic 't' does not exist" in str(error)
    assert "auto.create.topics.enable" in str(error)
    assert "allow_auto_create_topics here" not in str(error)


def test_a_topic_that_may_not_be_created_says_so_when_records_give_up() -> None:
    harness = TopicsInUse(max_block_ms=1_000, allow_auto_create_topics=False)
    delivery = harness.put()
    harness.answer(topic_response(error_code=UNKNOWN_TOPIC))
    harness.loop.advance(1)
    assert "allow_auto_create_topics here" in str(delivery.exception())


def test_without_a_response_the_error_says_why_brokers_cannot_be_reached() -> None:
    harness = TopicsInUse(max_block_ms=1_000)
    harness.cluster.connect_error = KafkaConnectionError(
        "Cannot connect", reasons={"b:9092": "connection refused"}
    )
    delivery = harness.put()
    harness.loop.advance(1)
    assert "connection refused" in str(delivery.exception())


def test_a_loop_that_was_blocked_gives_up_nothing_that_is_answered() -> None:
    harness = TopicsInUse(max_block_ms=1_000)
    delivery = harness.put()
    harness.loop.hold(30)
    harness.loop.turn()
    harness.answer(topic_response((1, 0)))
    harness.loop.run_until_quiet()
    harness.loop.advance(60)
    assert harness.failed == []
    assert not delivery.done()


def test_what_waits_for_a_topic_can_be_failed_by_the_sender() -> None:
    harness = TopicsInUse()
    deliveries = [harness.put()]
    harness.loop.advance(1)
    deliveries.append(harness.put())
    harness.topics.fail_waiting(harness.topic(), ProducerClosedError("closed"))
    assert [type(delivery.exception()) for delivery in deliveries] == [ProducerClosedError] * 2
    assert len(harness.over) == 2


def test_records_that_are_withdrawn_one_and_all_are_each_reported_once() -> None:
    harness = TopicsInUse()
    deliveries = [harness.put(), harness.put()]
    (waiting,) = harness.topic().waiting
    late = [(index, KafkaTimeoutError(f"Late {index}.")) for index in range(2)]
    assert len(harness.topics.withdraw_waiting(waiting.batch, late)) == 2
    assert [str(delivery.exception()) for delivery in deliveries] == ["Late 0.", "Late 1."]
    assert harness.failed == [("t", "KafkaTimeoutError", 1)] * 2
    assert harness.over == [waiting]
    assert not harness.topic().waiting


def test_why_the_topic_of_a_record_is_not_known_yet_can_be_asked_at_any_time() -> None:
    harness = TopicsInUse()
    harness.put()
    harness.answer(topic_response(error_code=UNKNOWN_TOPIC))
    error = harness.topics.not_yet_known("t", 2.5, "delivery_timeout_ms")
    assert isinstance(error, UnknownTopicOrPartitionError)
    assert "2.5 s" in str(error)
    assert isinstance(
        harness.topics.not_yet_known("never heard of", 1, "timeout of the call"), KafkaTimeoutError
    )


# ---- partitions_for


def asking(harness: TopicsInUse, name: str = "t") -> tuple[Any, Any]:
    """Begin to ask for a topic's partitions; return the coroutine and what it waits for."""
    coroutine = harness.topics.partitions_for(name)
    return coroutine, coroutine.send(None)


def test_the_partitions_of_a_known_topic_are_returned_at_once() -> None:
    harness = TopicsInUse()
    harness.know((1, 0), (1, 0))
    with pytest.raises(StopIteration) as stopped:
        harness.topics.partitions_for("t").send(None)
    assert stopped.value.value == (0, 1)


@pytest.mark.virtual_time
async def test_the_partitions_of_a_new_topic_are_returned_when_they_are_known() -> None:
    harness = TopicsInUse(as_manual(asyncio.get_running_loop()))
    task = asyncio.create_task(harness.topics.partitions_for("t"))
    await asyncio.sleep(0)
    assert harness.ask() == ["t"]
    harness.answer(topic_response((1, 0), (1, 0), (1, 0)))
    assert await task == (0, 1, 2)
    harness.topics.close()


@pytest.mark.virtual_time
async def test_partitions_that_do_not_become_known_in_time_are_an_error() -> None:
    harness = TopicsInUse(as_manual(asyncio.get_running_loop()), max_block_ms=5_000)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(KafkaTimeoutError, match="max_block_ms"):
        await harness.topics.partitions_for("t")
    assert asyncio.get_running_loop().time() - begun == pytest.approx(5)
    assert harness.topic().watchers == []
    harness.topics.close()


@pytest.mark.virtual_time
async def test_partitions_of_a_denied_topic_are_an_error_at_once_for_each_who_asks() -> None:
    harness = TopicsInUse(as_manual(asyncio.get_running_loop()))
    tasks = [asyncio.create_task(harness.topics.partitions_for("t")) for _ in range(2)]
    await asyncio.sleep(0)
    harness.answer(topic_response(error_code=DENIED))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [TopicAuthorizationFailedError] * 2
    assert errors[0] is not errors[1]
    harness.topics.close()


@pytest.mark.virtual_time
async def test_who_no_longer_asks_for_partitions_leaves_the_others_waiting() -> None:
    harness = TopicsInUse(as_manual(asyncio.get_running_loop()))
    leaving, staying = (asyncio.create_task(harness.topics.partitions_for("t")) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    harness.answer(topic_response((1, 0)))
    assert await staying == (0,)
    assert harness.topic().watchers == []
    harness.topics.close()


@pytest.mark.virtual_time
async def test_asking_for_the_partitions_of_what_is_no_topic_is_refused() -> None:
    harness = TopicsInUse(as_manual(asyncio.get_running_loop()))
    with pytest.raises(InvalidTopicError):
        await harness.topics.partitions_for("a b")


def as_manual(loop: asyncio.AbstractEventLoop) -> Any:
    """Stand for a `ManualLoop`, where a real loop is needed."""

    class Real:
        def as_loop(self) -> asyncio.AbstractEventLoop:
            return loop

    return Real()


# ---- forgetting


def test_an_unknown_topic_that_nobody_uses_is_forgotten_after_seconds() -> None:
    harness = TopicsInUse(max_block_ms=500)
    harness.put()
    harness.loop.advance(1)
    assert [*harness.topics.by_name] == ["t"]
    harness.loop.advance(5)
    assert dict(harness.topics.by_name) == {}
    assert harness.loop.timers == []


def test_an_unknown_topic_that_records_wait_for_is_not_forgotten() -> None:
    harness = TopicsInUse(max_block_ms=60_000)
    harness.put()
    harness.loop.advance(30)
    assert [*harness.topics.by_name] == ["t"]
    harness.loop.advance(40)
    assert dict(harness.topics.by_name) == {}


def test_a_stream_of_names_that_are_used_once_leaves_nothing_behind() -> None:
    harness = TopicsInUse(max_block_ms=500)
    most = 0
    for index in range(2_000):
        harness.put(f"name-{index}")
        harness.ask()
        harness.answer(topic_response(name=f"name-{index}", error_code=UNKNOWN_TOPIC))
        harness.loop.advance(0.01)
        most = max(most, len(harness.topics.by_name))
    harness.loop.advance(10)
    assert most < 600
    assert dict(harness.topics.by_name) == {}
    assert harness.accumulator.buffer_used == 0


def idle_after(harness: TopicsInUse, seconds: float) -> list[str]:
    harness.loop.advance(seconds)
    return [*harness.topics.by_name]


def test_a_known_topic_that_nobody_uses_is_forgotten_after_metadata_max_idle_ms() -> None:
    harness = TopicsInUse(metadata_max_idle_ms=100_000)
    harness.know((1, 0))
    harness.put()
    harness.end_all()
    assert idle_after(harness, 99) == ["t"]
    assert idle_after(harness, 30) == []
    assert harness.forgotten == [("t", 0)]


def test_a_topic_with_records_on_their_way_is_not_forgotten() -> None:
    harness = TopicsInUse(metadata_max_idle_ms=10_000)
    harness.know((1, 0))
    harness.put()
    assert idle_after(harness, 100) == ["t"]
    harness.end_all()
    assert idle_after(harness, 100) == []


def test_a_topic_that_is_used_now_and_then_is_kept() -> None:
    harness = TopicsInUse(metadata_max_idle_ms=10_000)
    topic = harness.know((1, 0))
    for _ in range(20):
        harness.put()
        topic.used_at = harness.loop.now
        harness.end_all()
        assert idle_after(harness, 9) == ["t"]
    assert idle_after(harness, 20) == []


def test_idle_topics_are_forgotten_together() -> None:
    harness = TopicsInUse(metadata_max_idle_ms=100_000)
    for index in range(10):
        name = f"t{index}"
        harness.know((1, 0), name=name)
        harness.put(name)
        harness.end_all(name)
        harness.loop.advance(1)
    left: list[int] = [10]
    for _ in range(200):
        harness.loop.advance(1)
        if len(harness.topics.by_name) != left[-1]:
            left.append(len(harness.topics.by_name))
    # Each time costs every partition a new epoch.
    assert len(left) <= 3
    assert left[-1] == 0


def test_a_topic_that_was_in_trouble_once_is_kept_by_nobody_when_it_is_forgotten() -> None:
    harness = TopicsInUse(metadata_max_idle_ms=10_000)
    harness.know((1, 0), name="troubled")
    harness.answer(topic_response(name="troubled", error_code=DENIED))
    harness.answer(topic_response((1, 0), name="troubled"))
    harness.loop.advance(5)
    assert harness.ask() == []
    harness.loop.advance(60)
    assert dict(harness.topics.by_name) == {}
    gc.collect()
    topics = [found for found in gc.get_objects() if isinstance(found, TopicInUse)]
    assert "troubled" not in {topic.name for topic in topics}


def test_a_topic_that_was_forgotten_begins_again() -> None:
    harness = TopicsInUse(metadata_max_idle_ms=10_000)
    harness.know((1, 0))
    harness.loop.advance(60)
    assert dict(harness.topics.by_name) == {}
    delivery: Delivery = harness.put()
    assert harness.ask() == ["t"]
    assert not harness.topic().is_known
    harness.answer(topic_response((2, 0)))
    assert harness.queue().leader == (2, 0)
    assert not delivery.done()


def test_closing_ends_the_timers() -> None:
    harness = TopicsInUse()
    harness.put()
    harness.know((1, 0), name="known")
    assert harness.loop.timers
    harness.topics.close()
    assert harness.loop.timers == []


# ---- the sticky partition


def test_records_without_key_go_to_partitions_of_brokers_that_take_something() -> None:
    harness = TopicsInUse(partitioner_availability_timeout_ms=1_000)
    topic = harness.know((1, 0), (2, 0))
    harness.stalled.add(1)
    assert {harness.topics.next_sticky_partition(topic) for _ in range(20)} == {1}


def test_when_every_broker_is_stalled_any_partition_will_do() -> None:
    harness = TopicsInUse(partitioner_availability_timeout_ms=1_000)
    topic = harness.know((1, 0))
    harness.stalled.update((1, 2))
    assert harness.topics.next_sticky_partition(topic) == 0


def test_where_batches_wait_fewer_records_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = TopicsInUse()
    topic = harness.know((1, 0), (1, 0))
    for partition in (0, 1):
        harness.put(partition=partition)
    for _ in range(3):
        harness.queue(0).close_open()
        harness.put(partition=0)
    drawn: list[int] = []
    for index in range(100):
        monkeypatch.setattr(random, "random", lambda at=index / 100: at)
        harness.loop.hold(1)
        drawn.append(harness.topics.next_sticky_partition(topic))
    assert drawn.count(1) > 70


def test_new_leaders_are_weighed_at_once() -> None:
    harness = TopicsInUse()
    topic = harness.know((1, 0), (NO_LEADER, 0))
    assert harness.topics.next_sticky_partition(topic) == 0
    harness.answer(topic_response((NO_LEADER, 1), (1, 1)))
    assert harness.topics.next_sticky_partition(topic) == 1


# ---- what a topic takes


def test_a_learnt_limit_holds_for_present_and_future_partition_queues() -> None:
    harness = TopicsInUse()
    topic = harness.know((1, 0), (1, 0))
    harness.put(partition=0)
    harness.topics.limit_batches(topic, 50_000, refused_size=100_000)
    harness.put(partition=1)
    assert [queue.batch_limit for queue in topic.partition_queues] == [50_000, 50_000]
    assert (topic.batch_limit, topic.refused_size) == (50_000, 100_000)


def test_a_topic_of_many_partitions_makes_queues_for_those_with_records_only() -> None:
    harness = TopicsInUse()
    topic = harness.know(*[(1, 0)] * 10_000)
    harness.put(partition=9_999)
    assert len(topic.partition_queues) == 1
    assert topic.topic_id == ID
