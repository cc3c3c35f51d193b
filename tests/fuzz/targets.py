"""What takes bytes that somebody else wrote: how valid ones are made, and what it may answer.

`check` is the promise that all of them give: a value or one of the documented errors, in memory
that goes with the size of the input and not with what the input claims.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

from hypothesis import strategies as st

from aioproducer._native import codec
from aioproducer._native.codec import Plan, decode, encode
from aioproducer.compression import Codec, DecompressionError, codec_for
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    AuthenticationError,
    ConfigError,
    ProtocolError,
    UnsupportedVersionError,
)
from aioproducer.hooks import OAuthToken
from aioproducer.network.metadata import PartitionLeader, broker_address, newer_leaders
from aioproducer.network.sasl.exchange import Call
from aioproducer.network.sasl.oauthbearer import OAuthBearer
from aioproducer.network.sasl.scram import Scram
from aioproducer.network.sasl.tokens import TokenSource
from aioproducer.protocol.add_offsets_to_txn import ADD_OFFSETS_TO_TXN
from aioproducer.protocol.add_partitions_to_txn import ADD_PARTITIONS_TO_TXN
from aioproducer.protocol.api_versions import API_VERSIONS, REFUSALS, ApiVersionsResponse
from aioproducer.protocol.describe_transactions import DESCRIBE_TRANSACTIONS
from aioproducer.protocol.end_txn import END_TXN
from aioproducer.protocol.find_coordinator import FIND_COORDINATOR
from aioproducer.protocol.frames import FrameDecoder, decode_response, read_correlation_id
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID
from aioproducer.protocol.metadata import METADATA, MetadataResponse
from aioproducer.protocol.produce import PRODUCE, ProduceResponse
from aioproducer.protocol.sasl_authenticate import SASL_AUTHENTICATE
from aioproducer.protocol.sasl_handshake import SASL_HANDSHAKE
from aioproducer.protocol.schema import NO_TOPIC_ID, Api
from aioproducer.protocol.txn_offset_commit import TXN_OFFSET_COMMIT
from aioproducer.protocol.versions import broker_ranges, choose_version
from aioproducer.testing.apis import APIS as FAKE_APIS
from aioproducer.testing.batch import BatchHeader, records_of
from aioproducer.testing.wire import RequestHeader, WireError
from tests.fuzz.mutations import hostile
from tests.support.kio_messages import kio_bytes, kio_class, values_of
from tests.support.reference_batch import Record, encode_batch

__all__ = ["APIS", "TARGETS", "Finding", "Target", "check"]

APIS: dict[str, Api[Any, Any]] = {
    "produce": PRODUCE,
    "metadata": METADATA,
    "api_versions": API_VERSIONS,
    "init_producer_id": INIT_PRODUCER_ID,
    "sasl_handshake": SASL_HANDSHAKE,
    "sasl_authenticate": SASL_AUTHENTICATE,
    "find_coordinator": FIND_COORDINATOR,
    "add_partitions_to_txn": ADD_PARTITIONS_TO_TXN,
    "add_offsets_to_txn": ADD_OFFSETS_TO_TXN,
    "end_txn": END_TXN,
    "txn_offset_commit": TXN_OFFSET_COMMIT,
    "describe_transactions": DESCRIBE_TRANSACTIONS,
}
_FREE_MEMORY = 1 << 17
"""What an error with its traceback, or a plan compiled for the first time, may take."""
_MEMORY_PER_BYTE = 100
"""Six bytes are an ApiVersion: a tuple and three numbers. Who takes a value copies some of it."""
_UNPACKED_LIMIT = 1 << 16


class Finding(AssertionError):
    """A promise that a target broke."""


@dataclass(frozen=True)
class Target:
    """Something that takes hostile input.

    Attributes:
        name: What it is.
        inputs: Inputs to try.
        take: Takes one.
        refusals: The errors with which it may refuse one.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    take: Callable[[Any], object]
    refusals: tuple[type[Exception], ...]


