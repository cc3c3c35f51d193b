from __future__ import annotations

import asyncio
import socket
import uuid

import pytest

from aioproducer.testing import FakeCluster
from tests.support.kio_client import KioClient, batch, connected, produce_request
from tests.unit.testing.apis.test_metadata import asked


def address(cluster: FakeCluster, node_id: int = 0) -> str:
    return f"127.0.0.1:{cluster.ports[node_id]}"


async def cannot_connect(cluster: FakeCluster, node_id: int) -> bool:
    try:
        async with connected(address(cluster, node_id)) as client:
            await client.ask(asked(12, []))
    except ConnectionRefusedError:
        return True
    return False


async def is_reset(client: KioClient) -> bool:
    try:
        return await client.reader.read(1) == b""
    except ConnectionResetError:
        return True


async def test_records_are_returned_by_partition_and_offset() -> None:
    async with FakeCluster(topics={"t": 2}) as cluster, connected(address(cluster)) as client:
        await client.produce("t", 1, batch(b"b", b"c"))
        await client.produce("t", 0, batch(b"a"))
        found = [(one.partition, one.offset, one.value) for one in cluster.records("t")]
        assert found == [(0, 0, b"a"), (1, 0, b"b"), (1, 1, b"c")]
        assert [one.value for one in cluster.records("t", 1)] == [b"b", b"c"]
        assert (cluster.next_offset("t", 0), cluster.next_offset("t", 1)) == (1, 2)
        cluster.expect_clean()
    assert len(cluster.records("t")) == 3


async def test_a_topic_nobody_made_has_no_records() -> None:
    async with FakeCluster() as cluster:
        assert cluster.records("t") == []


async def test_a_cluster_has_to_be_started_and_only_once() -> None:
    cluster = FakeCluster()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = cluster.bootstrap_servers
    async with cluster:
        with pytest.raises(RuntimeError, match="started before"):
            await cluster.start()


async def test_a_cluster_needs_a_broker() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FakeCluster(brokers=0)


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="no option 'topic'"):
        FakeCluster(topic={"t": 1})  # type: ignore[call-arg]  # pyright: ignore


async def test_leaders_are_spread_and_listed() -> None:
    async with FakeCluster(brokers=3, topics={"t": 4}) as cluster:
        assert [cluster.leader("t", index) for index in range(4)] == [0, 1, 2, 0]
        assert len(cluster.bootstrap_servers.split(",")) == 3


async def test_a_leader_moves_in_a_new_epoch() -> None:
    async with FakeCluster(brokers=2, topics={"t": 1}) as cluster:
        cluster.move_leader("t", 0, 1)
        assert (cluster.leader("t", 0), cluster.leader_epoch("t", 0)) == (1, 1)
        async with connected(address(cluster)) as client:
            answer = await client.produce("t", 0, batch())
        assert answer.error_code == 6
        assert (answer.current_leader.leader_id, answer.current_leader.leader_epoch) == (1, 1)
        cluster.move_leader("t", 0, -1)
        assert cluster.leader("t", 0) == -1
        with pytest.raises(LookupError, match="no broker 7"):
            cluster.move_leader("t", 0, 7)


async def test_a_recreated_topic_has_another_id_and_no_records() -> None:
    async with FakeCluster() as cluster, connected(address(cluster)) as client:
        first = cluster.create_topic("t", 1)
        await client.produce(first, 0, batch())
        cluster.delete_topic("t")
        second = cluster.create_topic("t", 1)
        assert (await client.produce(first, 0, batch())).error_code == 100
        assert (await client.produce(second, 0, batch(b"new"))).base_offset == 0
        assert [one.value for one in cluster.records("t")] == [b"new"]


async def test_a_topic_may_have_its_own_limits() -> None:
    async with FakeCluster() as cluster, connected(address(cluster)) as client:
        cluster.create_topic("small", 1, message_max_bytes=80)
        cluster.create_topic("stamped", 1, message_timestamp_type="LogAppendTime")
        assert (await client.produce("small", 0, batch(b"x" * 50))).error_code == 10
        assert (await client.produce("stamped", 0, batch())).log_append_time is not None
        assert cluster.records("stamped")[0].timestamp_type == "LogAppendTime"


