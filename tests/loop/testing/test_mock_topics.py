"""Typed topics and threads with a mock producer: what was given is kept as the caller had it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from aioproducer import SerializationError, Topic
from aioproducer.testing import MockProducer


@dataclass(frozen=True)
class Payment:
    card: str
    cents: int


PAYMENTS = Topic("payments", key=str, value=Payment)


async def test_a_typed_topic_serializes_and_what_was_given_is_kept() -> None:
    payment = Payment("card-1", 1250)
    async with MockProducer(partitions={"payments": 3}) as mock:
        await mock.send_and_wait(PAYMENTS, payment, key="card-1")
        (record,) = mock.sent_to("payments")
        with pytest.raises(SerializationError):
            await mock.send(PAYMENTS, "no payment")  # type: ignore[misc]  # pyright: ignore
    assert (record.key, record.value) == (b"card-1", b'{"card":"card-1","cents":1250}')
    assert (record.given_key, record.given_value) == ("card-1", payment)


async def test_records_from_threads_are_kept() -> None:
    mock: MockProducer[Any, Any] = MockProducer()
    async with mock:
        future = await asyncio.to_thread(mock.from_thread.send, "t", b"1")
        assert (await asyncio.wrap_future(future)).offset == 0
    assert [record.value for record in mock.sent] == [b"1"]
