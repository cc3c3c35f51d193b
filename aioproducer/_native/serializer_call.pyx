# cython: language_level=3, boundscheck=False, wraparound=False
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""How a serializer is called. Decided once, when a producer or a Topic is made; used per record.

Invariant: whatever is called here is called with a value that is not None.
"""

cimport cython
from cpython.unicode cimport PyUnicode_AsUTF8String

from aioproducer.errors import SerializationError

cdef enum:
    BYTES
    TEXT
    VALUE
    TOPIC
    HEADERS

cdef dict WAYS = {
    "bytes": BYTES, "text": TEXT, "value": VALUE, "topic": TOPIC, "headers": HEADERS,
}


@cython.final
cdef class SerializerCall:
    """One serializer and what it is called with.

    Args:
        takes: `"value"`, `"topic"` (and value) or `"headers"` (topic, value and headers) are what
            the function is called with; `"text"` and `"bytes"` need none: UTF-8, and the bytes
            themselves.
        function: What is called.
        kinds: The types of the values that it takes; empty for whatever the function takes. A bool
            counts as an int only where bool is named.
        taker: Who takes only these, for the error.
        expected: Their name, for the error.
    """

    def __init__(
        self, str takes, function=None, *, tuple kinds=(), str taker="", str expected="",
    ):
        self.takes = WAYS[takes]
        self.function = function
        self.kinds = kinds or None
        self.kind = kinds[0] if kinds else None
        self.refuses_bool = bool not in kinds
        self.taker = taker
        self.expected = expected

    def __call__(self, topic, value, headers=()):
        return self.call(topic, value, headers)

    cdef object call(self, topic, value, headers):
        if type(value) is not self.kind and self.kinds is not None and (
            not isinstance(value, self.kinds) or (type(value) is bool and self.refuses_bool)
        ):
            self.refuse(value)
        if self.takes == VALUE:
            return self.function(value)
        if self.takes == TOPIC:
            return self.function(topic, value)
        if self.takes == BYTES:
            return value if type(value) is bytes else bytes(value)
        if self.takes == HEADERS:
            return self.function(topic, value, () if headers is None else headers)
        try:
            return PyUnicode_AsUTF8String(value)
        except UnicodeEncodeError as error:
            # The error itself would show what it could not encode.
            start = error.start
        raise SerializationError(f"the character at {start} has no form in utf-8")

    cdef int refuse(self, value) except -1:
        raise SerializationError(
            f"{self.taker} takes {self.expected}, not {type(value).__name__}",
            got_type=type(value).__name__,
            expected_type=self.expected,
        )


@cython.final
cdef class TopicSerializers:
    """A topic's name and its own serializers; None where it leaves that to the producer's."""

    def __init__(self, str name, SerializerCall key, SerializerCall value):
        self.name = name
        self.key = key
        self.value = value
