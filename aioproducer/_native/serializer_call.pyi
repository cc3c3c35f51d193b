from collections.abc import Callable, Sequence
from typing import Any, Literal

from aioproducer.records import Header

class SerializerCall:
    taker: str
    expected: str
    def __init__(
        self,
        takes: Literal["bytes", "text", "value", "topic", "headers"],
        function: Callable[..., Any] | None = None,
        *,
        kinds: tuple[type, ...] = (),
        taker: str = "",
        expected: str = "",
    ) -> None: ...
    def __call__(
        self, topic: str, value: Any, headers: Sequence[Header] = (), /
    ) -> bytes | bytearray | memoryview: ...

class TopicSerializers:
    name: str
    key: SerializerCall | None
    value: SerializerCall | None
    def __init__(
        self, name: str, key: SerializerCall | None, value: SerializerCall | None
    ) -> None: ...
