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
from aioproducer.sending.topics import Topic
from tests.support.topics import ID, OTHER_ID, TopicsInUse, told

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
    its = TopicsInUse()
    with pytest.raises(InvalidTopicError, match="no topic name"):
        its.put(name)
    assert dict(its.topics.by_name) == {}
    assert its.loop.timers == []


@pytest.mark.parametrize("name", ["a", "...", "a.b_c-D9", "a" * 249, "0"])
def test_what_is_a_topic_name_is_taken(name: str) -> None:
    its = TopicsInUse()
    its.put(name)
    assert its.ask() == [name]


# ---- asking


def test_a_new_topic_is_due_at_once_and_once() -> None:
    its = TopicsInUse()
    its.put()
    its.put()
    assert its.topics.next_due_at == its.loop.now
    assert its.ask() == ["t"]
    assert its.ask() == []


def test_topics_that_are_new_together_are_asked_about_together() -> None:
    its = TopicsInUse()
    for name in ("a", "b", "c"):
        its.put(name)
    assert its.ask() == ["a", "b", "c"]


def test_nothing_is_due_when_every_topic_is_known() -> None:
    its = TopicsInUse()
    its.put()
    its.ask()
    its.answer(told((1, 0)))
    assert its.topics.next_due_at == float("inf")
    assert its.ask() == []
    assert its.topics.all_names() == ["t"]


def test_an_unknown_topic_is_asked_about_again_with_growing_pauses() -> None:
    its = TopicsInUse(retry_backoff_ms=100, retry_backoff_max_ms=1_000)
    its.put()
    pauses: list[float] = []
    its.ask()
    for _ in range(6):
        its.answer(told(error_code=UNKNOWN_TOPIC))
        pauses.append(round(its.topics.next_due_at - its.loop.now, 3))
        its.loop.advance(pauses[-1])
        assert its.ask() == ["t"]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_topic_that_the_response_leaves_out_is_asked_about_again() -> None:
    its = TopicsInUse()
    its.put("a")
    its.put("b")
    asked = its.ask()
    its.answer(told((1, 0), name="a"), asked=asked)
    its.loop.advance(1)
    assert its.ask() == ["b"]


def test_topics_that_no_broker_answered_are_due_again() -> None:
    its = TopicsInUse()
    its.put("a")
    its.know((1, 0), name="b")
    its.topics.metadata_missed([*its.ask(), "b", "never heard of"])
    assert its.ask() == ["a"]


def test_a_topic_that_nobody_waits_for_any_more_is_not_asked_about() -> None:
    its = TopicsInUse(max_block_ms=500)
    its.put()
    its.ask()
    its.answer(told(error_code=UNKNOWN_TOPIC))
    its.loop.advance(0.6)
    assert its.ask() == []
    assert its.topics.all_names() == []


def test_the_next_record_of_a_topic_that_did_not_appear_waits_for_the_pace() -> None:
    its = TopicsInUse(max_block_ms=300, retry_backoff_ms=1_000)
    its.put()
    its.ask()
    its.answer(told(error_code=UNKNOWN_TOPIC))
    its.loop.advance(0.5)
    its.put()
    assert its.ask() == []
    its.loop.advance(0.3)
    its.put()
    assert its.ask() == []
    its.loop.advance(0.21)
    assert its.ask() == ["t"]


def test_what_a_response_says_of_topics_that_are_not_in_use_is_dropped() -> None:
    its = TopicsInUse()
    its.put()
    names = [None, "other", "t"]
    its.answer(*[told((1, 0), name=name) for name in names], asked=["t"])
    assert [*its.topics.by_name] == ["t"]
    assert its.topic().is_known


# ---- a topic that becomes known


def test_waiting_records_get_their_partition_queues_when_the_topic_becomes_known() -> None:
    its = TopicsInUse()
    for partition in (0, 1, 0):
        its.put(partition=partition)
    assert its.answer(told((1, 0), (2, 0)))
    assert its.counts() == {0: 2, 1: 1}
    assert [queue.leader for queue in its.topic().partition_queues] == [(1, 0), (2, 0)]
    assert [waiting.count for waiting in its.over] == [0]


