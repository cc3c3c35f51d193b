"""FakeCluster against Kafka 4.3: the same requests, byte for byte, get the same answers.

Each case is a list of batches sent to one partition of a new topic. Producer ids come from the
broker asked; a case names the producer by a number of its own.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from aioproducer.testing import FakeCluster
from tests.support.kafka import create_topic
from tests.support.kio_client import KioClient, batch, connected, init_producer_id_request
from tests.support.transaction_cases import topic_id_of
from tools.kafka import Kafka

NOW_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Send:
    """One batch to send; `producer` is epoch and sequence of the case's idempotent producer."""

    values: tuple[bytes, ...] = (b"v",)
    key: bytes | None = b"k"
    producer: tuple[int, int] | None = None
    attributes: int = 0
    timestamp_ms: int = NOW_MS
    flip: int | None = None
    """A byte to change after the CRC was made."""
    put: Mapping[int, bytes] = field(default_factory=dict[int, bytes])
    """Bytes to put at places of the header that the CRC does not cover."""
    twice: bool = False
    """The batch is followed by itself, in the same partition of the request."""
    cut: int | None = None
    partition: int = 0
    version: int = 13
    acks: int = -1
    unknown_topic: bool = False


def idempotent(epoch: int, sequence: int, count: int = 1, **more: Any) -> Send:
    return Send(tuple(b"%d" % n for n in range(count)), producer=(epoch, sequence), **more)


CASES: dict[str, list[Send]] = {
    "plain batches": [Send(), Send((b"a", b"b", b"c")), Send()],
    "old versions": [Send(version=version) for version in range(3, 13)],
    "acks of the leader": [Send(acks=1)],
    "impossible acks": [Send(acks=2, version=12), Send(acks=-2)],
    "a sequence": [idempotent(0, 0, 3), idempotent(0, 3), idempotent(0, 4, 2)],
    "a duplicate of the last batch": [idempotent(0, 0, 3), idempotent(0, 0, 3)],
    "duplicates of the last five": [
        *(idempotent(0, n) for n in range(7)),
        *(idempotent(0, n) for n in (2, 3, 6, 1, 0)),
    ],
    "a duplicate that is longer": [idempotent(0, 0, 2), idempotent(0, 0, 3)],
    "a gap": [idempotent(0, 0), idempotent(0, 2), idempotent(0, 1)],
    "an unknown producer that begins in the middle": [idempotent(0, 7), idempotent(0, 8)],
    "an unknown producer with a high epoch": [idempotent(5, 3), idempotent(5, 4)],
    "a new epoch from 0": [idempotent(0, 0, 4), idempotent(1, 0), idempotent(1, 1)],
    "a new epoch that does not begin at 0": [idempotent(0, 0), idempotent(1, 1), idempotent(1, 0)],
    "an old epoch": [idempotent(1, 0), idempotent(0, 1), idempotent(0, 0)],
    "a duplicate of an old epoch": [idempotent(0, 0), idempotent(1, 0), idempotent(0, 0)],
    "sequences wrap": [
        idempotent(0, 2**31 - 3, 2),
        idempotent(0, 2**31 - 1),
        idempotent(0, 0),
        idempotent(0, 2**31 - 1),
    ],
    "sequences wrap inside a batch": [
        idempotent(0, 2**31 - 2, 3),
        idempotent(0, 1),
        idempotent(0, 2**31 - 2, 3),
    ],
    "a producer without a sequence": [idempotent(0, -1)],
    "a wrong CRC": [Send(flip=65), Send(put={17: b"\0\0\0\0"})],
    "a base offset": [Send(put={0: b"\0\0\0\0\0\0\0\5"})],
    "a leader epoch": [Send(put={12: b"\0\0\0\5"})],
    "magic 0 and 1": [
        Send(put={16: b"\0"}),
        Send(put={16: b"\1"}),
        Send(put={16: b"\1"}, version=3),
    ],
    "magic 3": [Send(put={16: b"\3"})],
    "a length that is too small": [Send(put={8: b"\0\0\0\5"})],
    "a length that is too large": [Send(put={8: b"\0\0\5\0"})],
    "a batch that is cut short": [Send(cut=40), Send(cut=8), Send(cut=0), Send(cut=65)],
    "two batches": [Send(twice=True)],
    "markers": [Send(attributes=0x20)],
    "a producer that sets LogAppendTime": [Send(attributes=0x08)],
    "an unknown codec": [Send(attributes=5)],
    "zstd in an old version": [Send(attributes=4, version=6)],
    "a partition that does not exist": [Send(partition=9), Send(partition=-1)],
    "a topic that does not exist": [Send(unknown_topic=True), Send(unknown_topic=True, version=12)],
    "a batch too large": [Send((b"x" * 2000,)), Send()],
    "a timestamp of tomorrow": [Send(timestamp_ms=int(time.time() + 86400) * 1000)],
    "no timestamp": [Send(timestamp_ms=-1), Send(timestamp_ms=0)],
}
COMPACTED: dict[str, list[Send]] = {
    "no key in a compacted topic": [Send(key=None), Send(), Send((b"a", b"b"), key=None)],
}
APPENDED: dict[str, list[Send]] = {
    "LogAppendTime": [Send(), idempotent(0, 0), idempotent(0, 0), Send(timestamp_ms=-1)],
}
CONFIGS: list[tuple[dict[str, str], dict[str, list[Send]]]] = [
    ({"max.message.bytes": "1000"}, CASES),
    ({"cleanup.policy": "compact"}, COMPACTED),
    ({"message.timestamp.type": "LogAppendTime"}, APPENDED),
]


