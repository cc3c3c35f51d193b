"""SaslHandshake, version 1: which mechanism the client wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "SaslHandshakeResponse"]


@dataclass(slots=True)
class SaslHandshakeResponse:
    """The answer to SaslHandshake."""

    mechanisms: Sequence[str] = ()
    error_code: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""
        writer.int16(self.error_code)
        writer.array(self.mechanisms, writer.string)


class _SaslHandshake(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self.mechanism = reader.string()

    def respond(self, turn: Turn) -> SaslHandshakeResponse:
        sasl = turn.session.sasl
        mechanisms = () if sasl is None else sasl.mechanisms
        if (failure := turn.failure()) is not None:
            return SaslHandshakeResponse(mechanisms, failure.code)
        if sasl is None:
            return SaslHandshakeResponse(error_code=ErrorCode.ILLEGAL_SASL_STATE)
        if self.mechanism not in mechanisms:
            return SaslHandshakeResponse(mechanisms, ErrorCode.UNSUPPORTED_SASL_MECHANISM)
        turn.session.begin(self.mechanism)
        return SaslHandshakeResponse(mechanisms)


API = Api("sasl_handshake", 17, 1, 1, 99, _SaslHandshake, advertised_min=0)