def test_a_response_that_says_what_is_known_is_no_news() -> None:
    its = TopicsInUse()
    its.put()
    assert its.answer(told((1, 0)))
    assert not its.answer(told((1, 0)))


def test_many_waiting_records_are_routed_in_turns_of_the_loop_and_in_order() -> None:
    its = TopicsInUse()
    for index in range(10_000):
        its.put(value=b"%d" % index)
    its.answer(told((1, 0)))
    routed = [its.counts()[0]]
    while its.topic().waiting_count:
        its.put(value=b"late")
        its.loop.turn()
        routed.append(its.counts()[0])
    assert 1_000 < routed[0] < 10_000
    assert routed[-1] == 10_000 + len(routed) - 1
    steps = [after - before for before, after in itertools.pairwise(routed)]
    assert max(steps) <= routed[0]


def test_records_that_are_being_routed_do_not_time_out_meanwhile() -> None:
    its = TopicsInUse(max_block_ms=1_000)
    deliveries = [its.put() for _ in range(10_000)]
    its.answer(told((1, 0)))
    its.loop.advance(2)
    assert its.topic().waiting_count == 0
    assert its.failed == []
    assert not any(delivery.done() for delivery in deliveries)


def test_a_waiting_record_for_a_partition_that_is_not_there_fails_alone() -> None:
    its = TopicsInUse()
    bad, good = its.put(partition=5), its.put(partition=0)
    its.answer(told((1, 0)))
    its.loop.run_until_quiet()
    assert its.failed == [("t", "InvalidPartitionError", 1)]
    assert bad.done()
    assert not good.done()


def test_what_a_partitioner_raises_is_named_without_its_text() -> None:
    def breaks(*_: object) -> int:
        raise ValueError("the key is 4111 1111")

    its = TopicsInUse(partitioner=breaks)
    delivery = its.put()
    its.answer(told((1, 0)))
    error = delivery.exception()
    assert "raised ValueError" in str(error)
    assert "4111" not in str(error)
    assert isinstance(error, KafkaError)
    assert isinstance(error.__cause__, ValueError)


def test_a_new_partition_queue_has_its_leader_and_its_batch_limit() -> None:
    its = TopicsInUse()
    its.broker_limit = 500_000
    its.know((1, 3), (2, 4))
    its.put(partition=1)
    assert its.queue(1).leader == (2, 4)
    assert its.queue(1).batch_limit == 500_000


# ---- leaders that move


def test_a_partition_queue_moves_with_its_leader() -> None:
    its = TopicsInUse()
    its.know((1, 0), (1, 0))
    for partition in (0, 1):
        its.put(partition=partition)
    assert its.answer(told((1, 0), (2, 1)))
    assert its.moved == [("t", 1, (1, 0), (2, 1))]


def test_an_older_response_moves_no_partition_queue_back() -> None:
    its = TopicsInUse()
    its.know((2, 5))
    its.put()
    assert not its.answer(told((1, 4)))
    assert its.queue().leader == (2, 5)


def test_a_topic_whose_leader_is_no_broker_is_asked_about_until_it_is_one() -> None:
    its = TopicsInUse(retry_backoff_ms=100)
    its.know((9, 0))
    pauses: list[float] = []
    for _ in range(3):
        pauses.append(round(its.topics.next_due_at - its.loop.now, 3))
        its.loop.advance(pauses[-1])
        assert its.ask() == ["t"]
        its.answer(told((9, 0)))
    assert pauses == [0.1, 0.2, 0.4]
    its.cluster.brokers.add(9)
    its.answer(told((9, 0)))
    its.loop.advance(5)
    assert its.ask() == []
    assert its.topics.next_due_at == float("inf")


