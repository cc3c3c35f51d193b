"""SIGTERM in the middle of a load: every record is stored or handed back, and in time."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.broker.helpers import leader_of
from tests.support.kafka import consume, create_topic
from tests.support.programs import finish, running
from tools.kafka import Kafka, NodeControl

CLOSE_TIMEOUT = 5.0


async def terminate(
    kafka: Kafka, topic: str, ledger: Path, buffer_memory: int, frozen: int | None = None
) -> dict[str, Any]:
    """Run the program and end it under load, with a broker frozen before; return its ledger."""
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    arguments = (kafka.bootstrap_servers, topic, str(ledger), str(buffer_memory), loop)
    async with running("-m", "tests.support.sigterm_program", *arguments) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"loaded\n"
        if frozen is not None:
            assert isinstance(kafka, NodeControl)
            kafka.pause(frozen)
            assert await process.stdout.readline() == b"stuck\n"
        process.send_signal(signal.SIGTERM)
        finished = await finish(process)
    assert finished.code == 0, finished.err
    return read(ledger)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def audit(kafka: Kafka, topic: str, ledger: dict[str, Any]) -> int:
    """Hold the ledger against the log; return how many records were handed back."""
    stored = consume(kafka, topic, timeout=30)
    places: dict[str, tuple[int, int]] = {}
    for record in stored:
        places[(record.value or b"").rstrip(b"\0").decode()] = (record.partition, record.offset)
    assert len(places) == len(stored), "a record is there twice"

    acknowledged: dict[str, list[int]] = ledger["acknowledged"]
    failed: dict[str, list[str | bool]] = ledger["failed"]
    handed_back = {name: rest for name, *rest in ledger["undelivered"]}
    assert len(handed_back) == len(ledger["undelivered"])
    called: list[str] = ledger["called"]
    assert sorted([*acknowledged, *failed]) == sorted(called), "a call without an outcome"
    for name, place in acknowledged.items():
        assert places[name] == tuple(place)
    assert not handed_back.keys() & acknowledged.keys()
    # Whole, and to the right partition: the caller can store them.
    for name, (padding, partition, possibly_persisted) in handed_back.items():
        assert padding == 400
        assert partition == int(name.rpartition("-")[2]) % 3
        assert failed[name] == ["ProducerClosedError", possibly_persisted]
        if name in places:
            assert possibly_persisted
    # What was refused was not accepted, so it is neither there nor in the report.
    assert not (failed.keys() - handed_back.keys()) & places.keys()
    for name in failed.keys() - handed_back.keys():
        assert failed[name][0] in ("ProducerClosedError", "BufferExhaustedError")
        assert not failed[name][1]
    assert places.keys() <= acknowledged.keys() | handed_back.keys()
    assert max(Counter(partition for partition, _ in places.values()).values()) > 100
    return len(handed_back)


@pytest.mark.timeout(60)
async def test_sigterm_under_load_delivers_everything(kafka: Kafka, tmp_path: Path) -> None:
    topic = create_topic(kafka, partitions=3)
    ledger = await terminate(kafka, topic, tmp_path / "ledger.json", 4 << 20)
    assert ledger["took"] < CLOSE_TIMEOUT
    assert audit(kafka, topic, ledger) == 0


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_sigterm_with_a_frozen_broker_hands_back_in_time_what_is_not_delivered(
    kafka3: NodeControl, tmp_path: Path
) -> None:
    topic = create_topic(kafka3, partitions=3, replication_factor=1)
    frozen = leader_of(kafka3, topic, 1)
    try:
        ledger = await terminate(kafka3, topic, tmp_path / "ledger.json", 256 << 10, frozen=frozen)
    finally:
        kafka3.resume(frozen)
    assert CLOSE_TIMEOUT <= ledger["took"] < CLOSE_TIMEOUT + 1
    assert audit(kafka3, topic, ledger) > 100
    # Some were with the broker already, some never left.
    assert {possibly_persisted for *_, possibly_persisted in ledger["undelivered"]} == {True, False}