def check(target: Target, data: Any) -> bool:
    """Have a target take one input; False when it refused it.

    Raises:
        Finding: Anything but a value or a documented error came of it, or too much memory.
    """
    tracemalloc.start()
    try:
        try:
            taken = target.take(data)
        except target.refusals:
            taken = None
        except Exception as error:
            raise Finding(f"{target.name}: {type(error).__name__} for {data!r}") from error
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak > _FREE_MEMORY + _MEMORY_PER_BYTE * len(data):
        raise Finding(f"{target.name}: {peak} bytes of memory for {data!r}")
    return taken is not None


# Responses, and what is made of them.


def _responses(name: str, version: int) -> st.SearchStrategy[bytes]:
    api = APIS[name]
    head = (7).to_bytes(4, "big")
    if api.is_flexible(version) and api is not API_VERSIONS:
        head += b"\x00"
    messages = values_of(kio_class(name, version, api.response.record.__name__))
    return messages.map(lambda message: head + kio_bytes(message))


def _take_response(name: str, version: int, frame: bytes) -> object:
    api = APIS[name]
    correlation_id, response = decode_response(api, version, frame)
    if correlation_id != read_correlation_id(frame):
        raise Finding(f"{name}: two readings of one correlation id")
    if isinstance(response, ApiVersionsResponse):
        _take_versions(response)
        if response.error_code in REFUSALS:
            return response  # it may have been read in version 0, or in part
    elif isinstance(response, MetadataResponse):
        _take_metadata(response)
    elif isinstance(response, ProduceResponse):
        _take_leaders(response)
    plan = api.response_plan(version)
    again = b"".join(encode(response, plan))
    if decode(again, plan) != (response, len(again)):
        raise Finding(f"{name}: what was read is not what is written again")
    return response


def _take_versions(response: ApiVersionsResponse) -> None:
    ranges = broker_ranges(response)
    for api in APIS.values():
        try:
            version = choose_version(api, ranges)
        except UnsupportedVersionError:
            continue
        if not api.min_version <= version <= api.max_version:
            raise Finding(f"{api.name}: version {version} was chosen")


def _take_metadata(response: MetadataResponse) -> None:
    for broker in response.brokers:
        str(broker_address(broker.node_id, broker.host, broker.port))
    for topic in response.topics:
        leaders = newer_leaders((), NO_TOPIC_ID, topic)
        again = newer_leaders(leaders, topic.topic_id, topic)
        if not len(leaders) == len(again) == len(topic.partitions):
            raise Finding("metadata: not as many leaders as there are partitions")


def _take_leaders(response: ProduceResponse) -> None:
    for end in response.node_endpoints:
        str(broker_address(end.node_id, end.host, end.port))
    for topic in response.responses:
        for answer in topic.partition_responses:
            PartitionLeader(*answer.current_leader)


# The codec's own types, one of each.


class Point(NamedTuple):
    """A struct within one, with a tagged field."""

    x: int = 0
    label: str | None = None
    marks: tuple[int, ...] = ()


class Everything(NamedTuple):
    """A field of each kind."""

    flag: bool = False
    int8: int = 0
    int16: int = 0
    int32: int = 0
    int64: int = 0
    uint16: int = 0
    uint32: int = 0
    unsigned_varint: int = 0
    varint: int = 0
    varlong: int = 0
    uuid: bytes = bytes(16)
    text: str | None = ""
    data: bytes | None = b""
    records: tuple[bytes, ...] | None = ()
    texts: tuple[str, ...] | None = ()
    points: tuple[Point, ...] = ()
    tagged_point: Point = Point()
    tagged_points: tuple[Point, ...] = ()


class Nothing(NamedTuple):
    """What is left when every field of `Everything` but the last is read over."""

    tagged_points: tuple[Point, ...] = ()


