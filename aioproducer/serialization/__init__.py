"""Keys and values to bytes: the ready serializers, and what makes one function of any of them."""

from aioproducer.hooks import Serializer, SerializerWithHeaders
from aioproducer.serialization.json import JsonSerializer
from aioproducer.serialization.primitives import (
    BytesSerializer,
    DoubleSerializer,
    FloatSerializer,
    IntegerSerializer,
    LongSerializer,
    ShortSerializer,
    StringSerializer,
    UUIDSerializer,
)
from aioproducer.serialization.resolve import as_function, header_error, serialization_error

__all__ = [
    "BytesSerializer",
    "DoubleSerializer",
    "FloatSerializer",
    "IntegerSerializer",
    "JsonSerializer",
    "LongSerializer",
    "Serializer",
    "SerializerWithHeaders",
    "ShortSerializer",
    "StringSerializer",
    "UUIDSerializer",
    "as_function",
    "header_error",
    "serialization_error",
]
