"""Reads HTTP/1.1 responses that have a Content-Length, for clients that must cost little."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Response", "response_of"]


class Response(NamedTuple):
    """A whole response.

    Attributes:
        status: The status code.
        head: Status line and headers.
        body: What follows.
    """

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's value; None if there is none of that name, which is in lower case."""
        for line in self.head.split(b"\r\n")[1:]:
            field, _, value = line.partition(b":")
            if field.lower() == name.encode():
                return value.strip().decode()
        return None


def response_of(received: bytes) -> Response | None:
    """Return the response that was received, or None while some of it is missing.

    Raises:
        ConnectionError: It has no Content-Length, so nobody knows where it ends.
    """
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    response = Response(int(head[9:12]), head, body)
    size = response.header("content-length")
    if size is None:
        raise ConnectionError(f"a response without Content-Length: {received[:200]!r}")
    return response if len(body) >= int(size) else None