def test_a_partition_without_leader_is_not_available_and_asked_about() -> None:
    its = TopicsInUse()
    topic = its.know((1, 0), (NO_LEADER, 0))
    assert topic.available == (0,)
    its.loop.advance(1)
    assert its.ask() == ["t"]


def test_a_topic_whose_leaders_seem_to_be_others_is_asked_about_soon_and_once() -> None:
    its = TopicsInUse(retry_backoff_ms=100)
    topic = its.know((1, 0))
    its.loop.advance(10)
    for _ in range(3):
        its.topics.refresh(topic)
    assert its.ask() == ["t"]
    assert its.ask() == []
    its.answer(told((1, 0)))
    its.topics.refresh(topic)
    assert its.topics.next_due_at == pytest.approx(its.loop.now + 0.1)


# ---- a leader that a Produce response names (KIP-951)


def hinted(leader: PartitionLeader, partition: int = 1) -> tuple[TopicsInUse, bool]:
    its = TopicsInUse()
    its.know((1, 5), (1, 5))
    for each in (0, 1):
        its.put(partition=each)
    return its, its.topics.take_leader_hint(its.queue(partition), leader)


def test_a_newer_leader_moves_its_partition_queue_only() -> None:
    its, is_news = hinted(PartitionLeader(2, 6))
    assert is_news
    assert its.moved == [("t", 1, (1, 5), (2, 6))]
    assert its.topic().leaders == [(1, 5), (2, 6)]


@pytest.mark.parametrize("epoch", [4, 5])
def test_a_hint_that_is_not_newer_is_no_news(epoch: int) -> None:
    its, is_news = hinted(PartitionLeader(2, epoch))
    assert not is_news
    assert its.moved == []


def test_a_hint_is_news_where_no_leader_epochs_are_known() -> None:
    its = TopicsInUse()
    its.know((1, -1), topic_id=NO_TOPIC_ID)
    its.put()
    assert its.topics.take_leader_hint(its.queue(), PartitionLeader(2, 0))
    assert not its.topics.take_leader_hint(its.queue(), PartitionLeader(1, 0))


def test_a_hint_for_a_partition_that_is_gone_is_no_news() -> None:
    its = TopicsInUse()
    its.know((1, 5), (1, 5))
    its.put(partition=1)
    queue = its.queue(1)
    its.answer(told((1, 0), topic_id=OTHER_ID))
    assert not its.topics.take_leader_hint(queue, PartitionLeader(2, 9))


def test_a_hint_makes_a_partition_available_that_had_no_leader() -> None:
    its = TopicsInUse()
    topic = its.know((1, 0), (NO_LEADER, 0))
    its.put(partition=1)
    its.topics.take_leader_hint(its.queue(1), PartitionLeader(2, 1))
    assert topic.available == (0, 1)


# ---- topics that are recreated, shrink, or are another cluster's


def test_a_recreated_topic_has_its_partition_queues_begin_again() -> None:
    its = TopicsInUse()
    its.know((1, 5))
    its.put()
    queue = its.queue()
    queue.is_proven = True
    its.answer(told((1, 0), topic_id=OTHER_ID))
    assert not queue.is_proven
    assert its.topic().topic_id == OTHER_ID


def test_partition_queues_that_a_smaller_topic_lacks_wait_without_leader() -> None:
    its = TopicsInUse()
    its.know((1, 5), (2, 5), topic_id=NO_TOPIC_ID)
    for partition in (0, 1):
        its.put(partition=partition)
    its.answer(told((1, 0), topic_id=NO_TOPIC_ID))
    assert its.topic().partition_count == 1
    assert its.queue(1).leader == NOBODY
    its.answer(told((1, 0), (2, 0), topic_id=NO_TOPIC_ID))
    assert its.queue(1).leader == (2, 0)
    assert its.counts() == {0: 1, 1: 1}


