"""The asyncio-native Kafka producer.

Example:
    async with Producer(bootstrap_servers="localhost:9092") as producer:
        metadata = await producer.send_and_wait("payments", b"12.50", key=b"card-1")
"""

try:
    from aioproducer._native.record_batch import Delivery
except ModuleNotFoundError as error:
    raise ImportError(
        "This aioproducer is a source tree whose native modules are not built. To use an installed"
        " one, run Python in another folder; to use this one, run `make build`, or"
        " `pip install --editable .`."
    ) from error
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    AuthenticationError,
    BufferExhaustedError,
    ClusterAuthorizationFailedError,
    ConfigError,
    InvalidPartitionError,
    InvalidRecordError,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    ListenerMismatchError,
    MessageTooLargeError,
    PolicyViolationError,
    ProducerClosedError,
    ProducerNotStartedError,
    ProtocolError,
    RecordListTooLargeError,
    RecordTooLargeError,
    SerializationError,
    TlsError,
    TopicAuthorizationFailedError,
    TransactionAbortedError,
    TransactionFailedError,
    TransactionStateError,
    UnknownErrorCodeError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
    WrongEventLoopError,
)
from aioproducer.gathering import gather
from aioproducer.hooks import OAuthToken, UndeliveredRecord
from aioproducer.producer import Producer
from aioproducer.records import ProducerRecord, RecordMetadata, TopicPartition
from aioproducer.sending.undelivered import UndeliveredRecords
from aioproducer.telemetry.status import ProducerStatus
from aioproducer.topic import Topic
from aioproducer.version import __version__

# Of the errors, those that a producer with its default options raises and that a caller can do
# something about: what the client finds by itself, and what a broker refuses for good. An error
# that may pass is tried again and ends as a `KafkaTimeoutError`, which names it. All others are in
# `aioproducer.errors`.
__all__ = [
    "AuthenticationError",
    "BufferExhaustedError",
    "ClusterAuthorizationFailedError",
    "ConfigError",
    "Delivery",
    "InvalidPartitionError",
    "InvalidRecordError",
    "InvalidTimestampError",
    "InvalidTopicError",
    "KafkaConnectionError",
    "KafkaError",
    "KafkaTimeoutError",
    "ListenerMismatchError",
    "MessageTooLargeError",
    "OAuthToken",
    "PolicyViolationError",
    "Producer",
    "ProducerClosedError",
    "ProducerConfig",
    "ProducerNotStartedError",
    "ProducerRecord",
    "ProducerStatus",
    "ProtocolError",
    "RecordListTooLargeError",
    "RecordMetadata",
    "RecordTooLargeError",
    "SerializationError",
    "TlsError",
    "Topic",
    "TopicAuthorizationFailedError",
    "TopicPartition",
    "TransactionAbortedError",
    "TransactionFailedError",
    "TransactionStateError",
    "UndeliveredRecord",
    "UndeliveredRecords",
    "UnknownErrorCodeError",
    "UnknownTopicOrPartitionError",
    "UnsupportedVersionError",
    "WrongEventLoopError",
    "__version__",
    "gather",
]
