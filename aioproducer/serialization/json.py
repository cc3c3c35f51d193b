"""Values to JSON. Called once per record, on the loop; see primitives.py for the rules.

models.py has the classes that the json module does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from aioproducer.errors import SerializationError
from aioproducer.serialization.models import as_builtin, model_encoder

__all__ = ["JsonSerializer", "compact_encoder", "encode_json"]


@cache
def compact_encoder() -> Callable[[object], str]:
    """Return the encoder of the json module, which is imported by the first call."""
    # One encoder for all: json.dumps makes a new one per call for any but its default arguments.
    from json import JSONEncoder

    return JSONEncoder(
        ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=as_builtin
    ).encode


def encode_json(value: object) -> bytes:
    """Return a value as JSON, without spaces, as UTF-8; a model by its own library's encoder.

    Raises:
        SerializationError: There is no JSON for it; the text shows no value.
    """
    encode = model_encoder(type(value))
    if encode is not None:
        return encode(value)
    try:
        return compact_encoder()(value).encode()
    except UnicodeEncodeError:
        raise SerializationError("a text in it holds half a surrogate pair") from None
    except RecursionError:
        raise SerializationError("it is nested too deeply") from None
    except (TypeError, ValueError) as error:
        # Names types and "Circular reference detected"; of values, only nan and infinities.
        raise SerializationError(str(error)) from None


class JsonSerializer:
    """Encodes anything that JSON can say, without spaces, as UTF-8.

    Also models of pydantic 2, structs of msgspec, dataclasses, enums, dates and times (ISO 8601),
    UUIDs and Decimals (as text), and sets. NaN and the infinities are refused, as JSON has no form
    for them; in a model its library decides.

    Args:
        dumps: Another function to text or bytes, such as `orjson.dumps`, which then decides alone
            what it takes; None for the json module.

    Example:
        >>> JsonSerializer().serialize("payments", {"amount": 12, "currency": "EUR"})
        b'{"amount":12,"currency":"EUR"}'
    """

    __slots__ = ("_dumps",)

    def __init__(self, dumps: Callable[[object], str | bytes] | None = None) -> None:
        self._dumps = dumps
        if dumps is None:
            # Here, since at the first record an import would block the loop.
            compact_encoder()

    def serialize(self, topic: str, value: object, /) -> bytes:
        """Return the value as JSON."""
        if self._dumps is None:
            return encode_json(value)
        try:
            text = self._dumps(value)
            return text if isinstance(text, bytes) else text.encode()
        except UnicodeEncodeError:
            raise SerializationError("a text in it holds half a surrogate pair") from None
        except RecursionError:
            raise SerializationError("it is nested too deeply") from None
