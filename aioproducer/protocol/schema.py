"""The language in which the API files declare their messages, and its compiler to codec plans.

A message is a NamedTuple class (names, Python types, Kafka's defaults) and a `Struct` with its form
on the wire: the fields in wire order, each with the versions that have it. `compile_plan` turns a
struct into the plan of one version, once. No message is defined here.

The API files do not use `from __future__ import annotations`: NamedTuple would compile each
annotation, which makes `import aioproducer` slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Generic, TypeAlias, TypeVar, cast

from aioproducer._native import codec
from aioproducer._native.codec import Plan

__all__ = [
    "BOOL",
    "BYTES",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "NO_TOPIC_ID",
    "RECORDS",
    "STRING",
    "UINT16",
    "UINT32",
    "UUID",
    "Api",
    "Array",
    "Buffer",
    "Field",
    "Kind",
    "Struct",
    "compile_plan",
]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""The types of a record batch's chunks."""

NO_TOPIC_ID = bytes(16)
"""The zero UUID: no topic id. Topic ids are 16 bytes, as on the wire."""


class Kind:
    """A primitive type of Kafka's protocol."""

    __slots__ = ("code", "name", "zero")

    def __init__(self, name: str, code: int, zero: object) -> None:
        self.name = name
        self.code = code
        self.zero = zero


BOOL = Kind("bool", codec.BOOL, False)
INT8 = Kind("int8", codec.INT8, 0)
INT16 = Kind("int16", codec.INT16, 0)
INT32 = Kind("int32", codec.INT32, 0)
INT64 = Kind("int64", codec.INT64, 0)
UINT16 = Kind("uint16", codec.UINT16, 0)
UINT32 = Kind("uint32", codec.UINT32, 0)
UUID = Kind("uuid", codec.UUID, NO_TOPIC_ID)
STRING = Kind("string", codec.STRING, "")
BYTES = Kind("bytes", codec.BYTES, b"")
RECORDS = Kind("records", codec.RECORDS, ())


T_co = TypeVar("T_co", bound=tuple[object, ...], covariant=True)
Req = TypeVar("Req", bound=tuple[object, ...])
Resp = TypeVar("Resp", bound=tuple[object, ...])


class Struct(Generic[T_co]):
    """The form of the NamedTuple class `record` on the wire."""

    def __init__(self, record: type[T_co], *fields: Field) -> None:
        """Declare `record` by its fields in wire order.

        Args:
            record: The NamedTuple class that values are made of. Each field has a default.
            *fields: Every field of `record`, and those of the wire that are skipped.
        """
        self.record = record
        self.fields = fields
        self.names = cast("tuple[str, ...]", getattr(record, "_fields"))  # noqa: B009
        declared = [field.name for field in fields if not field.skip]
        if sorted(declared) != sorted(self.names):
            raise TypeError(f"{record.__name__} and its declaration have other fields: {declared}")


class Array:
    """Any number of structs or primitives; a tuple when decoded."""

    __slots__ = ("of",)

    def __init__(self, of: Struct[tuple[object, ...]] | Kind) -> None:
        self.of = of


class Field:
    """A field of a struct.

    Attributes:
        name: Kafka's name, in snake_case.
        type: What it holds.
        since: The first version that has it.
        until: The last version that has it; None for no end.
        nullable_since: The first version in which it may be null; None for never.
        tag: Its number, if it is a tagged field.
        ignorable: Its value may be dropped where the version lacks it. For other fields that is
            an error: the request would mean something else.
        never_compact: Its length has the old form in flexible versions, too.
        skip: The producer does not use it: it is not in `record`.
        default: The value written for a skipped field; None for its type's zero.
    """

    def __init__(
        self,
        name: str,
        type: Kind | Array | Struct[tuple[object, ...]],
        *,
        since: int = 0,
        until: int | None = None,
        nullable_since: int | None = None,
        tag: int | None = None,
        ignorable: bool = False,
        never_compact: bool = False,
        skip: bool = False,
        default: object = None,
    ) -> None:
        self.name = name
        self.type = type
        self.since = since
        self.until = until
        self.nullable_since = nullable_since
        self.tag = tag
        self.ignorable = ignorable
        self.never_compact = never_compact
        self.skip = skip
        self.default = default

    def exists_in(self, version: int) -> bool:
        """Return whether the version has this field."""
        return self.since <= version and (self.until is None or version <= self.until)


