"""Values to JSON. Called once per record, on the loop; see primitives.py for the rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from aioproducer.errors import SerializationError

__all__ = ["JsonSerializer"]


@cache
def _compact() -> Callable[[object], str]:
    # One encoder for all: json.dumps makes a new one per call for any but its default arguments.
    from json import JSONEncoder

    return JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class JsonSerializer:
    """Encodes anything that JSON can say, without spaces, as UTF-8.

    NaN and the infinities are refused, as JSON has no form for them.

    Args:
        dumps: Another function to text or bytes, such as `orjson.dumps`; None for the json module.

    Example:
        >>> JsonSerializer().serialize("payments", {"amount": 12, "currency": "EUR"})
        b'{"amount":12,"currency":"EUR"}'
    """

    __slots__ = ("_dumps",)

    def __init__(self, dumps: Callable[[object], str | bytes] | None = None) -> None:
        self._dumps = _compact() if dumps is None else dumps

    def serialize(self, topic: str, value: object, /) -> bytes:
        """Return the value as JSON."""
        try:
            text = self._dumps(value)
            return text if isinstance(text, bytes) else text.encode()
        except UnicodeEncodeError:
            raise SerializationError("a text in it holds half a surrogate pair") from None
        except RecursionError:
            raise SerializationError("it is nested too deeply") from None
        except (TypeError, ValueError) as error:
            if self._dumps is not _compact():
                raise  # its message is not ours to repeat: it may show the value
            # Names types and "Circular reference detected"; of values, only nan and infinities.
            raise SerializationError(str(error)) from None
