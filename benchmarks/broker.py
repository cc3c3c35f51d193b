"""The topics of a run, and what their logs hold: asked of the broker by an independent client.

Called by the runner around each measurement.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewPartitions, NewTopic

__all__ = ["Audit", "Broker"]

_TIMEOUT = 120.0
_TOPICS_AT_ONCE = 500
_PARTITIONS_AT_ONCE = 4_000
"""A controller takes at most 10,000 changes in one request."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What reading a log back showed.

    Attributes:
        lost: Numbers that are not in the log.
        twice: Records whose number was seen before.
    """

    lost: int
    twice: int


_END: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_SETTLES_WITHIN = 10.0
"""Seconds in which the markers of the last transaction come into the log."""


class Broker:
    """One cluster.

    Args:
        bootstrap_servers: Its addresses.
        replicas: On how many brokers each partition is to be.
        pids: Its processes; empty where they are not on this machine.
        tls_servers: Its addresses for TLS; empty where it has none.
        ca_location: The authority of its certificate.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        replicas: int,
        pids: Sequence[int] = (),
        tls_servers: str = "",
        ca_location: str = "",
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.pids = pids
        self.tls_servers = tls_servers
        self.ca_location = ca_location
        self._replicas = replicas
        self._admin: Any = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})

    def create(self, topics: Sequence[str], partitions: int, max_record_bytes: int | None) -> None:
        """Make topics, and return when every partition has a leader."""
        config: dict[str, str] = {}
        if max_record_bytes is not None:
            config["max.message.bytes"] = str(max_record_bytes)
        for start in range(0, len(topics), _TOPICS_AT_ONCE):
            new = [
                NewTopic(topic, min(partitions, _PARTITIONS_AT_ONCE), self._replicas, config=config)
                for topic in topics[start : start + _TOPICS_AT_ONCE]
            ]
            _finish(self._admin.create_topics(new, operation_timeout=_TIMEOUT))
        for count in range(2 * _PARTITIONS_AT_ONCE, partitions, _PARTITIONS_AT_ONCE):
            _finish(self._admin.create_partitions([NewPartitions(t, count) for t in topics]))
        if partitions > _PARTITIONS_AT_ONCE:
            _finish(self._admin.create_partitions([NewPartitions(t, partitions) for t in topics]))
        self._wait_until_led(topics, partitions)

    def delete(self, topics: Sequence[str]) -> None:
        """Delete topics with their logs."""
        for start in range(0, len(topics), _TOPICS_AT_ONCE):
            batch = list(topics[start : start + _TOPICS_AT_ONCE])
            _finish(self._admin.delete_topics(batch, operation_timeout=_TIMEOUT))

    def record_count(self, topics: Sequence[str], partitions: int) -> int:
        """Return how many records the logs of new topics hold, where there are no transactions."""
        return self._end(topics, partitions, IsolationLevel.READ_UNCOMMITTED)

    def committed_count(self, topic: str, partitions: int) -> int:
        """Return how many records a reader of committed transactions sees in a new topic.

        They are read: the end of a log counts the markers of transactions too.
        """
        give_up_at = time.monotonic() + _SETTLES_WITHIN
        while self._end([topic], partitions, IsolationLevel.READ_COMMITTED) != self._end(
            [topic], partitions, IsolationLevel.READ_UNCOMMITTED
        ):
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"{topic} has a transaction that does not end")
            time.sleep(0.05)
        consumer = self._reader(
            topic, partitions, {"isolation.level": "read_committed", "enable.partition.eof": True}
        )
        count = 0
        ended: set[int] = set()
        give_up_at = time.monotonic() + _TIMEOUT
        while len(ended) < partitions:
            # It waits that long for so many: how many there are is not known.
            messages = consumer.consume(10_000, timeout=0.1)
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"reading {topic} back stopped after {count} records")
            for message in messages:
                error = message.error()
                if error is None:
                    count += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition() or 0)
                else:
                    raise KafkaException(error)
        consumer.close()
        return count

    def _end(self, topics: Sequence[str], partitions: int, isolation: IsolationLevel) -> int:
        """Return the sum of the offsets at which a reader comes to the end."""
        places = [
            TopicPartition(topic, partition) for topic in topics for partition in range(partitions)
        ]
        futures: dict[TopicPartition, Any] = {}
        for start in range(0, len(places), _PARTITIONS_AT_ONCE):
            wanted = {place: _END for place in places[start:][:_PARTITIONS_AT_ONCE]}
            futures |= self._admin.list_offsets(
                wanted, isolation_level=isolation, request_timeout=_TIMEOUT
            )
        return sum(future.result(_TIMEOUT).offset for future in futures.values())

    def audit(self, topic: str, partitions: int, count: int, header_bytes: int) -> Audit:
        """Read a topic from its start and look for the numbers 0 to `count` - 1, once each.

        Args:
            topic: The topic.
            partitions: How many it has.
            count: How many numbered records it must hold.
            header_bytes: A value starts with its number in so many bytes; all 0xff means that it
                has none.
        """
        seen = bytearray(count)
        unnumbered = b"\xff" * header_bytes
        twice = 0
        left = self.record_count([topic], partitions)
        consumer = self._reader(topic, partitions, {})
        while left > 0:
            messages = consumer.consume(min(left, 10_000), timeout=20)
            if not messages:
                raise RuntimeError(f"reading {topic} back stopped with {left} records to go")
            left -= len(messages)
            for message in messages:
                value = message.value()
                if not isinstance(value, bytes):
                    raise RuntimeError(f"{topic} holds no value where one was sent")
                header = value[:header_bytes]
                if header != unnumbered:
                    number = int.from_bytes(header, "big")
                    twice += seen[number]
                    seen[number] = 1
        consumer.close()
        return Audit(lost=seen.count(0), twice=twice)

    def _reader(self, topic: str, partitions: int, options: Mapping[str, Any]) -> Consumer:
        """Return a consumer that reads a topic from its start."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": "benchmarks-audit",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": 8 << 20,
                "queued.max.messages.kbytes": 256 << 10,
                **options,
            }
        )
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
        return consumer

    def _wait_until_led(self, topics: Sequence[str], partitions: int) -> None:
        """Wait until the leaders are known, and know it themselves."""
        give_up_at = time.monotonic() + _TIMEOUT
        while True:
            known = self._admin.list_topics(timeout=_TIMEOUT).topics
            if all(
                topic in known
                and len(known[topic].partitions) == partitions
                and all(one.leader >= 0 for one in known[topic].partitions.values())
                for topic in topics
            ):
                try:
                    self.record_count(topics, partitions)
                    return
                except KafkaException:
                    if time.monotonic() > give_up_at:
                        raise
            elif time.monotonic() > give_up_at:
                raise RuntimeError(f"{topics[0]} has no leaders after {_TIMEOUT:.0f} s")
            time.sleep(0.05)


def _finish(futures: dict[str, Any]) -> None:
    for future in futures.values():
        future.result(_TIMEOUT)
