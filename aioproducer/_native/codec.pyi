from collections.abc import Sequence
from typing import Final, TypeAlias

from typing_extensions import Buffer

BOOL: Final[int]
INT8: Final[int]
INT16: Final[int]
INT32: Final[int]
INT64: Final[int]
UINT16: Final[int]
UINT32: Final[int]
UNSIGNED_VARINT: Final[int]
VARINT: Final[int]
VARLONG: Final[int]
UUID: Final[int]
STRING: Final[int]
BYTES: Final[int]
RECORDS: Final[int]
ARRAY: Final[int]
STRUCT: Final[int]

_Field: TypeAlias = tuple[Plan, int, object]
_TaggedField: TypeAlias = tuple[int, Plan, int]

class Plan:
    """The form of one value on the wire in one version. Immutable.

    Args:
        kind: One of the constants of this module.
        nullable: None is allowed (strings, bytes, records, arrays).
        compact: Lengths are varints, as in flexible versions.
        element: What an array holds.
        record: The NamedTuple class of a struct; every field of it has a default.
        fields: A struct's `(plan, place in record, default)` in wire order. A negative place
            is a field that is skipped, and written as its default.
        tagged: A struct's `(tag, plan, place in record)`.
        strict: Places that must hold their default where the version lacks the field.
        flexible: The struct ends with tagged fields.
    """

    @property
    def kind(self) -> int: ...
    @property
    def nullable(self) -> bool: ...
    @property
    def compact(self) -> bool: ...
    @property
    def element(self) -> Plan | None: ...
    @property
    def record(self) -> type[tuple[object, ...]] | None: ...
    @property
    def depth(self) -> int: ...
    @property
    def min_size(self) -> int: ...
    def __init__(
        self,
        kind: int,
        *,
        nullable: bool = False,
        compact: bool = False,
        element: Plan | None = None,
        record: type[tuple[object, ...]] | None = None,
        fields: Sequence[_Field] = (),
        tagged: Sequence[_TaggedField] = (),
        strict: Sequence[int] = (),
        flexible: bool = False,
    ) -> None: ...

def decode(data: Buffer, plan: Plan, offset: int = 0) -> tuple[object, int]:
    """Return the value that starts at `offset`, and the offset behind it.

    Raises:
        ProtocolError: The bytes are not such a value. Nothing was allocated for lengths or
            counts that the data cannot hold.
    """

def encode(value: object, plan: Plan) -> list[bytes | memoryview]:
    """Return the chunks of `value`: bytes, and between them the buffers of its records."""

def encode_frame(
    header: object, header_plan: Plan, body: object, body_plan: Plan
) -> list[bytes | memoryview]:
    """Return the chunks of one frame: its size in 4 bytes, header, body.

    Raises:
        TypeError, ValueError, OverflowError: A value does not fit its field.
        UnsupportedVersionError: A field that this version lacks holds more than its default.
    """
