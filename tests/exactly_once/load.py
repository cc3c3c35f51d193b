"""One client in a process of its own: `python -m tests.exactly_once.load NAME JOB`.

Every client runs the same script of transactions. What differs is `clients.py`: how each is opened,
called, and what its documentation says to do after an error. Nothing here knows of the faults.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from tests.chaos.clients import Orders, ready
from tests.exactly_once.clients import Client, Options, Step, client_of, name_of
from tests.exactly_once.ledger import Ledger, Outcome, Transaction

__all__ = ["PARTITIONS", "Job"]

PARTITIONS = 3
"""Of each topic."""

_MOST_RECORDS = 6
_ABORTED_SHARE = 0.15
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.1
_TURNS = (1.5, 3.5)
"""For how many seconds a writer that was fenced leaves its id to the other one."""

PATIENCE = 45.0
"""Seconds after which a call that has not returned will not; each has bounds far below."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a client has to do.

    Attributes:
        bootstrap_servers: Its way to the cluster.
        topics: Where the records go.
        origin: The run and the client, for the values.
        ledger: Where to write the ledger.
        ids: The transactional ids with one writer each.
        shared_ids: Those with two writers, which fence each other.
        options: The client's.
    """

    bootstrap_servers: str
    topics: list[str]
    origin: str
    ledger: str
    ids: list[str]
    shared_ids: list[str]
    options: Options = field(default_factory=Options)

    def to_json(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        read = json.loads(text)
        return cls(**read | {"options": Options(**read["options"])})


class Writer:
    """Makes one transaction after the other, with one producer after the other if need be.

    Args:
        name: The writer's, in the ledger.
        transactional_id: The producers'.
        takes_turns: Whether it shares the id with another writer.
        has_last_word: Whether it commits once more after the end; one writer of each id does.
        job: The client's.
        ledger: Gets the transactions.
        orders: Tell when it is over.
        make_client: Makes a client that is not opened.

    Attributes:
        opened_once: Set when the first client was opened.
    """

    def __init__(
        self,
        name: str,
        transactional_id: str,
        *,
        takes_turns: bool,
        has_last_word: bool,
        job: Job,
        ledger: Ledger,
        orders: Orders,
        make_client: Callable[[str], Client],
    ) -> None:
        self.opened_once = asyncio.Event()
        self._name = name
        self._transactional_id = transactional_id
        self._takes_turns = takes_turns
        self._has_last_word = has_last_word
        self._job = job
        self._ledger = ledger
        self._orders = orders
        self._make_client = make_client
        # The same for each client.
        self._random = random.Random(job.origin.partition("/")[0] + name)
        self._number = 0
        self._is_done = False
        """Whether a transaction that began after the end is committed."""

    async def run(self) -> None:
        """Make transactions until the end, and then until one more is committed."""
        while self._goes_on():
            client = self._make_client(self._transactional_id)
            try:
                await self._call(client, client.open)
                opened = self._ledger.opened
                opened[self._name] = opened.get(self._name, 0) + 1
                self.opened_once.set()
                await asyncio.to_thread(self._orders.go.wait)
                while self._goes_on() and await self._transact(client):
                    await self._pause()
            except Exception as error:
                print(f"{self._name} was not opened: {_said(error)}", file=sys.stderr)
                await asyncio.sleep(0.5)
            finally:
                await self._close(client)
            if self._takes_turns and not self._orders.is_over:
                await asyncio.sleep(self._random.uniform(*_TURNS))

    def _goes_on(self) -> bool:
        ledger = self._ledger
        if not self._orders.is_over:
            return True
        if not ledger.over_at:
            ledger.over_at = time.monotonic()
        is_late = time.monotonic() > ledger.over_at + PATIENCE
        return self._has_last_word and not is_late and not self._is_done

    async def _transact(self, client: Client) -> bool:
        """Make one transaction; return whether the client can go on."""
        transaction = Transaction(
            self._name,
            self._transactional_id,
            self._number,
            count=self._random.randint(1, _MOST_RECORDS),
            wants_abort=self._random.random() < _ABORTED_SHARE,
            called_at=time.monotonic(),
        )
        self._number += 1
        self._ledger.transactions.append(transaction)
        may_be_committed = False
        try:
            await self._call(client, client.begin)
            try:
                await self._send(client, transaction)
            except Exception as error:
                # Whatever it was: what is not whole must not be committed.
                transaction.error = _said(error)
            if transaction.wants_abort or transaction.error:
                await self._call(client, client.abort)
                transaction.told(Outcome.ABORTED)
            else:
                may_be_committed = True
                await self._call(client, client.commit)
                transaction.told(Outcome.COMMITTED)
                self._is_done = 0 < self._ledger.over_at <= transaction.called_at
        except Exception as error:
            transaction.error = transaction.error or _said(error)
            if not may_be_committed:
                transaction.told(Outcome.ABORTED)
            elif client.next_step(error) is Step.ABORT:
                transaction.told(Outcome.ABORTED)
                return await self._abort(client, error)
            else:
                transaction.told(Outcome.UNKNOWN)
            return False
        return True

    async def _abort(self, client: Client, why: Exception) -> bool:
        """Abort what could not be committed; return whether that was possible."""
        try:
            await self._call(client, client.abort)
        except Exception as error:
            print(f"{self._name}, after {_said(why)}: {_said(error)}", file=sys.stderr)
            return False
        return True

    async def _send(self, client: Client, transaction: Transaction) -> None:
        for index in range(transaction.count):
            topic = self._random.choice(self._job.topics)
            partition = self._random.randrange(PARTITIONS)
            await self._within_patience(
                client.send(topic, partition, self._ledger.value(transaction, index)), "send"
            )
            if self._random.random() < 0.3:
                await self._pause()
        if not transaction.wants_abort:
            await self._within_patience(client.flush(), "flush")

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE))

    async def _close(self, client: Client) -> None:
        try:
            await self._within_patience(client.close(), "close")
        except Exception as error:
            print(f"{self._name} was not closed: {_said(error)}", file=sys.stderr)

    async def _call(self, client: Client, call: Callable[[], Awaitable[None]]) -> None:
        """Call until there is an answer other than that it is to be called again."""
        give_up_at = time.monotonic() + PATIENCE
        while True:
            try:
                await self._within_patience(call(), call.__name__)
                return
            except Exception as error:
                if client.next_step(error) is not Step.AGAIN or time.monotonic() > give_up_at:
                    raise

    async def _within_patience(self, call: Awaitable[None], name: str) -> None:
        async with asyncio.timeout(PATIENCE) as bound:
            try:
                await call
            finally:
                if bound.expired():
                    self._ledger.hung.append(f"{self._name}: {name}()")


def _said(error: Exception) -> str:
    return f"{name_of(error)}: {error}"[:300]


async def _run(name: str, job: Job, orders: Orders, ledger: Ledger) -> None:
    # A call of confluent-kafka takes a thread for as long as it lasts.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))
    make_client = client_of(name, job.bootstrap_servers, job.options)
    names = {one: [f"alone-{place}"] for place, one in enumerate(job.ids)}
    names |= {
        one: [f"turns-{place}-{who}" for who in "ab"] for place, one in enumerate(job.shared_ids)
    }
    writers = [
        Writer(
            writer,
            transactional_id,
            takes_turns=len(each) > 1,
            has_last_word=writer == each[0],
            job=job,
            ledger=ledger,
            orders=orders,
            make_client=make_client,
        )
        for transactional_id, each in names.items()
        for writer in each
    ]
    tasks = [asyncio.create_task(writer.run()) for writer in writers]
    for writer in writers:
        await writer.opened_once.wait()
    await asyncio.to_thread(ready, orders)
    await asyncio.gather(*tasks)


def main() -> None:
    """Be the client that the command line names."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    name, text = sys.argv[1:]
    job = Job.from_json(text)
    orders, ledger = Orders(), Ledger(job.origin)
    orders.listen()
    try:
        asyncio.run(_run(name, job, orders, ledger))
    finally:
        ledger.write(Path(job.ledger))


if __name__ == "__main__":
    main()
