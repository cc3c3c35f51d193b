"""Asks a token endpoint (RFC 6749) by the standard library's HTTP, in the thread of the caller.

    what comes back                                what it becomes
    200 or 201 with a JSON object, and no error    that object
      in it
    no connection, a broken answer, a status that  the next attempt, for some seconds; then an
      may pass (most of 5xx, 408, 429)               AuthenticationError
    a certificate that is not trusted, a redirect, an AuthenticationError at once
      any other status

Redirects are not followed: the credentials would go with them.

Invariants
* Credentials go over TLS, or to this machine itself.
* The answer is read up to 1 MiB. From its status line to its last byte it has one bound in time:
  each byte of it may come just before a socket's own timeout.
* An error shows scheme, host and path of the URL, and what the endpoint said of its reason, cut and
  without the secrets that were sent to it.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import Any, Final, NamedTuple, Self, cast

from aioproducer.config import ProducerConfig
from aioproducer.errors import AuthenticationError, ConfigError
from aioproducer.errors.base import seconds

__all__ = ["TokenEndpoint", "TokenRequest"]

_OPTION: Final = "sasl_oauthbearer_token_endpoint_url"
_LARGEST_ANSWER: Final = 1024 * 1024
_LONGEST_REASON: Final = 300
_HUNG_UP: Final = "it hung up before its answer was over"
_JITTER: Final = 0.2
_MAY_PASS: Final = frozenset((408, 429))
_FINAL: Final = frozenset((501, 505))
"""Statuses from 500 on that will not pass."""
_LOCAL: Final = re.compile(r"(.+\.)?localhost|127(\.[0-9]+){3}|::1")
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_TRUST: Final = (
    "Have the system trust its authority, or name a file with it in the environment variable"
    " SSL_CERT_FILE."
)


class TokenRequest(NamedTuple):
    """One request for a token.

    Attributes:
        fields: What the form has.
        authorization: The header of this name; empty for none.
        secrets: Texts that no error may show.
        advice: What to check if the endpoint refuses it, as a sentence.
    """

    fields: Mapping[str, str]
    authorization: str
    secrets: tuple[str, ...]
    advice: str

    def __repr__(self) -> str:
        return f"TokenRequest(advice={self.advice!r})"


class _AttemptError(Exception):
    """One attempt failed, and the next may succeed."""


class _Cutter:
    """Ends a connection when its time is over, whatever its owner waits for.

    Args:
        sock: Its socket.
        timeout: Seconds.

    Attributes:
        has_cut: The time was over.
    """

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self.has_cut = False
        # A descriptor of our own: the owner may have closed its own when the time is over. And no
        # TLS: an `SSLSocket.shutdown` would change the state that the owner reads by.
        self._sock = socket.fromfd(sock.fileno(), sock.family, sock.type)
        self._timer = threading.Timer(timeout, self._cut)
        self._timer.name = "aioproducer-token-timeout"
        self._timer.daemon = True

    def _cut(self) -> None:
        self.has_cut = True
        with suppress(OSError):  # The other side ended it.
            self._sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        try:
            self._timer.start()
        except BaseException:
            self._sock.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._sock.close()


class TokenEndpoint:
    """An identity provider's token endpoint.

    Args:
        url: Its URL.
        config: The time limits.
        tls: Whom to trust; None for the system's authorities.

    Attributes:
        shown: The URL without what may be secret in it.

    Raises:
        ConfigError: It is no URL that credentials may go to.
    """

    def __init__(
        self, url: str, config: ProducerConfig, *, tls: ssl.SSLContext | None = None
    ) -> None:
        parts, port = _split(url)
        self._is_https = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = port or (443 if self._is_https else 80)
        self._target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        # As in the Host header.
        name = f"[{self._host}]" if ":" in self._host else self._host
        self.shown = f"{parts.scheme}://{name}{f':{port}' if port else ''}{parts.path}"
        self._connect_timeout = config.sasl_login_connect_timeout_ms / 1000
        self._read_timeout = config.sasl_login_read_timeout_ms / 1000
        self._backoff = config.sasl_login_retry_backoff_ms / 1000
        self._give_up_after = config.sasl_login_retry_backoff_max_ms / 1000
        self._tls = tls

    def post(self, make_request: Callable[[], TokenRequest]) -> Mapping[str, object]:
        """Send a request and return what the endpoint answers. Blocks.

        Args:
            make_request: Makes the request, anew for each attempt: an assertion may be used once.

        Raises:
            AuthenticationError: The endpoint refused it or could not be reached.
            ConfigError: The request cannot be made.
        """
        begins_at = time.monotonic()
        backoff = self._backoff
        attempts = 1
        while True:
            try:
                return self._attempt(make_request())
            except _AttemptError as error:
                wait = backoff * random.uniform(1 - _JITTER, 1 + _JITTER)
                took = time.monotonic() - begins_at
                if took + wait > self._give_up_after:
                    times = f" after {attempts} attempts in {seconds(took)}" if attempts > 1 else ""
                    raise AuthenticationError(
                        f"The token endpoint {self.shown} gives no token: {error}{times}",
                        hint=f"Check {_OPTION}, and that this machine can reach it.",
                    ) from error.__cause__
            attempts += 1
            time.sleep(wait)
            backoff *= 2

    # ---- one attempt

    def _attempt(self, request: TokenRequest) -> Mapping[str, object]:
        body = urllib.parse.urlencode(request.fields)
        headers = {
            "Accept": "application/json",
            "Cache-Control": "no-cache",
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": "aioproducer",
        }
        if request.authorization:
            headers["Authorization"] = request.authorization
        try:
            with closing(self._connection()) as connection:
                connection.connect()
                response, answer = self._answer(connection, body, headers)
        except ssl.SSLCertVerificationError as error:
            raise AuthenticationError(
                f"The certificate of the token endpoint {self.shown} is not trusted:"
                f" {error.verify_message}",
                hint=_TRUST,
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise _AttemptError(_describe(error, request.secrets)) from error
        return self._understood(request, response, answer)

    def _connection(self) -> http.client.HTTPConnection:
        if not self._is_https:
            # To this machine, so through no proxy.
            return http.client.HTTPConnection(self._host, self._port, timeout=self._connect_timeout)
        tls = self._tls or ssl.create_default_context()
        proxy = _proxy_for(self._host)
        connection = http.client.HTTPSConnection(
            (proxy.hostname or "") if proxy else self._host,
            (proxy.port or 80) if proxy else self._port,
            timeout=self._connect_timeout,
            context=tls,
        )
        if proxy:
            connection.set_tunnel(self._host, self._port, _proxy_headers(proxy))
        return connection

    def _answer(
        self, connection: http.client.HTTPConnection, body: str, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a request and read its answer, within one bound of time."""
        took_too_long = _AttemptError(
            f"its answer was not over within {seconds(self._read_timeout)}"
        )
        with _Cutter(connection.sock, self._read_timeout) as cutter:
            try:
                connection.sock.settimeout(self._read_timeout)
                connection.request("POST", self._target, body, headers)
                with connection.getresponse() as response:
                    answer = response.read(_LARGEST_ANSWER + 1)
            except TimeoutError as error:
                raise took_too_long from error
            except (OSError, http.client.HTTPException) as error:
                if cutter.has_cut:
                    raise took_too_long from error
                raise
            if cutter.has_cut:
                # To the reader a connection that was cut looks like an answer's end.
                raise took_too_long
        if len(answer) > _LARGEST_ANSWER:
            raise _AttemptError(f"it sent more than {_LARGEST_ANSWER} bytes")
        # `read` of so many bytes takes a connection that ended for the answer's end.
        if response.length:
            raise _AttemptError(_HUNG_UP)
        return response, answer

    def _understood(
        self, request: TokenRequest, response: http.client.HTTPResponse, answer: bytes
    ) -> Mapping[str, object]:
        status = response.status
        found = _json_object(answer)
        reason = _reason(found or {}, request.secrets)
        # Some answer 200 with the error of RFC 6749.
        if status in (200, 201) and not (reason and found and "access_token" not in found):
            if found is None:
                raise AuthenticationError(
                    f"The token endpoint {self.shown} answered with what is no JSON object",
                    hint=f"Check {_OPTION}: is it that of the token endpoint?",
                )
            return found
        said = f"it answered {status} {_shown(response.reason, request.secrets)}".rstrip()
        if reason:
            said += f", {reason}"
        if status in _MAY_PASS or (status >= 500 and status not in _FINAL):
            raise _AttemptError(said)
        advice = request.advice
        if 300 <= status < 400:
            said += ", a redirect, which is not followed"
            advice = f"Set {_OPTION} to the URL that it redirects to, if that can be trusted."
        elif status in (404, 405):
            advice = f"Check {_OPTION}."
        raise AuthenticationError(
            f"The token endpoint {self.shown} gives no token: {said}", hint=advice
        )


