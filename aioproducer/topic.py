"""`Topic`: a topic's name with the types of its keys and values, and so with its serializers.

Owns nothing: a Topic is a value, made once, and holds the calls that the send path makes for each
record. Which serializer a type stands for is decided in serialization/by_type.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    NoReturn,
    TypeAlias,
    cast,
    final,
    get_args,
    overload,
)

from aioproducer._native.serializer_call import SerializerCall, TopicSerializers
from aioproducer.errors import ConfigError
from aioproducer.hooks import (
    Serializer,
    SerializerName,
    SerializerOption,
    SerializerWithHeaders,
)
from aioproducer.options import function
from aioproducer.records import TOPIC_NAMES, K, TypedTopic, V, is_topic_name
from aioproducer.serialization.by_type import (
    TYPES_ALLOWED,
    UnsupportedTypeError,
    call_for_type,
    is_type,
    shown_type,
)
from aioproducer.serialization.resolve import as_function, is_bytes, shown_serializer

if TYPE_CHECKING:
    from typing_extensions import TypeForm, TypeVar

    T = TypeVar("T")
    SerializerFor: TypeAlias = (
        Serializer[T]
        | SerializerWithHeaders[T]
        | Callable[[T], bytes | bytearray | memoryview]
        | SerializerName
        | None
    )

__all__ = ["Topic"]

_TYPE_OR_SERIALIZER: Final = function(
    f"a type: {TYPES_ALLOWED}; or an object with serialize(topic, value), or a function of the"
    " value that returns bytes",
    {name: name for name in get_args(SerializerName)},
    method="serialize",
)


@final
class Topic(TypedTopic[K, V], Generic[K, V]):
    """A topic with the types of its keys and values. A value: it cannot be changed.

    Give it to a call of `send` in place of the topic's name. The types are checked in the editor,
    and against the class of each key and value at the call (`SerializationError`).

    Args:
        name: The topic's name.
        key: The type of the keys, or a serializer as `key_serializer` takes it. None for the
            producer's own.
        value: The type of the values, or a serializer. None for the producer's own.

    Types: `bytes` are sent as they are, `str` as UTF-8, `int` and `float` as 8 bytes like Java's
    LongSerializer and DoubleSerializer, `uuid.UUID` as text. All else is JSON: pydantic 2 models,
    msgspec structs, dataclasses, TypedDicts, `dict[str, int]`, `list[Order]`, `Order | Refund`.
    A subclass of a model is written with all of its own fields. A key or value of None needs no
    serializer: no key, and a tombstone.

    Attributes:
        key, value: The types or serializers as they were given.

    Raises:
        ConfigError: The name is none that Kafka has, or a key or value is of no such type.

    Example:
        orders = Topic("orders", key=str, value=Order)
        await producer.send_and_wait(orders, order, key="card-1")
    """

    __slots__ = ("key", "value")

    key: Any
    value: Any

    @overload
    def __init__(self, name: str, *, key: TypeForm[K], value: TypeForm[V]) -> None: ...
    @overload
    def __init__(self, name: str, *, key: TypeForm[K], value: SerializerFor[V] = ...) -> None: ...
    @overload
    def __init__(self, name: str, *, key: SerializerFor[K] = ..., value: TypeForm[V]) -> None: ...
    @overload
    def __init__(
        self, name: str, *, key: SerializerFor[K] = ..., value: SerializerFor[V] = ...
    ) -> None: ...
    def __init__(self, name: str, *, key: Any = None, value: Any = None) -> None:
        given: Any = name
        if not isinstance(given, str) or not is_topic_name(given):
            raise ConfigError(option="name", value=given, allowed=TOPIC_NAMES)
        name = str.__str__(given)  # of a StrEnum's member, too
        serializers = TopicSerializers(name, _call(name, "key", key), _call(name, "value", value))
        super().__init__(name, serializers)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "value", value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Topic cannot be changed: make another one ({name})")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Topic cannot be changed: make another one ({name})")

    def __repr__(self) -> str:
        types = [("key", self.key), ("value", self.value)]
        shown = [f", {name}={_shown(given)}" for name, given in types if given is not None]
        return f"Topic({self.name!r}{''.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topic):
            return NotImplemented
        mine = (self.name, self.key, self.value)
        return mine == (other.name, other.key, other.value)

    def __hash__(self) -> int:
        return hash(self.name)  # a serializer may have no hash

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Topic, self.name, key=self.key, value=self.value), ()


def _call(name: str, field: str, given: Any) -> SerializerCall | None:
    """Return how a Topic's keys or values are serialized; None to leave it to the producer."""
    if given is None:
        return None
    taker = f"Topic({name!r}, {field}={_shown(given)})"
    try:
        if is_type(given):
            return call_for_type(given, taker=taker)
    except UnsupportedTypeError as error:
        raise ConfigError(
            f"no serializer for {shown_type(given)}: {error}",
            option=field,
            allowed=f"{TYPES_ALLOWED}; or a serializer",
        ) from None
    serializer = cast("SerializerOption", _TYPE_OR_SERIALIZER.check(field, given))
    if is_bytes(serializer):
        return call_for_type(bytes, taker=taker)
    return as_function(serializer, option=field, taker=taker)


def _shown(given: Any) -> str:
    return shown_type(given) if is_type(given) else shown_serializer(given)
