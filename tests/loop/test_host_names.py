"""Host names that stand for several addresses (KIP-302), some of which do not answer.

The loop's own `getaddrinfo` is replaced, as a DNS server would be: the name stands for addresses
of the loopback network, of which the brokers listen on one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from aioproducer import Producer
from aioproducer.errors import KafkaConnectionError
from aioproducer.testing import FakeCluster
from tests.support.producing import FAST, TOPIC, producing, prove, values

NAME: Final = "kafka.test"
BROKER: Final = "127.0.0.1"
DEAD: Final = "127.0.0.2"
SILENT: Final = "127.0.0.3"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux answers on all of 127.0.0.0/8"
)


@pytest.fixture
def stands_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], list[str]]:
    """Return a function that makes the name stand for addresses, and lists its look-ups."""

    def set_addresses(addresses: list[str]) -> list[str]:
        loop = asyncio.get_running_loop()
        asked: list[str] = []

        async def getaddrinfo(host: str, port: object, **options: object) -> list[Any]:
            asked.append(host)
            assert host == NAME
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses
            ]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        return asked

    return set_addresses


@asynccontextmanager
async def named_cluster() -> AsyncGenerator[FakeCluster, None]:
    """One broker that calls itself by the name."""
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.advertise(0, NAME, cluster.ports[0])
        yield cluster


@asynccontextmanager
async def black_hole(port: int, *, accepts: bool) -> AsyncGenerator[socket.socket, None]:
    """Something silent on the broker's port of another address."""
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind((SILENT, port))
        listener.listen(16 if accepts else 0)
        if not accepts:
            # On Linux, a full backlog drops what comes.
            filler.connect((SILENT, port))
        yield listener


async def test_an_address_that_refuses_is_passed_over(
    stands_for: Callable[[list[str]], list[str]],
) -> None:
    async with named_cluster() as cluster:
        stands_for([DEAD, BROKER])
        async with producing(cluster) as producer:
            assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0


@pytest.mark.parametrize("accepts", [True, False], ids=["accepts", "drops"])
async def test_an_address_in_a_black_hole_does_not_eat_the_time_of_the_next(
    stands_for: Callable[[list[str]], list[str]], accepts: bool
) -> None:
    async with (
        named_cluster() as cluster,
        black_hole(cluster.ports[0], accepts=accepts),
    ):
        stands_for([SILENT, DEAD, BROKER])
        # The whole bound of a connection is longer than that of the start.
        async with producing(
            cluster, socket_connection_setup_timeout_ms=60_000, max_block_ms=2_000
        ) as producer:
            assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0


async def test_all_addresses_stay_within_one_bound_and_are_reported(
    stands_for: Callable[[list[str]], list[str]],
) -> None:
    loop = asyncio.get_running_loop()
    async with named_cluster() as cluster, black_hole(cluster.ports[0], accepts=True):
        stands_for([SILENT, DEAD])
        started_at = loop.time()
        with pytest.raises(KafkaConnectionError, match=r"no answer within 0\.1 s"):
            await Producer(
                bootstrap_servers=cluster.bootstrap_servers,
                **FAST
                | {
                    "max_block_ms": 150,
                    "socket_connection_setup_timeout_ms": 100,
                    "socket_connection_setup_timeout_max_ms": 100,
                },
            ).start()
        assert loop.time() - started_at < 1


async def test_addresses_that_all_refuse_are_each_reported(
    stands_for: Callable[[list[str]], list[str]],
) -> None:
    async with named_cluster() as cluster:
        stands_for([DEAD, SILENT])
        port = cluster.ports[0]
        with pytest.raises(KafkaConnectionError) as caught:
            await Producer(
                bootstrap_servers=cluster.bootstrap_servers, **FAST | {"max_block_ms": 50}
            ).start()
        for host in (DEAD, SILENT):
            assert f"{NAME}:{port} ({host}): connection refused" in str(caught.value)


async def test_a_name_is_resolved_again_after_a_connection_was_lost(
    stands_for: Callable[[list[str]], list[str]],
) -> None:
    async with named_cluster() as cluster:
        asked = stands_for([BROKER])
        async with producing(cluster) as producer:
            await prove(producer)
            before = len(asked)
            # The broker's host got another address.
            asked = stands_for([DEAD, BROKER])
            cluster.cut()
            assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
            assert before
            assert asked
        assert values(cluster) == [b"first", b"42"]


async def test_an_attempt_that_another_address_was_faster_than_is_ended(
    stands_for: Callable[[list[str]], list[str]],
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        named_cluster() as cluster,
        black_hole(cluster.ports[0], accepts=True) as listener,
    ):
        stands_for([SILENT, BROKER])
        listener.setblocking(False)
        async with producing(cluster) as producer:
            await prove(producer)
            late, _ = await loop.sock_accept(listener)
            with late:
                late.setblocking(False)
                heard = b""
                with contextlib.suppress(ConnectionResetError):
                    while part := await loop.sock_recv(late, 1_024):
                        heard += part
            # It asked for the versions, and hung up when the other one had told them.
            assert heard