def _plans(*, flexible: bool) -> tuple[Plan, Plan]:
    """How `Everything` looks, and the same read over."""

    def plan(kind: int, *, nullable: bool = False) -> Plan:
        return Plan(kind, nullable=nullable, compact=flexible)

    def array(element: Plan, *, nullable: bool = False) -> Plan:
        return Plan(codec.ARRAY, element=element, nullable=nullable, compact=flexible)

    numbers = array(plan(codec.INT32))
    point = Plan(
        codec.STRUCT,
        record=Point,
        fields=[(plan(codec.INT32), 0, None), (plan(codec.STRING, nullable=True), 1, None)]
        + ([] if flexible else [(numbers, 2, None)]),
        tagged=[(0, numbers, 2)] if flexible else [],
        flexible=flexible,
    )
    kinds = [
        *map(plan, range(codec.BOOL, codec.UUID + 1)),
        plan(codec.STRING, nullable=True),
        plan(codec.BYTES, nullable=True),
        plan(codec.RECORDS, nullable=True),
        array(plan(codec.STRING), nullable=True),
        array(point),
    ]
    late = [point, array(point)]
    whole = Plan(
        codec.STRUCT,
        record=Everything,
        fields=[
            (kind, place, None) for place, kind in enumerate(kinds if flexible else [*kinds, *late])
        ],
        tagged=[(3, late[0], 16), (70_000, late[1], 17)] if flexible else [],
        flexible=flexible,
    )
    skipping = Plan(
        codec.STRUCT,
        record=Nothing,
        fields=[(kind, -1, None) for kind in (kinds if flexible else [*kinds, late[0]])]
        + ([] if flexible else [(late[1], 0, None)]),
        tagged=[(70_000, late[1], 0)] if flexible else [],
        flexible=flexible,
    )
    return whole, skipping


def _signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


_texts = st.text(max_size=8)
_points = st.builds(
    Point, _signed(32), st.none() | _texts, st.lists(_signed(32), max_size=3).map(tuple)
)
_everything = st.builds(
    Everything,
    st.booleans(),
    *map(_signed, (8, 16, 32, 64)),
    *(st.integers(0, 2**bits - 1) for bits in (16, 32, 32)),
    *map(_signed, (32, 64)),
    st.binary(min_size=16, max_size=16),
    st.none() | _texts,
    st.none() | st.binary(max_size=8),
    st.none() | st.binary(max_size=8).map(lambda data: (data,)),
    st.none() | st.lists(_texts, max_size=3).map(tuple),
    st.lists(_points, max_size=2).map(tuple),
    _points,
    st.lists(_points, max_size=2).map(tuple),
)


def _take_everything(whole: Plan, skipping: Plan, data: bytes) -> object:
    try:
        value, end = decode(data, whole)
    except ProtocolError:
        # Reading over checks less, but ends as cleanly.
        decode(data, skipping)
        raise
    left, end_of_skipping = decode(data, skipping)
    everything = cast("Everything", value)
    if end_of_skipping != end or cast("Nothing", left) != (everything.tagged_points,):
        raise Finding(f"reading over ends at {end_of_skipping}, reading at {end}")
    again = b"".join(encode(value, whole))
    if decode(again, whole) != (value, len(again)):
        raise Finding("what was read is not what is written again")
    return everything


# Frames.

_MAX_FRAME_SIZE = 64


def _framed(bodies: list[bytes]) -> bytes:
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


def _take_stream(stream: bytes) -> object:
    decoder = FrameDecoder(max_frame_size=_MAX_FRAME_SIZE)
    chunks = random.Random(len(stream))
    found: list[bytes] = []
    expected, is_sound = _expected_frames(stream)
    at = 0
    try:
        while at < len(stream):
            size = chunks.choice((1, 2, 3, 7, 40, len(stream)))
            frames = decoder.feed(stream[at : at + size])
            at += size
            if chunks.random() < 0.9:
                found += frames
        found += decoder.feed(b"")
    except ProtocolError:
        if is_sound:
            raise Finding(f"sound frames were refused: {stream!r}") from None
        if found != expected:
            raise Finding("the frames before the bad one are not those that were sent") from None
        raise
    if found != expected or not is_sound:
        raise Finding(f"{found} for {expected}")
    return found