def _bytes(send: Send, producer_id: int) -> bytes:
    producer = (-1, -1, -1) if send.producer is None else (producer_id, *send.producer)
    data = bytearray(
        batch(
            *send.values,
            key=send.key,
            timestamp_ms=send.timestamp_ms,
            producer=producer,
            attributes=send.attributes,
        )
    )
    if send.flip is not None:
        data[send.flip] ^= 0xFF
    for place, value in send.put.items():
        data[place : place + len(value)] = value
    return bytes(data[: send.cut]) * (1 + send.twice)


async def _responses(
    client: KioClient, topic: str, topic_id: uuid.UUID, case: list[Send]
) -> list[dict[str, object]]:
    producer_id = (await client.ask(init_producer_id_request())).producer_id
    answers: list[dict[str, object]] = []
    for send in case:
        where: str | uuid.UUID = topic_id if send.version >= 13 else topic
        if send.unknown_topic:
            where = uuid.UUID(int=5) if send.version >= 13 else "nobody-made-this"
        answer = await client.produce(
            where,
            send.partition,
            _bytes(send, producer_id),
            version=send.version,
            acks=send.acks,
        )
        answers.append(_outcome_of(answer))
    return answers


def _outcome_of(answer: Any) -> dict[str, object]:
    """Return what two brokers must agree on."""
    outcome: dict[str, object] = {
        name: getattr(answer, name)
        for name in ("error_code", "base_offset", "log_start_offset", "current_leader")
        if hasattr(answer, name)
    }
    appended = answer.log_append_time
    appended_ms = None if appended is None else int(appended.timestamp() * 1000)
    outcome["appended"] = "now" if appended_ms and appended_ms > NOW_MS + 1000 else appended_ms
    if hasattr(answer, "record_errors"):
        outcome["bad_records"] = [error.batch_index for error in answer.record_errors]
        outcome["says"] = answer.error_message
    return outcome


@pytest.mark.parametrize(
    ("config", "case"),
    [
        pytest.param(config, case, id=name)
        for config, cases in CONFIGS
        for name, case in cases.items()
    ],
)
async def test_the_fake_answers_as_kafka_does(
    config: dict[str, str], case: list[Send], kafka: Kafka
) -> None:
    topic = create_topic(kafka, partitions=1, config=config)
    async with connected(kafka.bootstrap_servers) as client:
        real = await _responses(client, topic, await topic_id_of(client, topic), case)
    async with FakeCluster(brokers=1, auto_create_topics=False) as cluster:
        topic_id = cluster.create_topic(
            topic,
            1,
            message_timestamp_type="LogAppendTime"
            if "message.timestamp.type" in config
            else "CreateTime",
            message_max_bytes=int(config.get("max.message.bytes", 1_048_588)),
            compacted="cleanup.policy" in config,
        )
        async with connected(cluster.bootstrap_servers) as client:
            fake = await _responses(client, topic, topic_id, case)
    assert fake == real
