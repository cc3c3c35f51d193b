"""SaslAuthenticate, versions 0 to 2: one step of a SASL exchange.

A refusal is answered; the connection ends with whatever is sent next.
"""

from __future__ import annotations

from dataclasses import dataclass

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.sasl import RefusedError
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "SaslAuthenticateResponse"]


@dataclass(slots=True)
class SaslAuthenticateResponse:
    """The answer to SaslAuthenticate."""

    auth_bytes: bytes = b""
    session_lifetime_ms: int = 0
    error_code: int = 0
    error_message: str | None = None

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""
        writer.int16(self.error_code)
        writer.string(self.error_message)
        writer.bytes_(self.auth_bytes)
        if version >= 1:
            writer.int64(self.session_lifetime_ms)
        writer.tags()


class _SaslAuthenticate(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self.auth_bytes = bytes(reader.nullable_bytes() or b"")
        reader.tags()

    def respond(self, turn: Turn) -> SaslAuthenticateResponse:
        if (failure := turn.failure()) is not None:
            return SaslAuthenticateResponse(error_code=failure.code)
        try:
            answer, lifetime = turn.session.advance(self.auth_bytes)
        except RefusedError as error:
            return SaslAuthenticateResponse(
                error_code=ErrorCode.SASL_AUTHENTICATION_FAILED, error_message=str(error)
            )
        return SaslAuthenticateResponse(answer, lifetime)


API = Api("sasl_authenticate", 36, 0, 2, 2, _SaslAuthenticate)
