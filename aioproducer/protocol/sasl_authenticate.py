"""SaslAuthenticate (36): carries one step of a SASL exchange (KIP-152, KIP-368)."""

from typing import NamedTuple

from aioproducer.protocol.schema import BYTES, INT16, INT64, STRING, Api, Field, Struct

__all__ = ["SASL_AUTHENTICATE", "SaslAuthenticateRequest", "SaslAuthenticateResponse"]


class SaslAuthenticateRequest(NamedTuple):
    """What the mechanism's client says."""

    auth_bytes: bytes = b""


class SaslAuthenticateResponse(NamedTuple):
    """What the mechanism's server says; the last one has the session's lifetime, 0 for no end."""

    error_code: int = 0
    error_message: str | None = ""
    auth_bytes: bytes = b""
    session_lifetime_ms: int = 0


SASL_AUTHENTICATE = Api(
    key=36,
    name="SaslAuthenticate",
    min_version=0,
    max_version=2,
    flexible_from=2,
    pause_from=99,
    request=Struct(SaslAuthenticateRequest, Field("auth_bytes", BYTES)),
    response=Struct(
        SaslAuthenticateResponse,
        Field("error_code", INT16),
        Field("error_message", STRING, nullable_since=0),
        Field("auth_bytes", BYTES),
        Field("session_lifetime_ms", INT64, since=1, ignorable=True),
    ),
)
