"""Encodes requests to frames and decodes frames to responses.

A frame is a size in four bytes, a header and a body. A connection's responses come in the order of
its requests, each with the correlation id of its request.

Invariant
* A frame larger than `max_frame_size` is refused as soon as its size is known.
"""

from collections.abc import Iterator
from typing import NamedTuple, cast

from aioproducer._native.codec import decode, encode_frame
from aioproducer.errors import ProtocolError
from aioproducer.protocol.api_versions import (
    API_VERSIONS,
    REFUSALS,
    ApiVersionsResponse,
)
from aioproducer.protocol.schema import (
    INT16,
    INT32,
    STRING,
    Api,
    Buffer,
    Field,
    Req,
    Resp,
    Struct,
    compile_plan,
)

__all__ = [
    "MAX_FRAME_SIZE",
    "FrameDecoder",
    "OtherProtocolError",
    "RequestHeader",
    "ResponseHeader",
    "decode_response",
    "encode_request",
    "read_correlation_id",
]

MAX_FRAME_SIZE = 100 * 1024 * 1024
"""The largest response taken from a broker by default, in bytes."""

_SIZE_BYTES = 4
_CORRELATION_ID_BYTES = 4
_ERROR_CODE_BYTES = 2


class OtherProtocolError(ProtocolError):
    """The other side speaks TLS, HTTP or some text: no version of Kafka's protocol will do."""


class RequestHeader(NamedTuple):
    """What precedes every request."""

    request_api_key: int = 0
    request_api_version: int = 0
    correlation_id: int = 0
    client_id: str | None = ""


class ResponseHeader(NamedTuple):
    """What precedes every response."""

    correlation_id: int = 0


# Never compact: a broker must be able to read the client id in a version it does not know.
_REQUEST_HEADER = Struct(
    RequestHeader,
    Field("request_api_key", INT16),
    Field("request_api_version", INT16),
    Field("correlation_id", INT32),
    Field("client_id", STRING, nullable_since=1, never_compact=True),
)
_RESPONSE_HEADER = Struct(ResponseHeader, Field("correlation_id", INT32))

_REQUEST_HEADER_PLANS = (
    compile_plan(_REQUEST_HEADER, 1, False),
    compile_plan(_REQUEST_HEADER, 2, True),
)
_RESPONSE_HEADER_PLANS = (
    compile_plan(_RESPONSE_HEADER, 0, False),
    compile_plan(_RESPONSE_HEADER, 1, True),
)


def encode_request(
    api: Api[Req, Resp],
    version: int,
    correlation_id: int,
    client_id: str | None,
    request: Req,
) -> list[bytes | memoryview]:
    """Encode a request as the chunks to write, its size first.

    The buffers of record batches are among the chunks, uncopied: they must not change until the
    response has come.

    Args:
        api: The API.
        version: A version of it that we speak, see `versions.choose_version`.
        correlation_id: The response carries it, too.
        client_id: The producer's `client_id`.
        request: The request.

    Raises:
        UnsupportedVersionError: The request holds something that the version has no field for.
    """
    return encode_frame(
        RequestHeader(api.key, version, correlation_id, client_id),
        _REQUEST_HEADER_PLANS[api.is_flexible(version)],
        request,
        api.request_plan(version),
    )


def read_correlation_id(frame: Buffer) -> int:
    """Return the correlation id of a response frame; it comes first in every version."""
    if len(frame) < _CORRELATION_ID_BYTES:
        raise ProtocolError(f"The broker sent a response of {len(frame)} bytes")
    return int.from_bytes(frame[:_CORRELATION_ID_BYTES], "big", signed=True)


def decode_response(api: Api[Req, Resp], version: int, frame: Buffer) -> tuple[int, Resp]:
    """Decode a frame, without its size, as the response to a request of this version.

    Bytes behind the response are ignored, as in Kafka's own clients.

    Returns:
        The correlation id and the response.

    Raises:
        ProtocolError: The frame is not such a response.
    """
    is_api_versions = api.key == API_VERSIONS.key
    # The header of an ApiVersions response never changes: no version is agreed on yet.
    flexible_header = api.is_flexible(version) and not is_api_versions
    header, offset = decode(frame, _RESPONSE_HEADER_PLANS[flexible_header])
    correlation_id = cast(ResponseHeader, header).correlation_id
    if is_api_versions and (code := _error_code(frame, offset)) in REFUSALS:
        return correlation_id, cast(Resp, _decode_refusal(version, frame, offset, code))
    response, _ = decode(frame, api.response_plan(version), offset)
    return correlation_id, cast(Resp, response)


