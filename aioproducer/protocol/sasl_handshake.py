"""SaslHandshake (17): names the SASL mechanism, before SaslAuthenticate.

In version 0 the bytes of the mechanism would follow without any frame; so it is never used.
"""

from collections.abc import Sequence
from typing import NamedTuple

from aioproducer.protocol.schema import INT16, STRING, Api, Array, Field, Struct

__all__ = ["SASL_HANDSHAKE", "SaslHandshakeRequest", "SaslHandshakeResponse"]


class SaslHandshakeRequest(NamedTuple):
    """Names the mechanism that the client wants to use."""

    mechanism: str = ""


class SaslHandshakeResponse(NamedTuple):
    """The mechanisms that the broker's listener offers."""

    error_code: int = 0
    mechanisms: Sequence[str] = ()


SASL_HANDSHAKE = Api(
    key=17,
    name="SaslHandshake",
    min_version=1,
    max_version=1,
    flexible_from=99,
    pause_from=99,
    request=Struct(SaslHandshakeRequest, Field("mechanism", STRING)),
    response=Struct(
        SaslHandshakeResponse, Field("error_code", INT16), Field("mechanisms", Array(STRING))
    ),
)
