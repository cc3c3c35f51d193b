"""A consumer's positions and group, in the forms in which the consumers of Python have them.

Pure functions: what `send_offsets_to_transaction` is given becomes requests here.

    offsets          aiokafka, kafka-python   {TopicPartition: offset or OffsetAndMetadata}
                     confluent-kafka          [TopicPartition(topic, partition, offset), ...]
                     plain                    {(topic, partition): offset}
    group metadata   aiokafka                 the group id: it shows no generation in public
                     kafka-python             has `group_id`, `generation_id`, `member_id`
                     confluent-kafka          `consumer.consumer_group_metadata()`: bytes
                     plain                    `ConsumerGroupMetadata(...)`

An offset is that of the next record to read, as consumers' positions are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from aioproducer.protocol.txn_offset_commit import (
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from aioproducer.records import is_topic_name

__all__ = ["ConsumerGroupMetadata", "Offsets", "group_metadata_of", "topics_of"]

Offsets: TypeAlias = Mapping[Any, object] | Iterable[object]
"""The positions of a consumer; see the module."""

_MOST_INT32: Final = 2**31 - 1
_MOST_INT64: Final = 2**63 - 1
_LONGEST_TEXT: Final = 32_767
"""In bytes, as Kafka counts the length of a text."""

_LIBRDKAFKA: Final = b"CGMDv2:"
"""How `rd_kafka_consumer_group_metadata_write` begins: then the generation and three texts."""


@dataclass(frozen=True, slots=True)
class ConsumerGroupMetadata:
    """Who commits offsets with a transaction: a consumer, as its group knows it (KIP-447).

    With generation and member id the group coordinator refuses a consumer that has lost its
    partitions meanwhile; with the group id alone nobody is refused.

    Attributes:
        group_id: The consumer group.
        generation_id: The generation of the group in which the partitions were assigned; -1: any.
        member_id: The consumer's id in the group.
        group_instance_id: The consumer's `group.instance.id`, if it has one.
    """

    group_id: str
    generation_id: int = -1
    member_id: str = ""
    group_instance_id: str | None = None


def group_metadata_of(given: object) -> ConsumerGroupMetadata:
    """Read who commits the offsets.

    Raises:
        TypeError: It is none of the known forms.
        ValueError: The group id is empty, or a text or number does not fit into a request.
    """
    if isinstance(given, ConsumerGroupMetadata):
        metadata = given
    elif isinstance(given, str):
        metadata = ConsumerGroupMetadata(given)
    elif isinstance(given, bytes) and given.startswith(_LIBRDKAFKA):
        metadata = _from_librdkafka(given[len(_LIBRDKAFKA) :])
    elif isinstance(group_id := getattr(given, "group_id", None), str):
        metadata = ConsumerGroupMetadata(
            group_id,
            _or(getattr(given, "generation_id", None), -1),
            _or(getattr(given, "member_id", None), ""),
            getattr(given, "group_instance_id", None),
        )
    else:
        raise TypeError(
            "group_metadata is a group id, a ConsumerGroupMetadata, or what a consumer's"
            f" consumer_group_metadata() returns, not {type(given).__name__}"
        )
    if not metadata.group_id:
        raise ValueError("offsets are committed for a consumer group: its group_id is empty")
    for name in ("group_id", "member_id", "group_instance_id"):
        _check_text(name, getattr(metadata, name))
    if not -1 <= metadata.generation_id <= _MOST_INT32:
        raise ValueError(f"{metadata.generation_id} is no generation_id")
    return metadata


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _from_librdkafka(written: bytes) -> ConsumerGroupMetadata:
    # The generation in the byte order of this machine, then texts that end with a zero byte; before
    # the instance id a byte that is 1 where there is none.
    import sys

    generation = int.from_bytes(written[:4], sys.byteorder, signed=True)
    group_id, _, rest = written[4:].partition(b"\0")
    member_id, _, rest = rest.partition(b"\0")
    instance_id = rest[1:].partition(b"\0")[0] if rest[:1] == b"\0" else None
    return ConsumerGroupMetadata(
        group_id.decode(),
        generation,
        member_id.decode(),
        None if instance_id is None else instance_id.decode(),
    )


def topics_of(offsets: Offsets) -> list[TxnOffsetCommitRequestTopic]:
    """Read a consumer's positions.

    Raises:
        TypeError: They are in none of the known forms.
        ValueError: An offset is negative, for the consumer has no position there; or what is given
            does not fit into a request.
    """
    by_topic: dict[str, list[TxnOffsetCommitRequestPartition]] = {}
    for topic, partition, offset, leader_epoch, metadata in _entries(offsets):
        if offset < 0:
            raise ValueError(f"{topic}-{partition} has offset {offset}: no position to commit")
        if not (is_topic_name(topic) and 0 <= partition <= _MOST_INT32 and offset <= _MOST_INT64):
            raise ValueError(f"{topic[:300]!r}, {partition}, {offset} is no place in a partition")
        _check_text("the metadata of an offset", metadata)
        by_topic.setdefault(topic, []).append(
            TxnOffsetCommitRequestPartition(partition, offset, leader_epoch, metadata)
        )
    return [TxnOffsetCommitRequestTopic(name, partitions=found) for name, found in by_topic.items()]


def _check_text(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        fits = len(text.encode()) <= _LONGEST_TEXT
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise ValueError(f"{name} is no text of at most {_LONGEST_TEXT} bytes in UTF-8")


def _entries(offsets: Offsets) -> Iterable[tuple[str, int, int, int, str | None]]:
    if isinstance(offsets, Mapping):
        for where, position in cast("Mapping[object, object]", offsets).items():
            yield *_place(where), *_position(position)
        return
    for each in offsets:
        yield *_place(each), *_position(each)


def _place(where: object) -> tuple[str, int]:
    topic, partition = getattr(where, "topic", None), getattr(where, "partition", None)
    if type(where) is tuple and len(pair := cast("tuple[object, ...]", where)) == 2:
        topic, partition = pair
    if isinstance(topic, str) and isinstance(partition, int):
        return topic, partition
    raise TypeError(
        "offsets are {TopicPartition: offset}, or confluent_kafka's list of TopicPartition,"
        f" not {where!r}"
    )


def _position(position: object) -> tuple[int, int, str | None]:
    if isinstance(position, int):
        return position, -1, ""
    offset = getattr(position, "offset", None)
    if not isinstance(offset, int):
        raise TypeError(f"an offset is an int or has an `offset`, not {type(position).__name__}")
    leader_epoch = getattr(position, "leader_epoch", None)
    metadata = getattr(position, "metadata", None)
    return offset, leader_epoch if isinstance(leader_epoch, int) else -1, _or(metadata, "")
