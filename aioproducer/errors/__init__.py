"""Every error that a producer can raise: one tree under `KafkaError`.

Two kinds. *Client errors* are made here and have no code (client.py). *Broker errors* carry
Kafka's code and name, one class for each code of Kafka 4.3's table (broker.py):
`NotLeaderOrFollowerError.code == 6`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aioproducer.errors import base, broker, client
from aioproducer.errors.base import ErrorContext, KafkaError
from aioproducer.errors.client import (
    AuthenticationError,
    BufferExhaustedError,
    ConfigError,
    InvalidPartitionError,
    KafkaConnectionError,
    KafkaTimeoutError,
    ListenerMismatchError,
    ProducerClosedError,
    ProducerNotStartedError,
    ProtocolError,
    RecordTooLargeError,
    SerializationError,
    TlsError,
    TransactionAbortedError,
    TransactionFailedError,
    TransactionStateError,
    UnknownErrorCodeError,
    WrongEventLoopError,
)

if TYPE_CHECKING:
    from aioproducer.errors.broker import *  # noqa: F403
else:
    # The class of a code is made at its first use.
    from aioproducer.errors.broker import __getattr__, broker_error, error_for_code  # noqa: F401

__all__ = [
    "AuthenticationError",
    "BufferExhaustedError",
    "ConfigError",
    "ErrorContext",
    "InvalidPartitionError",
    "KafkaConnectionError",
    "KafkaError",
    "KafkaTimeoutError",
    "ListenerMismatchError",
    "ProducerClosedError",
    "ProducerNotStartedError",
    "ProtocolError",
    "RecordTooLargeError",
    "SerializationError",
    "TlsError",
    "TransactionAbortedError",
    "TransactionFailedError",
    "TransactionStateError",
    "UnknownErrorCodeError",
    "WrongEventLoopError",
]
__all__.extend(broker.__all__)

# Users know the classes by the name of this package, and so does `pickle`.
for _name in (*base.__all__, *client.__all__):
    globals()[_name].__module__ = __name__


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