def _expected_frames(stream: bytes) -> tuple[list[bytes], bool]:
    frames: list[bytes] = []
    while len(stream) >= 4:
        size = int.from_bytes(stream[:4], "big", signed=True)
        if not 4 <= size <= _MAX_FRAME_SIZE:
            return frames, False
        if len(stream) < 4 + size:
            break
        frames.append(stream[4 : 4 + size])
        stream = stream[4 + size :]
    return frames, True


# Compressed records, and what FakeCluster reads.


def _take_compressed(packer: Codec, data: bytes) -> object:
    unpacked = packer.decompress(data, _UNPACKED_LIMIT)
    if len(unpacked) > _UNPACKED_LIMIT:
        raise Finding(f"{len(unpacked)} bytes where {_UNPACKED_LIMIT} are allowed")
    return unpacked


_batches = st.lists(
    st.builds(
        Record,
        st.none() | st.binary(max_size=8),
        st.none() | st.binary(max_size=8),
        st.lists(st.tuples(_texts, st.none() | st.binary(max_size=4)), max_size=2).map(tuple),
        st.integers(0, 2**42),
    ),
    min_size=1,
    max_size=4,
).map(encode_batch)


def _take_batch(data: bytes) -> object:
    view = memoryview(data)
    header = BatchHeader.read(view)
    return list(records_of(header, view[61:], topic="t", partition=0))


def _requests(name: str, version: int) -> st.SearchStrategy[bytes]:
    api = APIS[name]
    entity = kio_class(name, version, api.request.record.__name__)
    flexible = api.is_flexible(version)
    head = api.key.to_bytes(2, "big") + version.to_bytes(2, "big") + bytes(4) + b"\x00\x01c"
    head += b"\x00" if flexible else b""
    return values_of(entity).map(lambda message: head + kio_bytes(message))


def _take_request(name: str, version: int, data: bytes) -> object:
    api = FAKE_APIS[APIS[name].key]
    _, reader = RequestHeader.read(memoryview(data), flexible=api.flexible(version))
    return api.read(reader, version)


# Options.

_NASTY_TEXTS = (
    *("", " ", "\x00", "-0", "+1", "1_000", "1e3", "1e400", "nan", "inf", "0x10", "\u0663"),
    *("\ud800", "h:\ud800"),
    *("9" * 19, "9" * 5000, "true", "TRUE", "yes", "none", "None", "all", "-1", "host", ":", ":1"),
    *("h:0", "h:65536", "h:-1", "h:\u0663", "[::1]:1", "[::1", "::1", "[]:1", "a b:1", "h:1,,h:2"),
    *("org.apache.kafka.common.security.plain.PlainLoginModule required username=a password=b;",),
    *("M required a=b", 'M required a="', "M required;;", "a=b,c", "=", "PEM", "SASL_SSL"),
    *("h:" + "9" * 5000, "x" * 300 + ":1", "h\x00:1", "h:1 2", ",", "\u212a:1", "h:1\n"),
)
_OPTIONS = [name for name in ProducerConfig.__dataclass_fields__ if not name.startswith("_")]
_PROPERTIES = [*_OPTIONS, "sasl_jaas_config", "ssl_truststore_location", "ssl_truststore_type"]
_properties = st.dictionaries(
    st.sampled_from(_PROPERTIES)
    | st.sampled_from(_PROPERTIES).map(lambda name: name.replace("_", ".")),
    st.sampled_from(_NASTY_TEXTS) | st.text(max_size=20),
    max_size=4,
)