def test_another_cluster_leaves_no_leader_of_the_one_that_was() -> None:
    its = TopicsInUse()
    its.know((1, 5), (2, 5))
    its.put(partition=0)
    its.topics.cluster_changed()
    assert its.topic().leaders == [NOBODY, NOBODY]
    assert its.topic().available == ()
    assert its.queue(0).leader == NOBODY
    its.answer(told((2, 0), (1, 0), topic_id=OTHER_ID))
    assert its.queue(0).leader == (2, 0)


# ---- errors


@pytest.mark.parametrize("code", [UNKNOWN_TOPIC, LEADER_NOT_AVAILABLE, DENIED, INVALID_TOPIC])
def test_a_known_topic_keeps_its_leaders_whatever_a_broker_says_once(code: int) -> None:
    its = TopicsInUse()
    its.know((1, 0))
    its.put()
    its.answer(told(error_code=code))
    assert its.topic().leaders == [(1, 0)]
    assert its.topics.all_names() == ["t"]
    assert its.failed == []
    its.loop.advance(1)
    assert its.ask() == ["t"]


def test_trouble_with_a_known_topic_is_logged_once_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    its = TopicsInUse()
    its.know((1, 0))
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            its.answer(told(error_code=DENIED))
        its.answer(told((1, 0)))
        its.answer(told((1, 0)))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert all("topic t" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(DENIED, TopicAuthorizationFailedError), (INVALID_TOPIC, InvalidTopicError)],
)
def test_an_unknown_topic_that_is_denied_or_impossible_fails_what_waits_at_once(
    code: int, expected: type[KafkaError]
) -> None:
    its = TopicsInUse()
    deliveries = [its.put() for _ in range(3)]
    its.ask()
    its.answer(told(error_code=code))
    assert [type(delivery.exception()) for delivery in deliveries] == [expected] * 3
    assert its.failed == [("t", expected.__name__, 3)]
    assert "'t'" in str(deliveries[0].exception())


def test_after_a_denial_the_next_record_waits_for_the_backoff() -> None:
    its = TopicsInUse(retry_backoff_ms=100)
    requests = 0
    for _ in range(100):
        its.put()
        if its.ask():
            requests += 1
            its.answer(told(error_code=DENIED))
        its.loop.advance(0.1)
    assert requests < 15


def test_a_denial_that_is_taken_back_is_over() -> None:
    its = TopicsInUse()
    its.put()
    its.answer(told(error_code=DENIED))
    its.loop.advance(1)
    delivery = its.put()
    assert its.ask() == ["t"]
    its.answer(told((1, 0)))
    assert its.counts() == {0: 1}
    assert not delivery.done()


# ---- giving up


def test_records_wait_for_their_topic_no_longer_than_max_block_ms() -> None:
    its = TopicsInUse(max_block_ms=5_000)
    early = its.put()
    its.loop.advance(2)
    late = its.put()
    its.loop.advance(2.9)
    assert not early.done()
    its.loop.advance(0.2)
    assert isinstance(early.exception(), KafkaTimeoutError)
    assert not late.done()
    its.loop.advance(2)
    assert late.done()
    assert its.failed == [("t", "KafkaTimeoutError", 1)] * 2


def test_records_that_came_together_give_up_together() -> None:
    its = TopicsInUse(max_block_ms=5_000)
    for _ in range(100):
        its.put()
    its.loop.advance(5)
    assert its.failed == [("t", "KafkaTimeoutError", 100)]
    assert len(its.over) == 1


def test_who_waits_for_a_record_hears_when_it_gives_up() -> None:
    its = TopicsInUse(max_block_ms=1_000)
    heard: list[object] = []
    its.put(on_delivery=lambda metadata, error: heard.append(type(error)))
    its.loop.advance(1)
    assert heard == [KafkaTimeoutError]


def test_a_topic_that_the_broker_does_not_know_says_so_when_records_give_up() -> None:
    its = TopicsInUse(max_block_ms=1_000)
    delivery = its.put()
    its.answer(told(error_code=UNKNOWN_TOPIC))
    its.loop.advance(1)
    error = delivery.exception()
    assert isinstance(error, UnknownTopicOrPartitionError)
    assert "Topic 't' does not exist" in str(error)
    assert "auto.create.topics.enable" in str(error)
    assert "allow_auto_create_topics here" not in str(error)