class Api(Generic[Req, Resp]):
    """A request and its response, and the versions of them that we speak.

    Attributes:
        key: Kafka's number for the API.
        name: Kafka's name for it.
        min_version: The oldest version we speak.
        max_version: The newest version we speak.
        flexible_from: The first version with compact lengths and tagged fields.
        pause_from: The first version whose throttle time asks the client for a pause (KIP-219); in
            older versions it is a pause that the broker has made itself.
        request: The request's declaration.
        response: The response's declaration.
    """

    def __init__(
        self,
        *,
        key: int,
        name: str,
        min_version: int,
        max_version: int,
        flexible_from: int,
        pause_from: int,
        request: Struct[Req],
        response: Struct[Resp],
    ) -> None:
        self.key = key
        self.name = name
        self.min_version = min_version
        self.max_version = max_version
        self.flexible_from = flexible_from
        self.pause_from = pause_from
        self.request = request
        self.response = response

    def is_flexible(self, version: int) -> bool:
        """Return whether the version has compact lengths and tagged fields."""
        return version >= self.flexible_from

    def request_plan(self, version: int) -> Plan:
        """Return the codec's plan of the request in this version."""
        self._check(version)
        return compile_plan(self.request, version, self.is_flexible(version))

    def response_plan(self, version: int) -> Plan:
        """Return the codec's plan of the response in this version."""
        self._check(version)
        return compile_plan(self.response, version, self.is_flexible(version))

    def _check(self, version: int) -> None:
        if not self.min_version <= version <= self.max_version:
            raise ValueError(
                f"{self.name} version {version} is not in {self.min_version}-{self.max_version}"
            )


@cache
def compile_plan(struct: Struct[T_co], version: int, flexible: bool) -> Plan:
    """Return the codec's plan of `struct` in one version; the same object each time."""
    place_of = {name: place for place, name in enumerate(struct.names)}
    fields: list[tuple[Plan, int, object]] = []
    tagged: list[tuple[int, Plan, int]] = []
    for field in _fields_in(struct, version):
        plan = _plan_of(field, version, flexible)
        if field.tag is not None:
            # The codec skips unknown tags.
            if not field.skip:
                tagged.append((field.tag, plan, place_of[field.name]))
        elif field.skip:
            default = _zero(field.type) if field.default is None else field.default
            fields.append((plan, -1, default))
        else:
            fields.append((plan, place_of[field.name], None))
    return Plan(
        codec.STRUCT,
        record=struct.record,
        fields=fields,
        tagged=tagged,
        strict=[place_of[f.name] for f in struct.fields if not f.skip and not f.ignorable],
        flexible=flexible,
    )


def _fields_in(struct: Struct[T_co], version: int) -> Iterator[Field]:
    return (field for field in struct.fields if field.exists_in(version))


def _plan_of(field: Field, version: int, flexible: bool) -> Plan:
    compact = flexible and not field.never_compact
    nullable = field.nullable_since is not None and version >= field.nullable_since
    kind = field.type
    if isinstance(kind, Struct):
        return compile_plan(kind, version, flexible)
    if isinstance(kind, Kind):
        return Plan(kind.code, nullable=nullable, compact=compact)
    if isinstance(kind.of, Struct):
        element = compile_plan(kind.of, version, flexible)
    else:
        element = Plan(kind.of.code, compact=compact)
    return Plan(codec.ARRAY, nullable=nullable, compact=compact, element=element)


def _zero(kind: Kind | Array | Struct[tuple[object, ...]]) -> object:
    if isinstance(kind, Kind):
        return kind.zero
    return () if isinstance(kind, Array) else kind.record()