def _error_code(frame: Buffer, offset: int) -> int:
    end = offset + _ERROR_CODE_BYTES
    if len(frame) < end:
        raise ProtocolError(f"The broker sent an ApiVersions response of {len(frame)} bytes")
    return int.from_bytes(frame[offset:end], "big", signed=True)


def _decode_refusal(version: int, frame: Buffer, offset: int, code: int) -> ApiVersionsResponse:
    """Decode the response of a broker that does not know the request's version.

    Kafka responds in version 0 (KIP-511), Kroxylicious in the version of the request, librdkafka's
    mock cluster in a form of its own. A wrong form gives a nonsense list and a throttle time of
    hours. So the list counts only if version 0 or the request's version fits the frame to its last
    byte, and the throttle time never counts.
    """
    for form in dict.fromkeys((0, version)):
        try:
            response, end = decode(frame, API_VERSIONS.response_plan(form), offset)
        except ProtocolError:
            continue
        if end == len(frame):
            return cast(ApiVersionsResponse, response)._replace(throttle_time_ms=0)
    return ApiVersionsResponse(code)


class FrameDecoder:
    """Cuts the bytes of one connection into frames.

    Attributes:
        max_frame_size: The largest frame to accept, in bytes.
    """

    def __init__(self, *, max_frame_size: int = MAX_FRAME_SIZE) -> None:
        """Start with an empty connection.

        Args:
            max_frame_size: The largest frame to accept, in bytes.
        """
        self.max_frame_size = max_frame_size
        self._buffer = bytearray()
        self._frame_size = -1
        self._frames_seen = 0

    def feed(self, data: Buffer) -> Iterator[bytes]:
        """Take what was read; return the frames that are complete now, without their sizes.

        The bytes are taken at the call, even if nobody iterates.

        Raises:
            ProtocolError: While iterating, after the frames before it: a frame has an
                impossible size. The connection cannot be used any more.
        """
        self._buffer += data
        return self._frames()

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an incomplete frame were received."""
        return len(self._buffer)

    def _frames(self) -> Iterator[bytes]:
        while True:
            if self._frame_size < 0:
                if len(self._buffer) < _SIZE_BYTES:
                    return
                self._frame_size = self._read_size()
            end = _SIZE_BYTES + self._frame_size
            if len(self._buffer) < end:
                return
            with memoryview(self._buffer) as view:
                frame = bytes(view[_SIZE_BYTES:end])
            del self._buffer[:end]
            self._frame_size = -1
            self._frames_seen += 1
            yield frame

    def _read_size(self) -> int:
        size = int.from_bytes(self._buffer[:_SIZE_BYTES], "big", signed=True)
        if _CORRELATION_ID_BYTES <= size <= self.max_frame_size:
            return size
        guess = _guess_speaker(bytes(self._buffer[:_SIZE_BYTES]))
        if self._frames_seen == 0 and guess:
            raise OtherProtocolError(guess[0], hint=guess[1])
        raise ProtocolError(
            f"The broker announced an answer of {size} bytes, which is not between "
            f"{_CORRELATION_ID_BYTES} and {self.max_frame_size}",
            hint="Check that bootstrap_servers names the port of a Kafka listener.",
        )


def _guess_speaker(start: bytes) -> tuple[str, str] | None:
    """Return what the other side seems to be and how to fix it, from its first four bytes."""
    if start[0] in (0x15, 0x16) and start[1] == 0x03:
        return (
            "The other side answered in TLS: is TLS missing?",
            "Set security_protocol to SSL or SASL_SSL, or use the port of a plaintext listener.",
        )
    if start == b"HTTP":
        return (
            "The other side answered in HTTP: this is a web server, not a Kafka broker",
            "The port is not Kafka's: check it in bootstrap_servers.",
        )
    if start.isascii() and start.decode("ascii").isprintable():
        return (
            "The other side answered in text: this is not a Kafka broker",
            "The port is not Kafka's: check host and port in bootstrap_servers.",
        )
    return None
