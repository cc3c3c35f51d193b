"""One connection to a broker, with every message encoded and decoded by `kio`.

For brokers real and fake: what is asked and answered is kio's word against theirs. Batches are
handed over as bytes, so a test can send what no client would.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib
import io
import struct
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from kio.serial import entity_reader, entity_writer

from tests.support.kio_messages import kio_class
from tests.support.reference_batch import Record, encode_batch

CLIENT_ID = "kio"


def encode(entity: Any) -> bytes:
    """Return how kio encodes an entity."""
    buffer = io.BytesIO()
    write = cast("Callable[[io.BytesIO, object], None]", entity_writer(cast("Any", type(entity))))
    write(buffer, entity)
    return buffer.getvalue()


def decode(kind: type[Any], data: bytes) -> tuple[Any, bytes]:
    """Return the entity that bytes begin with, and the rest of them."""
    # kio's reader wants bytes and returns the entity and how many it took.
    read = cast("Callable[[bytes, int], tuple[Any, int]]", entity_reader(kind))
    entity, size = read(data, 0)
    return entity, data[size:]


def request_frame(message: Any, correlation_id: int = 1) -> bytes:
    """Return a request with its header and size."""
    kind = cast("Any", type(message))
    header = kind.__header_schema__(
        request_api_key=kind.__api_key__,
        request_api_version=kind.__version__,
        correlation_id=correlation_id,
        client_id=CLIENT_ID,
    )
    payload = encode(header) + encode(message)
    return struct.pack(">i", len(payload)) + payload


def response_class(message: Any) -> type[Any]:
    """Return the class of the response to a request."""
    kind = cast("Any", type(message))
    module = importlib.import_module(kind.__module__.replace(".request", ".response"))
    return cast("type[Any]", getattr(module, kind.__name__.replace("Request", "Response")))


class KioClient:
    """A connection; `ask` for one question at a time, `send` and `receive` for many."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._correlation_id = 0

    async def send(self, message: Any) -> int:
        """Send a request and return its correlation id."""
        self._correlation_id += 1
        self.writer.write(request_frame(message, self._correlation_id))
        await self.writer.drain()
        return self._correlation_id

    async def receive(self, message: Any) -> Any:
        """Return the next response, which must be that to `message`, and nothing but it."""
        (size,) = struct.unpack(">i", await self.reader.readexactly(4))
        data = await self.reader.readexactly(size)
        kind = response_class(message)
        header, data = decode(kind.__header_schema__, data)
        self.answered = header.correlation_id
        response, rest = decode(kind, data)
        assert rest == b""
        return response

    async def ask(self, message: Any) -> Any:
        """Send a request and return its response."""
        correlation_id = await self.send(message)
        response = await self.receive(message)
        assert self.answered == correlation_id
        return response

    async def produce(
        self,
        topic: str | uuid.UUID,
        partition: int,
        data: bytes | None,
        *,
        version: int | None = None,
        acks: int = -1,
    ) -> Any:
        """Send one batch and return kio's answer for its partition."""
        response = await self.ask(
            produce_request({(topic, partition): data}, version=version, acks=acks)
        )
        ((answer,),) = (topic.partition_responses for topic in response.responses)
        return answer


def produce_request(
    batches: Mapping[tuple[str | uuid.UUID, int], bytes | None],
    *,
    version: int | None = None,
    acks: int = -1,
    transactional_id: str | None = None,
) -> Any:
    """Return a Produce request, by default of the highest version that takes what is given."""
    by_id = isinstance(next(iter(batches))[0], uuid.UUID)
    version = version or (13 if by_id else 12)
    of_topic = kio_class("produce", version, "TopicProduceData", _kind("produce", version))
    of_partition = kio_class("produce", version, "PartitionProduceData", _kind("produce", version))
    entries: list[Any] = []
    for (topic, partition), data in batches.items():
        part = of_partition(index=partition, records=data)
        name = {"topic_id": topic} if by_id else {"name": topic}
        entries.append(of_topic(**name, partition_data=(part,)))
    return _kind("produce", version)(
        transactional_id=transactional_id,
        acks=acks,
        timeout=_seconds(10),
        topic_data=tuple(entries),
    )


def init_producer_id_request(version: int = 5) -> Any:
    """Return a request for the id of a new idempotent producer."""
    return _kind("init_producer_id", version)(
        transactional_id=None, transaction_timeout=_seconds(60)
    )


def batch(
    *values: bytes,
    key: bytes | None = b"k",
    timestamp_ms: int = 1_700_000_000_000,
    producer: tuple[int, int, int] = (-1, -1, -1),
    attributes: int = 0,
    payload: bytes | None = None,
) -> bytes:
    """Return a record batch as a producer sends it."""
    records = [Record(key, value, (), timestamp_ms) for value in values or (b"v",)]
    return encode_batch(records, producer=producer, attributes=attributes, payload=payload)


@asynccontextmanager
async def connected(address: str) -> AsyncGenerator[KioClient]:
    """Connect to host:port."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield KioClient(reader, writer)
    finally:
        writer.close()


def _kind(api: str, version: int) -> type[Any]:
    name = "".join(part.title() for part in api.split("_")) + "Request"
    return kio_class(api, version, name)


def _seconds(seconds: int) -> Any:
    return datetime.timedelta(seconds=seconds)