def _split(url: str) -> tuple[urllib.parse.SplitResult, int | None]:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("is no URL", option=_OPTION) from None
    if not _PRINTABLE.fullmatch(url):
        raise ConfigError(
            "has characters that a URL cannot have", option=_OPTION, hint="Encode them with %."
        )
    is_local = _LOCAL.fullmatch((parts.hostname or "").lower()) is not None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigError("is no URL with https://", option=_OPTION)
    if parts.scheme == "http" and not is_local:
        raise ConfigError(
            "credentials would go unencrypted to another machine",
            option=_OPTION,
            hint="Use https://.",
        )
    return parts, port


def _proxy_for(host: str) -> urllib.parse.SplitResult | None:
    """The proxy that the environment names for a host (`https_proxy`, `no_proxy`)."""
    proxies = urllib.request.getproxies()
    url = proxies.get("https") or proxies.get("all")
    if not url or urllib.request.proxy_bypass(host):
        return None
    try:
        proxy = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if proxy.scheme == "http" and proxy.hostname and proxy.port != 0:
            return proxy
    except ValueError:
        pass
    raise AuthenticationError(
        f"The proxy for the token endpoint at {host} cannot be used",
        hint="Set the environment variable https_proxy to http://host:port, or no_proxy to the"
        " host.",
    )