def test_a_topic_that_may_not_be_created_says_so_when_records_give_up() -> None:
    its = TopicsInUse(max_block_ms=1_000, allow_auto_create_topics=False)
    delivery = its.put()
    its.answer(told(error_code=UNKNOWN_TOPIC))
    its.loop.advance(1)
    assert "allow_auto_create_topics here" in str(delivery.exception())


def test_without_a_response_the_error_says_why_brokers_cannot_be_reached() -> None:
    its = TopicsInUse(max_block_ms=1_000)
    its.cluster.connect_error = KafkaConnectionError(
        "Cannot connect", reasons={"b:9092": "connection refused"}
    )
    delivery = its.put()
    its.loop.advance(1)
    assert "connection refused" in str(delivery.exception())


def test_a_loop_that_was_blocked_gives_up_nothing_that_is_answered() -> None:
    its = TopicsInUse(max_block_ms=1_000)
    delivery = its.put()
    its.loop.hold(30)
    its.loop.turn()
    its.answer(told((1, 0)))
    its.loop.run_until_quiet()
    its.loop.advance(60)
    assert its.failed == []
    assert not delivery.done()


def test_what_waits_for_a_topic_can_be_failed_by_the_sender() -> None:
    its = TopicsInUse()
    deliveries = [its.put()]
    its.loop.advance(1)
    deliveries.append(its.put())
    its.topics.fail_waiting(its.topic(), ProducerClosedError("closed"))
    assert [type(delivery.exception()) for delivery in deliveries] == [ProducerClosedError] * 2
    assert len(its.over) == 2


def test_why_the_topic_of_a_record_is_not_known_yet_can_be_asked_at_any_time() -> None:
    its = TopicsInUse()
    its.put()
    its.answer(told(error_code=UNKNOWN_TOPIC))
    error = its.topics.not_yet_known("t", 2.5)
    assert isinstance(error, UnknownTopicOrPartitionError)
    assert "2.5 s" in str(error)
    assert isinstance(its.topics.not_yet_known("never heard of", 1), KafkaTimeoutError)


# ---- partitions_for


def asking(its: TopicsInUse, name: str = "t") -> tuple[Any, Any]:
    """Begin to ask for a topic's partitions; return the coroutine and what it waits for."""
    coroutine = its.topics.partitions_for(name)
    return coroutine, coroutine.send(None)


def test_the_partitions_of_a_known_topic_are_returned_at_once() -> None:
    its = TopicsInUse()
    its.know((1, 0), (1, 0))
    with pytest.raises(StopIteration) as stopped:
        its.topics.partitions_for("t").send(None)
    assert stopped.value.value == (0, 1)


@pytest.mark.virtual_time
async def test_the_partitions_of_a_new_topic_are_returned_when_they_are_known() -> None:
    its = TopicsInUse(as_manual(asyncio.get_running_loop()))
    task = asyncio.create_task(its.topics.partitions_for("t"))
    await asyncio.sleep(0)
    assert its.ask() == ["t"]
    its.answer(told((1, 0), (1, 0), (1, 0)))
    assert await task == (0, 1, 2)
    its.topics.close()


@pytest.mark.virtual_time
async def test_partitions_that_do_not_become_known_in_time_are_an_error() -> None:
    its = TopicsInUse(as_manual(asyncio.get_running_loop()), max_block_ms=5_000)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(KafkaTimeoutError, match="max_block_ms"):
        await its.topics.partitions_for("t")
    assert asyncio.get_running_loop().time() - begun == pytest.approx(5)
    assert its.topic().watchers == []
    its.topics.close()


