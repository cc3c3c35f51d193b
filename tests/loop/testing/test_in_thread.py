"""The cluster in a thread of its own, called from synchronous tests and from other threads."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_type_hints

import pytest

from aioproducer import Producer, RecordMetadata
from aioproducer.errors import NotLeaderOrFollowerError
from aioproducer.testing import Fail, FakeCluster, FakeClusterInThread, FakeRequest
from tests.support.producing import fast


def send(cluster: FakeClusterInThread, *values: bytes, topic: str = "t") -> list[RecordMetadata]:
    """Send with a producer of its own, on a loop of its own."""

    async def main() -> list[RecordMetadata]:
        async with Producer(bootstrap_servers=cluster.bootstrap_servers, **fast()) as producer:
            return await producer.send_many(topic, values)

    return asyncio.run(main())


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "aioproducer-fake-cluster"]


def test_records_of_a_synchronous_test_are_seen() -> None:
    with FakeCluster.in_thread(topics={"t": 3}) as cluster:
        send(cluster, b"1", b"2")
        assert [record.value for record in cluster.records("t")] == [b"1", b"2"]
        assert len(cluster.requests_of("produce")) == 1
        assert cluster.requests[-1].api == "produce"
        assert cluster.leader("t", 2) == 0
        cluster.expect_clean()
    assert len(cluster.records("t")) == 2


def test_faults_are_ordered_by_plain_calls() -> None:
    with FakeCluster.in_thread(brokers=2, topics={"t": 1}) as cluster:
        cluster.fail_next("produce", NotLeaderOrFollowerError)
        cluster.edit_next("metadata", lambda response: response.topics.reverse())
        send(cluster, b"1")
        cluster.stop_broker(0)
        assert cluster.leader("t", 0) == 1
        send(cluster, b"2")
        cluster.start_broker(0)
        cluster.refuse(0)
        cluster.accept(0)
        cluster.move_leader("t", 0, 0)
        send(cluster, b"3")
        assert [record.value for record in cluster.records("t")] == [b"1", b"2", b"3"]
        assert [one.node_id for one in cluster.requests_of("produce")] == [0, 0, 1, 0]


def test_a_function_sees_each_request_on_the_clusters_own_thread() -> None:
    seen: list[tuple[str, str, int]] = []

    def look(request: FakeRequest) -> Fail | None:
        # Calls of the cluster from here do not wait for themselves.
        seen.append((request.api, threading.current_thread().name, cluster.next_offset("t", 0)))
        return None

    with FakeCluster.in_thread(topics={"t": 1}) as cluster:
        stop_looking = cluster.on_request(look)
        send(cluster, b"1")
        stop_looking()
        send(cluster, b"2")
    assert ("produce", "aioproducer-fake-cluster", 0) in seen
    assert not [one for one in seen if one[2] > 1]


def test_a_call_that_waits_cannot_be_made_by_such_a_function() -> None:
    raised: list[BaseException] = []

    def stop(request: FakeRequest) -> None:
        try:
            cluster.stop_broker(0)
        except RuntimeError as error:
            raised.append(error)

    with FakeCluster.in_thread(topics={"t": 1}) as cluster:
        cluster.on_request(stop)
        send(cluster, b"1")
    assert "cannot wait" in str(raised[0])


def test_requests_are_waited_for() -> None:
    with FakeCluster.in_thread(topics={"t": 1}) as cluster, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, cluster, b"1")
        cluster.received("produce")
        assert cluster.records("t")
        sending.result()
        with pytest.raises(TimeoutError, match=r"1 of 2 produce requests arrived within 0\.01 s"):
            cluster.received("produce", 2, timeout=0.01)


def test_an_error_is_raised_where_the_call_was_made() -> None:
    with FakeCluster.in_thread() as cluster:
        with pytest.raises(LookupError, match="no topic"):
            cluster.leader("nothing", 0)
        with pytest.raises(LookupError, match="no broker 7"):
            cluster.stop_broker(7)


def test_a_cluster_ends_with_the_block_that_raises() -> None:
    with pytest.raises(ZeroDivisionError), FakeCluster.in_thread():
        _ = 1 / 0
    assert threads() == []


def test_a_cluster_ends_while_requests_hang() -> None:
    with FakeCluster.in_thread(topics={"t": 1}) as cluster, ThreadPoolExecutor(1) as pool:
        cluster.freeze()
        sending = pool.submit(send, cluster, b"1")
        cluster.received("api_versions")
        cluster.close()
        assert threads() == []
        assert sending.exception(timeout=10) is not None


def test_a_cluster_that_is_closed_stays_closed() -> None:
    cluster = FakeCluster.in_thread()
    cluster.close()
    with cluster:
        cluster.close()
        with pytest.raises(RuntimeError, match="does not run"):
            cluster.clear()
        with pytest.raises(RuntimeError, match="started before"):
            cluster.start()
    assert threads() == []


def test_a_cluster_that_nobody_closed_warns_and_ends() -> None:
    cluster = FakeCluster.in_thread(topics={"t": 1})
    cluster.start()
    (thread,) = (one for one in threading.enumerate() if one.name == "aioproducer-fake-cluster")
    assert thread.daemon
    with pytest.warns(ResourceWarning, match="never closed"):
        del cluster
        gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_a_cluster_that_cannot_start_leaves_no_thread() -> None:
    with FakeCluster.in_thread() as first:
        second = FakeCluster.in_thread(ports=[first.ports[0]])
        with pytest.raises(OSError, match=f"port {first.ports[0]} of 127.0.0.1 is taken"):
            second.start()
        assert len(threads()) == 1


def test_the_cluster_of_a_loop_can_be_called_from_other_threads() -> None:
    async def main() -> None:
        async with FakeCluster(topics={"t": 1}) as cluster:
            await asyncio.to_thread(cluster.move_leader, "t", 0, -1)
            assert await asyncio.to_thread(cluster.leader, "t", 0) == -1
            with pytest.raises(LookupError):
                await asyncio.to_thread(cluster.leader, "nothing", 0)

    asyncio.run(main())


def test_both_clusters_have_the_same_calls() -> None:
    lifecycle = {"start", "aclose", "close", "in_thread"}

    def public(kind: type[Any]) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")} - lifecycle

    assert public(FakeCluster) == public(FakeClusterInThread)
    for name in public(FakeCluster):
        ours, theirs = getattr(FakeCluster, name), getattr(FakeClusterInThread, name)
        assert not inspect.iscoroutinefunction(theirs)
        if inspect.iscoroutinefunction(ours):
            parameters = dict(inspect.signature(theirs).parameters)
            parameters.pop("timeout", None)
            assert parameters == dict(inspect.signature(ours).parameters)
            assert get_type_hints(ours) == {
                hint: kind for hint, kind in get_type_hints(theirs).items() if hint != "timeout"
            }
