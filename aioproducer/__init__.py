"""The asyncio-native Kafka producer.

Example:
    async with Producer(bootstrap_servers="localhost:9092") as producer:
        metadata = await producer.send_and_wait("payments", b"12.50", key=b"card-1")
"""

from aioproducer import errors
from aioproducer._native.record_batch import Delivery
from aioproducer.config import ProducerConfig
from aioproducer.errors import *  # noqa: F403
from aioproducer.producer import Producer, UndeliveredRecord
from aioproducer.records import ProducerRecord, RecordMetadata, TopicPartition

__all__ = [
    "Delivery",
    "Producer",
    "ProducerConfig",
    "ProducerRecord",
    "RecordMetadata",
    "TopicPartition",
    "UndeliveredRecord",
]
__all__ += errors.__all__
