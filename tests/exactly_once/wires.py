"""What stands between each client and the brokers: a proxy for each of both, and how to cut them.

The brokers have a listener for each client and advertise the proxies' ports on it. So each client
is cut by the same rule, and it is known how often. Owns the thread that the proxies run in.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Final, NamedTuple

from tests.support.proxy import Proxy
from tools.kafka_java import Listener, LocalKafka

__all__ = ["NO_CUTS", "Cuts", "Wires", "bootstrap_servers_of", "listeners_for", "wires_between"]


def listeners_for(clients: Iterable[str]) -> dict[str, Listener]:
    """Return the listeners that brokers need, to be cut off from each client by itself."""
    return {client.upper(): Listener("PLAINTEXT", is_forwarded=True) for client in clients}


def bootstrap_servers_of(kafka: LocalKafka, client: str) -> str:
    """Return where a client finds the brokers: at its proxies."""
    return kafka.advertised_addresses[client.upper()]


class Cuts(NamedTuple):
    """How often EndTxn was not passed on, and how often its response."""

    before: int = 0
    after: int = 0


NO_CUTS: Final = Cuts()


class Wires:
    """The proxies of all clients. Its methods are for another thread than the proxies'.

    Args:
        loop: The proxies' loop.
        proxies: By client.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, proxies: dict[str, list[Proxy]]) -> None:
        self._loop = loop
        self._proxies = proxies

    def cut_requests(self) -> None:
        """Reset the connection of each proxy's next EndTxn instead of passing it on."""
        self._each(lambda proxy: proxy.requests.cut("end_txn", 0))

    def cut_answers(self) -> None:
        """Pass each proxy's next EndTxn on, and reset its connection instead of the response."""
        self._each(lambda proxy: proxy.answers.cut("end_txn", 0))

    def hold_answers(self) -> None:
        """Withhold the responses of EndTxn from now on, until `reset`."""
        self._each(lambda proxy: proxy.answers.cut("end_txn", 0, "hold", count=None))

    def let_pass(self) -> None:
        """Forget the cuts that have not happened."""

        def let_pass(proxy: Proxy) -> None:
            proxy.requests.flow()
            proxy.answers.flow()

        self._each(let_pass)

    def reset(self) -> None:
        """Forget all cuts, and reset every connection."""
        self.let_pass()
        self._each(Proxy.reset)

    def cuts(self) -> dict[str, Cuts]:
        """Return how often each client was cut."""
        return {
            client: Cuts(
                sum(proxy.requests.happened["cut"] for proxy in proxies),
                sum(proxy.answers.happened["cut"] for proxy in proxies),
            )
            for client, proxies in self._proxies.items()
        }

    def _each(self, do: Callable[[Proxy], None]) -> None:
        async def do_all() -> None:
            for proxies in self._proxies.values():
                for proxy in proxies:
                    do(proxy)

        asyncio.run_coroutine_threadsafe(do_all(), self._loop).result(timeout=30)


@contextmanager
def wires_between(clients: Iterable[str], kafka: LocalKafka) -> Generator[Wires]:
    """Put the proxies between clients and brokers that have `listeners_for` them."""
    proxies: dict[str, list[Proxy]] = {}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> None:
        for client in clients:
            targets = _ports(kafka.addresses[client.upper()])
            ports = _ports(bootstrap_servers_of(kafka, client))
            proxies[client] = [Proxy(*pair) for pair in zip(targets, ports, strict=True)]

    async def stop() -> None:
        for each in proxies.values():
            for proxy in each:
                await proxy.aclose()

    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=30)
        yield Wires(loop, proxies)
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _ports(addresses: str) -> list[int]:
    return [int(address.rpartition(":")[2]) for address in addresses.split(",")]
