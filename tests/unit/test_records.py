"""The values that users hand in and get back."""

from __future__ import annotations

import pickle

from aioproducer import ProducerRecord, RecordMetadata, TopicPartition


def test_a_record_may_name_the_types_of_its_key_and_value() -> None:
    record = ProducerRecord[str, bytes]("payments", b"12.50", "card-1")
    assert record == ProducerRecord("payments", b"12.50", "card-1")
    assert (record.topic, record.value, record.key) == ("payments", b"12.50", "card-1")


def test_a_partition_prints_as_kafka_writes_it() -> None:
    assert str(TopicPartition("payments", 3)) == "payments-3"


def test_the_values_travel_between_processes() -> None:
    for value in (
        ProducerRecord[bytes, bytes]("payments", b"1", headers=[("h", None)]),
        RecordMetadata("payments", 3, 42, 1_700_000_000_000),
        TopicPartition("payments", 3),
    ):
        assert pickle.loads(pickle.dumps(value)) == value