def _take_properties(texts: dict[str, str]) -> object:
    if not {"bootstrap.servers", "bootstrap_servers"} & texts.keys():
        texts = texts | {"bootstrap.servers": "localhost:9092"}
    config = ProducerConfig.from_properties(texts)
    return config.bootstrap_addresses, repr(config), config.replace()


def _take_environment(texts: dict[str, str]) -> object:
    environ = {f"KAFKA_{name.replace('.', '_').upper()}": text for name, text in texts.items()}
    config = ProducerConfig.from_env(environ={"KAFKA_BOOTSTRAP_SERVERS": "h:1"} | environ)
    return config.bootstrap_addresses, repr(config), config.replace()


# Challenges of a login.

_NONCE = "nonce"
_server_firsts = st.builds(
    "r={}{},s={},i={}".format,
    st.just(_NONCE),
    st.text("abc+/=", max_size=12),
    st.sampled_from(("c2FsdA==", "", "====", "\N{SNOWMAN}")),
    st.integers(-1, 10**12),
).map(str.encode)


def _take_scram(data: bytes) -> object:
    """Answer a broker's first message; its second one is taken for the same bytes."""
    exchange = Scram("SCRAM-SHA-256", "user", "pencil", make_nonce=lambda: _NONCE).exchange("h")
    step = exchange.send(None)
    try:
        for _ in range(3):
            # The derivation of the password is bounded by itself, and takes its time.
            step = exchange.send(bytes(32) if isinstance(step, Call) else data)
    except StopIteration:
        raise Finding("scram: a broker was trusted that knows no password") from None
    return step


def _take_token_refusal(data: bytes) -> object:
    source = TokenSource(lambda: "token", "the provider")
    exchange = OAuthBearer(source, {}).exchange("h")
    exchange.send(None)
    exchange.send(OAuthToken("token"))
    try:
        return exchange.send(data)
    except StopIteration:
        return not data


def _targets() -> list[Target]:
    found: list[Target] = []
    for name, api in APIS.items():
        for version in range(api.min_version, api.max_version + 1):
            take = partial(_take_response, name, version)
            inputs = hostile(_responses(name, version))
            found.append(Target(f"{name}-v{version}", inputs, take, (ProtocolError,)))
    for flexible in (False, True):
        whole, skipping = _plans(flexible=flexible)
        valid = _everything.map(partial(_encoded, whole))
        take = partial(_take_everything, whole, skipping)
        kind = "flexible" if flexible else "plain"
        found.append(Target(f"codec-{kind}", hostile(valid), take, (ProtocolError,)))
    bodies = st.lists(st.binary(min_size=4, max_size=_MAX_FRAME_SIZE), max_size=4)
    found.append(Target("frames", hostile(bodies.map(_framed)), _take_stream, (ProtocolError,)))
    for name in ("gzip", "snappy", "lz4", "zstd"):
        packer = codec_for(name)
        assert packer is not None
        valid = st.binary(max_size=200).map(packer.compress)
        take = partial(_take_compressed, packer)
        found.append(Target(name, hostile(valid), take, (DecompressionError,)))
    found.append(Target("fake-batch", hostile(_batches), _take_batch, (WireError,)))
    for name, api in APIS.items():
        version = api.max_version
        take = partial(_take_request, name, version)
        inputs = hostile(_requests(name, version))
        found.append(Target(f"fake-{name}", inputs, take, (WireError,)))
    challenges = hostile(_server_firsts)
    found.append(Target("scram", challenges, _take_scram, (AuthenticationError,)))
    refusals = hostile(st.just(b'{"status":"invalid_token","scope":"kafka"}'))
    found.append(Target("oauthbearer", refusals, _take_token_refusal, (AuthenticationError,)))
    found.append(Target("properties", _properties, _take_properties, (ConfigError,)))
    found.append(Target("environment", _properties, _take_environment, (ConfigError,)))
    return found


def _encoded(plan: Plan, value: object) -> bytes:
    return b"".join(encode(value, plan))


TARGETS = {target.name: target for target in _targets()}
