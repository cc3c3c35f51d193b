"""Read, transform, write: each order is enriched exactly once, whatever is killed meanwhile.

Run by hand, in several terminals at once if you like:
python examples/consume_transform_produce.py --bootstrap-servers localhost:9092

The consumer is aiokafka's. It does not say of which generation of its group it is (KIP-447), and a
committed offset that it asks for may be one that an open transaction is about to replace. So the
group only says who reads a partition. Who may write is settled by a transactional id for each
partition, the same in every instance:
    1. Whoever gets a partition starts a producer with the partition's id. That fences the instance
       that had the partition, be it dead, frozen or slow, and waits for its transaction's end.
    2. Only then it asks for the committed offset, and reads on from there.
"""

# aiokafka ships no types.
# pyright: basic

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from aioproducer import KafkaError, Producer


def enrich(order: bytes | None) -> bytes:
    """Add the tax to an order."""
    enriched = json.loads(order or b"")
    return json.dumps(enriched | {"tax_cents": enriched["cents"] * 19 // 100}).encode()


class Enricher(ConsumerRebalanceListener):  # type: ignore[misc]
    """Enriches the orders of the partitions that the group gives to this instance."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=options.bootstrap_servers,
            group_id=options.group,
            enable_auto_commit=False,  # the transactions do it
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            session_timeout_ms=6_000,  # so soon the others get what a dead instance had
            heartbeat_interval_ms=1_000,
        )
        self._producers: dict[TopicPartition, Producer] = {}
        self._aborts_in_a_row = 0
        self._working = asyncio.Lock()
        self._is_stopped = False

    def stop(self) -> None:
        """Let `run` end after the transactions under way."""
        self._is_stopped = True

    async def run(self) -> None:
        """Enrich orders until stopped. What does not pass is raised: a restart loses nothing."""
        self._consumer.subscribe([self._options.source], listener=self)
        async with self._consumer:
            try:
                while not self._is_stopped:
                    batches = await self._consumer.getmany(timeout_ms=500, max_records=500)
                    async with self._working:
                        for partition, messages in batches.items():
                            if partition in self._producers:
                                await self._forward(partition, messages)
                            else:
                                await self._take_over(partition)
            finally:
                await self._close_producers()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Finish the transaction under way before the partitions are given away."""
        async with self._working:
            await self._close_producers()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Do nothing: a partition is taken over with its first messages."""

    async def _take_over(self, partition: TopicPartition) -> None:
        """Fence who had the partition; drop what was read before, and read what is due."""
        producer = self._producers[partition] = Producer(
            bootstrap_servers=self._options.bootstrap_servers,
            transactional_id=f"{self._options.transactional_id}-{partition.partition}",
        )
        await producer.start()
        committed = await self._consumer.committed(partition)
        if committed is None:
            await self._consumer.seek_to_beginning(partition)
        else:
            self._consumer.seek(partition, committed)

    async def _forward(self, partition: TopicPartition, messages: Sequence[ConsumerRecord]) -> None:
        """Write what is made of these messages, and commit their offsets, both or neither."""
        producer = self._producers[partition]
        try:
            async with producer.transaction():
                for message in messages:
                    try:
                        enriched = enrich(message.value)
                    except Exception as error:
                        error.add_note(f"in {partition} at offset {message.offset}")
                        raise
                    await producer.send(self._options.target, enriched, key=message.key)
                await producer.send_offsets_to_transaction(
                    {partition: messages[-1].offset + 1}, self._options.group
                )
        except KafkaError as error:
            self._aborts_in_a_row += 1
            if not error.requires_abort or self._aborts_in_a_row == 3:
                raise
            # It is aborted. Where it began is where the committed offset still is.
            self._consumer.seek(partition, messages[0].offset)
        else:
            self._aborts_in_a_row = 0

    async def _close_producers(self) -> None:
        while self._producers:
            _, producer = self._producers.popitem()
            await producer.close()


async def run(options: argparse.Namespace) -> None:
    """Enrich orders until SIGTERM or Ctrl-C."""
    enricher = Enricher(options)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, enricher.stop)
    await enricher.run()


def main() -> None:
    """Run the command line. Without a signal it ends by an error only: start it again."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--source", default="orders")
    parser.add_argument("--target", default="enriched-orders")
    parser.add_argument("--group", default="enrichers")
    parser.add_argument("--transactional-id", default="enrichers", help="the same in all instances")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
