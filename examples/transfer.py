"""Transfers between accounts: a debit and a credit in two topics, both or neither.

Run by hand: python examples/transfer.py --bootstrap-servers localhost:9092
"""

from __future__ import annotations

import argparse
import asyncio
import random
from dataclasses import dataclass

from aioproducer import Producer, Topic


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a transfer."""

    transfer: int
    cents: int


class NotEnoughMoneyError(Exception):
    """The debtor cannot pay: the transfer is not made."""


class Bank:
    """Moves money between accounts, and writes each transfer to Kafka as a whole."""

    def __init__(self, producer: Producer, debits: str, credits: str) -> None:
        self.balances: dict[str, int] = {f"account-{number}": 10_000 for number in range(10)}
        self._producer = producer
        self._debits = Topic(debits, key=str, value=Entry)
        self._credits = Topic(credits, key=str, value=Entry)

    async def transfer(self, number: int, debtor: str, creditor: str, cents: int) -> None:
        """Make one transfer; return when it is committed."""
        entry = Entry(number, cents)
        async with self._producer.transaction():
            await self._producer.send(self._debits, entry, key=debtor)
            if self.balances[debtor] < cents:
                # The debit was sent, maybe stored; no reader of committed records sees it.
                raise NotEnoughMoneyError(debtor)
            await self._producer.send(self._credits, entry, key=creditor)
        self.balances[debtor] -= cents
        self.balances[creditor] += cents


async def run(bootstrap_servers: str, debits: str, credits: str, count: int) -> int:
    """Make `count` transfers; return how many were committed."""
    committed = 0
    async with Producer(
        bootstrap_servers=bootstrap_servers, transactional_id=f"transfers-{debits}"
    ) as producer:
        bank = Bank(producer, debits, credits)
        for number in range(count):
            debtor, creditor = random.sample(sorted(bank.balances), 2)
            try:
                await bank.transfer(number, debtor, creditor, random.randrange(1, 8_000))
            except NotEnoughMoneyError:
                continue
            committed += 1
    return committed


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--transfers", type=int, default=200)
    arguments = parser.parse_args()
    made = asyncio.run(run(arguments.bootstrap_servers, "debits", "credits", arguments.transfers))
    print(f"{made} of {arguments.transfers} transfers committed")


if __name__ == "__main__":
    main()