async def test_partitions_can_be_added() -> None:
    async with FakeCluster(brokers=2, topics={"t": 1}) as cluster:
        cluster.add_partitions("t", 3)
        assert [cluster.leader("t", index) for index in range(3)] == [0, 1, 0]
        with pytest.raises(ValueError, match="3 is no more"):
            cluster.add_partitions("t", 3)


async def test_what_cannot_be_is_refused() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster:
        with pytest.raises(ValueError, match="legal"):
            cluster.create_topic("no way")
        with pytest.raises(ValueError, match="exists"):
            cluster.create_topic("t")
        with pytest.raises(ValueError, match="at least one"):
            cluster.create_topic("u", 0)
        with pytest.raises(LookupError, match="no topic"):
            cluster.delete_topic("u")
        with pytest.raises(LookupError, match="no partition"):
            cluster.leader("t", 1)


async def test_a_stopped_broker_refuses_resets_and_loses_its_partitions() -> None:
    async with FakeCluster(brokers=2, topics={"t": 2}) as cluster:
        async with connected(address(cluster, 1)) as client:
            await client.ask(asked(12, []))
            await cluster.stop_broker(1)
            assert await is_reset(client)
        assert await cannot_connect(cluster, 1)
        assert (cluster.leader("t", 1), cluster.leader_epoch("t", 1)) == (0, 1)
        async with connected(address(cluster)) as client:
            response = await client.ask(asked(12, ["t"]))
        assert [node.node_id for node in response.brokers] == [0]
        assert cluster.connections == {0: 1, 1: 0} or cluster.connections == {0: 0, 1: 0}


async def test_a_broker_comes_back_on_its_port_and_takes_what_has_no_leader() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster:
        ports = cluster.ports
        await cluster.stop_broker(0)
        assert cluster.leader("t", 0) == -1
        await cluster.start_broker(0)
        assert cluster.ports == ports
        assert (cluster.leader("t", 0), cluster.leader_epoch("t", 0)) == (0, 2)
        async with connected(address(cluster)) as client:
            assert (await client.produce("t", 0, batch())).error_code == 0


async def test_leaders_may_stay_where_they_were() -> None:
    async with FakeCluster(brokers=2, topics={"t": 2}) as cluster:
        await cluster.stop_broker(1, move_leaders=False)
        assert cluster.leader("t", 1) == 1
        async with connected(address(cluster)) as client:
            (topic,) = (await client.ask(asked(12, ["t"]))).topics
        assert [one.error_code for one in topic.partitions] == [0, 5]


async def test_another_address_may_be_advertised_than_the_one_listened_on() -> None:
    async with FakeCluster(brokers=2, topics={"t": 1}) as cluster:
        true = address(cluster)
        cluster.advertise(1, "proxy.test", 1234)
        async with connected(true) as client:
            metadata = await client.ask(asked(12, ["t"]))
            cluster.move_leader("t", 0, 1)
            answer = await client.ask(produce_request({("t", 0): batch()}))
        addresses = [(broker.node_id, broker.host, broker.port) for broker in metadata.brokers]
        assert addresses == [(0, "127.0.0.1", cluster.ports[0]), (1, "proxy.test", 1234)]
        (hint,) = answer.node_endpoints
        assert (hint.node_id, hint.host, hint.port) == (1, "proxy.test", 1234)
        assert cluster.bootstrap_servers == f"{true},proxy.test:1234"
        assert cluster.ports[1] != 1234
        with pytest.raises(LookupError, match="no broker 7"):
            cluster.advertise(7, "proxy.test", 1234)


async def test_a_broker_that_refuses_serves_its_open_connections() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster:
        async with connected(address(cluster)) as client:
            await client.ask(asked(12, []))
            cluster.refuse(0)
            assert await cannot_connect(cluster, 0)
            assert (await client.produce("t", 0, batch())).error_code == 0
        cluster.refuse(0)
        await cluster.accept(0)
        await cluster.accept(0)
        assert not await cannot_connect(cluster, 0)


