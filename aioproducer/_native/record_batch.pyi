from asyncio import AbstractEventLoop
from collections.abc import Buffer, Callable, Generator
from contextvars import Context
from typing import Any, Generic

from typing_extensions import TypeVar

from aioproducer.errors import KafkaError
from aioproducer.records import RecordMetadata

T = TypeVar("T", default=RecordMetadata)

BATCH_HEADER_SIZE: int

def crc32c(data: Buffer, crc: int = 0) -> int: ...
def crc32c_portable(data: Buffer, crc: int = 0) -> int: ...
