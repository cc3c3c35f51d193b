"""Consumers' positions and groups, in the forms of the clients that have them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import confluent_kafka
import pytest

from aioproducer import TopicPartition
from aioproducer.transactions.offsets import (
    ConsumerGroupMetadata,
    group_metadata_of,
    topics_of,
)
from tests.support import kafka_python


def read(offsets: Any) -> list[tuple[object, ...]]:
    return [
        (topic.name, *position) for topic in topics_of(offsets) for position in topic.partitions
    ]


def test_plain_positions() -> None:
    offsets = {("t", 0): 7, TopicPartition("t", 1): 0, ("u", 5): 3}
    assert read(offsets) == [("t", 0, 7, -1, ""), ("t", 1, 0, -1, ""), ("u", 5, 3, -1, "")]


def test_positions_of_kafka_python_and_aiokafka() -> None:
    place = kafka_python.structs.TopicPartition("t", 3)
    whole = kafka_python.structs.OffsetAndMetadata(8, "note", 2)
    assert read({place: whole}) == [("t", 3, 8, 2, "note")]
    assert read({place: kafka_python.structs.OffsetAndMetadata(8, None, None)}) == [
        ("t", 3, 8, -1, "")
    ]


def test_positions_of_confluent_kafka() -> None:
    offsets = [
        confluent_kafka.TopicPartition("t", 0, 7),
        confluent_kafka.TopicPartition("t", 1, 9, metadata="note", leader_epoch=4),
    ]
    assert read(offsets) == [("t", 0, 7, -1, ""), ("t", 1, 9, 4, "note")]


def test_no_positions() -> None:
    assert read({}) == []
    assert read([]) == []


def test_a_consumer_without_position_is_refused() -> None:
    # confluent_kafka's OFFSET_INVALID, which `position()` gives before anything was read.
    with pytest.raises(ValueError, match="t-0 has offset -1001"):
        topics_of([confluent_kafka.TopicPartition("t", 0)])


@pytest.mark.parametrize("offsets", [{"t": 3}, ["t"], {("t", "0"): 3}, {("t", 0): "3"}])
def test_other_forms_are_refused(offsets: Any) -> None:
    with pytest.raises(TypeError):
        topics_of(offsets)


def test_a_group_id_alone() -> None:
    assert group_metadata_of("readers") == ConsumerGroupMetadata("readers")


def test_group_metadata_is_taken_as_it_is() -> None:
    own = ConsumerGroupMetadata("readers", 3, "me", "instance")
    assert group_metadata_of(own) is own


@dataclass
class LikeAnotherClients:
    group_id: str
    generation_id: int | None
    member_id: str | None
    group_instance_id: str | None = None


def test_group_metadata_of_a_client_by_its_attributes() -> None:
    assert group_metadata_of(LikeAnotherClients("g", 4, "me", "i")) == ConsumerGroupMetadata(
        "g", 4, "me", "i"
    )
    assert group_metadata_of(LikeAnotherClients("g", None, None)) == ConsumerGroupMetadata("g")


def librdkafkas(parts: Iterable[bytes]) -> bytes:
    return b"CGMDv2:" + (5).to_bytes(4, sys.byteorder, signed=True) + b"".join(parts)


def test_group_metadata_of_librdkafka() -> None:
    assert group_metadata_of(librdkafkas([b"g\0", b"me\0", b"\1"])) == ConsumerGroupMetadata(
        "g", 5, "me"
    )
    assert group_metadata_of(librdkafkas([b"g\0", b"me\0", b"\0i\0"])) == ConsumerGroupMetadata(
        "g", 5, "me", "i"
    )


def test_group_metadata_of_confluent_kafka() -> None:
    consumer = confluent_kafka.Consumer({"group.id": "g", "group.instance.id": "i"})
    try:
        metadata = group_metadata_of(consumer.consumer_group_metadata())
    finally:
        consumer.close()
    assert metadata == ConsumerGroupMetadata("g", -1, "", "i")


@pytest.mark.parametrize("given", [None, 3, b"other bytes", object()])
def test_other_group_metadata_is_refused(given: object) -> None:
    with pytest.raises(TypeError, match="group_metadata is a group id"):
        group_metadata_of(given)


def test_a_group_has_a_name() -> None:
    with pytest.raises(ValueError, match="group_id is empty"):
        group_metadata_of("")