@pytest.mark.virtual_time
async def test_partitions_of_a_denied_topic_are_an_error_at_once_for_each_who_asks() -> None:
    its = TopicsInUse(as_manual(asyncio.get_running_loop()))
    tasks = [asyncio.create_task(its.topics.partitions_for("t")) for _ in range(2)]
    await asyncio.sleep(0)
    its.answer(told(error_code=DENIED))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [TopicAuthorizationFailedError] * 2
    assert errors[0] is not errors[1]
    its.topics.close()


@pytest.mark.virtual_time
async def test_who_no_longer_asks_for_partitions_leaves_the_others_waiting() -> None:
    its = TopicsInUse(as_manual(asyncio.get_running_loop()))
    leaving, staying = (asyncio.create_task(its.topics.partitions_for("t")) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    its.answer(told((1, 0)))
    assert await staying == (0,)
    assert its.topic().watchers == []
    its.topics.close()


@pytest.mark.virtual_time
async def test_asking_for_the_partitions_of_what_is_no_topic_is_refused() -> None:
    its = TopicsInUse(as_manual(asyncio.get_running_loop()))
    with pytest.raises(InvalidTopicError):
        await its.topics.partitions_for("a b")


def as_manual(loop: asyncio.AbstractEventLoop) -> Any:
    """Stand for a `ManualLoop`, where a real loop is needed."""

    class Real:
        def as_loop(self) -> asyncio.AbstractEventLoop:
            return loop

    return Real()


# ---- forgetting


def test_an_unknown_topic_that_nobody_uses_is_forgotten_after_seconds() -> None:
    its = TopicsInUse(max_block_ms=500)
    its.put()
    its.loop.advance(1)
    assert [*its.topics.by_name] == ["t"]
    its.loop.advance(5)
    assert dict(its.topics.by_name) == {}
    assert its.loop.timers == []


def test_an_unknown_topic_that_records_wait_for_is_not_forgotten() -> None:
    its = TopicsInUse(max_block_ms=60_000)
    its.put()
    its.loop.advance(30)
    assert [*its.topics.by_name] == ["t"]
    its.loop.advance(40)
    assert dict(its.topics.by_name) == {}


def test_a_stream_of_names_that_are_used_once_leaves_nothing_behind() -> None:
    its = TopicsInUse(max_block_ms=500)
    most = 0
    for index in range(2_000):
        its.put(f"name-{index}")
        its.ask()
        its.answer(told(name=f"name-{index}", error_code=UNKNOWN_TOPIC))
        its.loop.advance(0.01)
        most = max(most, len(its.topics.by_name))
    its.loop.advance(10)
    assert most < 600
    assert dict(its.topics.by_name) == {}
    assert its.accumulator.buffer_used == 0


def idle_after(its: TopicsInUse, seconds: float) -> list[str]:
    its.loop.advance(seconds)
    return [*its.topics.by_name]


def test_a_known_topic_that_nobody_uses_is_forgotten_after_metadata_max_idle_ms() -> None:
    its = TopicsInUse(metadata_max_idle_ms=100_000)
    its.know((1, 0))
    its.put()
    its.end_all()
    assert idle_after(its, 99) == ["t"]
    assert idle_after(its, 30) == []
    assert its.forgotten == [("t", 0)]


def test_a_topic_with_records_on_their_way_is_not_forgotten() -> None:
    its = TopicsInUse(metadata_max_idle_ms=10_000)
    its.know((1, 0))
    its.put()
    assert idle_after(its, 100) == ["t"]
    its.end_all()
    assert idle_after(its, 100) == []


def test_a_topic_that_is_used_now_and_then_is_kept() -> None:
    its = TopicsInUse(metadata_max_idle_ms=10_000)
    topic = its.know((1, 0))
    for _ in range(20):
        its.put()
        topic.used_at = its.loop.now
        its.end_all()
        assert idle_after(its, 9) == ["t"]
    assert idle_after(its, 20) == []


def test_idle_topics_are_forgotten_together() -> None:
    its = TopicsInUse(metadata_max_idle_ms=100_000)
    for index in range(10):
        name = f"t{index}"
        its.know((1, 0), name=name)
        its.put(name)
        its.end_all(name)
        its.loop.advance(1)
    left: list[int] = [10]
    for _ in range(200):
        its.loop.advance(1)
        if len(its.topics.by_name) != left[-1]:
            left.append(len(its.topics.by_name))
    # Each time costs every partition a new epoch.
    assert len(left) <= 3
    assert left[-1] == 0


def test_a_topic_that_was_in_trouble_once_is_kept_by_nobody_when_it_is_forgotten() -> None:
    its = TopicsInUse(metadata_max_idle_ms=10_000)
    its.know((1, 0), name="troubled")
    its.answer(told(name="troubled", error_code=DENIED))
    its.answer(told((1, 0), name="troubled"))
    its.loop.advance(5)
    assert its.ask() == []
    its.loop.advance(60)
    assert dict(its.topics.by_name) == {}
    gc.collect()
    topics = [found for found in gc.get_objects() if isinstance(found, Topic)]
    assert "troubled" not in {topic.name for topic in topics}


def test_a_topic_that_was_forgotten_begins_again() -> None:
    its = TopicsInUse(metadata_max_idle_ms=10_000)
    its.know((1, 0))
    its.loop.advance(60)
    assert dict(its.topics.by_name) == {}
    delivery: Delivery = its.put()
    assert its.ask() == ["t"]
    assert not its.topic().is_known
    its.answer(told((2, 0)))
    assert its.queue().leader == (2, 0)
    assert not delivery.done()


def test_closing_ends_the_timers() -> None:
    its = TopicsInUse()
    its.put()
    its.know((1, 0), name="known")
    assert its.loop.timers
    its.topics.close()
    assert its.loop.timers == []


# ---- the sticky partition


def test_records_without_key_go_to_partitions_of_brokers_that_take_something() -> None:
    its = TopicsInUse(partitioner_availability_timeout_ms=1_000)
    topic = its.know((1, 0), (2, 0))
    its.stalled.add(1)
    assert {its.topics.next_sticky_partition(topic) for _ in range(20)} == {1}


def test_when_every_broker_is_stalled_any_partition_will_do() -> None:
    its = TopicsInUse(partitioner_availability_timeout_ms=1_000)
    topic = its.know((1, 0))
    its.stalled.update((1, 2))
    assert its.topics.next_sticky_partition(topic) == 0


def test_where_batches_wait_fewer_records_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    its = TopicsInUse()
    topic = its.know((1, 0), (1, 0))
    for partition in (0, 1):
        its.put(partition=partition)
    for _ in range(3):
        its.queue(0).close_open()
        its.put(partition=0)
    drawn: list[int] = []
    for index in range(100):
        monkeypatch.setattr(random, "random", lambda at=index / 100: at)
        its.loop.hold(1)
        drawn.append(its.topics.next_sticky_partition(topic))
    assert drawn.count(1) > 70


def test_new_leaders_are_weighed_at_once() -> None:
    its = TopicsInUse()
    topic = its.know((1, 0), (NO_LEADER, 0))
    assert its.topics.next_sticky_partition(topic) == 0
    its.answer(told((NO_LEADER, 1), (1, 1)))
    assert its.topics.next_sticky_partition(topic) == 1


# ---- what a topic takes


def test_a_learnt_limit_holds_for_present_and_future_partition_queues() -> None:
    its = TopicsInUse()
    topic = its.know((1, 0), (1, 0))
    its.put(partition=0)
    its.topics.limit_batches(topic, 50_000, refused_size=100_000)
    its.put(partition=1)
    assert [queue.batch_limit for queue in topic.partition_queues] == [50_000, 50_000]
    assert (topic.batch_limit, topic.refused_size) == (50_000, 100_000)


def test_a_topic_of_many_partitions_makes_queues_for_those_with_records_only() -> None:
    its = TopicsInUse()
    topic = its.know(*[(1, 0)] * 10_000)
    its.put(partition=9_999)
    assert len(topic.partition_queues) == 1
    assert topic.topic_id == ID