def _proxy_headers(proxy: urllib.parse.SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    user, password = (urllib.parse.unquote(it or "") for it in (proxy.username, proxy.password))
    return {"Proxy-Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def _json_object(answer: bytes) -> Mapping[str, object] | None:
    try:
        found: Any = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", found) if isinstance(found, dict) else None


def _reason(found: Mapping[str, object], secrets: tuple[str, ...]) -> str:
    """What the endpoint says of its refusal: the fields of RFC 6749, or Okta's."""
    said: list[str] = []
    for name in ("error", "error_description", "errorCode", "errorSummary"):
        text = found.get(name)
        if isinstance(text, str) and text.strip():
            said.append(_shown(text, secrets))
    return ": ".join(said).rstrip(". ")


def _shown(text: str, secrets: tuple[str, ...]) -> str:
    """What the endpoint says, in one line, cut, and without the secrets."""
    for secret in secrets:
        text = text.replace(secret, "<hidden>")
    printable = "".join(it if it.isprintable() else " " for it in text)
    return " ".join(printable.split())[:_LONGEST_REASON]


def _describe(error: Exception, secrets: tuple[str, ...]) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    # `RemoteDisconnected` is a `ConnectionResetError`.
    if isinstance(error, ConnectionResetError | BrokenPipeError | http.client.IncompleteRead):
        return _HUNG_UP
    if isinstance(error, ssl.SSLError):
        return f"the TLS connection to it failed ({error.reason})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return f"{type(error).__name__}: {_shown(str(error), secrets)[:100]}".rstrip(": ")