async def test_open_connections_are_cut() -> None:
    async with (
        FakeCluster(brokers=2) as cluster,
        connected(address(cluster, 0)) as first,
        connected(address(cluster, 1)) as second,
    ):
        for client in (first, second):
            await client.ask(asked(12, []))
        assert cluster.connections == {0: 1, 1: 1}
        cluster.cut(0)
        assert await is_reset(first)
        await second.ask(asked(12, []))
        cluster.cut()
        assert await is_reset(second)


async def test_requests_are_remembered_up_to_a_bound() -> None:
    async with (
        FakeCluster(topics={"t": 1}, request_history=2) as cluster,
        connected(address(cluster)) as client,
    ):
        await client.ask(asked(12, ["t"]))
        await client.produce("t", 0, batch(b"a", b"b"), acks=1, version=9)
        await client.ask(asked(9, ["t"]))
        assert [one.api for one in cluster.requests] == ["produce", "metadata"]
        (request,) = cluster.requests_of("produce")
        assert (request.version, request.acks, request.topics) == (9, 1, ("t",))
        assert (request.node_id, request.connection, request.client_id) == (0, 1, "kio")
        assert request.batches[0].record_count == 2
        assert request.received_at <= asyncio.get_running_loop().time()


async def test_one_can_wait_for_requests() -> None:
    async with FakeCluster() as cluster, connected(address(cluster)) as client:
        waiting = asyncio.ensure_future(cluster.received("metadata", 2))
        await client.ask(asked(12, []))
        assert not waiting.done()
        await client.ask(asked(12, []))
        await waiting
        await cluster.received("metadata")


async def test_who_waits_for_a_request_is_cancelled_at_the_end() -> None:
    async with FakeCluster() as cluster:
        waiting = asyncio.ensure_future(cluster.received("produce"))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_client_that_misbehaves_is_reported() -> None:
    async with FakeCluster(topics={"t": 2}) as cluster, connected(address(cluster)) as client:
        cluster.expect_clean()
        await client.produce("t", 0, batch(attributes=0x20))
        await client.produce("t", 1, batch(payload=b"nonsense"))
        header, stored = cluster.violations
        assert "attributes" in header
        assert stored.startswith("t-1: ")
        with pytest.raises(AssertionError, match=r"misbehaved:\nbroker 0, connection 1, produce"):
            cluster.expect_clean()


async def test_producers_topics_and_logs_can_be_damaged() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        for value in (b"a", b"b", b"c"):
            await client.produce("t", 0, batch(value))
        cluster.truncate("t", 0, 2)
        cluster.trim("t", 0, 1)
        cluster.forget_producers("t", 0)
        assert [one.value for one in cluster.records("t")] == [b"b"]
        answer = await client.produce("t", 0, batch())
        assert (answer.base_offset, answer.log_start_offset) == (2, 1)


async def test_all_responses_have_the_throttle_time() -> None:
    async with (
        FakeCluster(topics={"t": 1}, throttle_ms=70) as cluster,
        connected(address(cluster)) as client,
    ):
        response = await client.ask(produce_request({("t", 0): batch()}))
        assert response.throttle_time.total_seconds() == 0.07
        cluster.throttle_ms = 0
        assert (await client.ask(asked(12, []))).throttle_time.total_seconds() == 0


async def test_a_topic_is_found_by_the_id_it_was_made_with() -> None:
    async with FakeCluster() as cluster, connected(address(cluster)) as client:
        topic_id = cluster.create_topic("t")
        assert isinstance(topic_id, uuid.UUID)
        (topic,) = (await client.ask(asked(12, ["t"]))).topics
        assert (topic.topic_id, len(topic.partitions)) == (topic_id, 1)


async def test_no_response_waits_for_the_client_to_acknowledge_another() -> None:
    async with FakeCluster() as cluster, connected(address(cluster)) as client:
        await client.ask(asked(12, []))
        (connection,) = cluster._brokers[0].connections  # pyright: ignore[reportPrivateUsage]
        # Nothing public tells; it would cost 40 ms now and then.
        transport = connection._transport  # pyright: ignore[reportPrivateUsage]
        assert transport is not None
        sock: socket.socket = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
