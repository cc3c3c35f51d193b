"""The token endpoint over real sockets: what is sent, tried again, refused, and said."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from aioproducer import AuthenticationError, ConfigError
from aioproducer.network.sasl.token_endpoint import TokenEndpoint, TokenRequest
from tests.support.token_server import Answer, Asked, TokenServer, oauth_config

AUTHORITY = trustme.CA()
GOOD = Answer.of(access_token="token", expires_in=60)
REQUEST = TokenRequest(
    {"grant_type": "client_credentials", "scope": "a b"},
    "Basic Y2FuYXJ5",
    ("canary", "Y2FuYXJ5"),
    "Check the client secret.",
)


def tls_of_server(name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Its types name OpenSSL contexts that are not installed.
    AUTHORITY.issue_cert(name).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    return context


def tls_of_client() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
    return context


def endpoint(
    url: str, *, retry_for_ms: int = 0, tls: ssl.SSLContext | None = None, **options: Any
) -> TokenEndpoint:
    config = oauth_config(
        url,
        sasl_login_retry_backoff_ms=1,
        sasl_login_retry_backoff_max_ms=retry_for_ms,
        **options,
    )
    return TokenEndpoint(url, config, tls=tls)


def refusal(url: str, **options: Any) -> str:
    with pytest.raises(AuthenticationError) as caught:
        endpoint(url, **options).post(lambda: REQUEST)
    assert "canary" not in str(caught.value) and "Y2FuYXJ5" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_form_is_posted_and_the_json_object_is_returned() -> None:
    with TokenServer(GOOD) as server:
        assert endpoint(f"{server.url}?tenant=1").post(lambda: REQUEST) == {
            "access_token": "token",
            "expires_in": 60,
        }
    (asked,) = server.asked
    assert asked.path == "/oauth2/token?tenant=1"
    assert asked.form == REQUEST.fields
    assert asked.headers["authorization"] == REQUEST.authorization
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked.headers["accept"] == "application/json"


def test_a_request_without_authorization_sends_no_such_header() -> None:
    with TokenServer(GOOD) as server:
        endpoint(server.url).post(lambda: REQUEST._replace(authorization=""))
    assert "authorization" not in server.asked[0].headers


def test_a_request_does_not_show_its_secrets() -> None:
    assert repr(REQUEST) == "TokenRequest(advice='Check the client secret.')"


# ---- tried again


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_a_status_that_may_pass_is_tried_again_with_a_new_request(status: int) -> None:
    made: list[TokenRequest] = []

    def make_request() -> TokenRequest:
        made.append(REQUEST._replace(fields={"assertion": str(len(made))}))
        return made[-1]

    with TokenServer(Answer(status), Answer(status), GOOD) as server:
        endpoint(server.url, retry_for_ms=5_000).post(make_request)
    assert [asked.form["assertion"] for asked in server.asked] == ["0", "1", "2"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501, 505])
def test_a_status_that_will_not_pass_is_not_tried_again(status: int) -> None:
    with TokenServer(Answer(status)) as server:
        said = refusal(server.url, retry_for_ms=5_000)
    assert len(server.asked) == 1
    assert f"it answered {status} " in said


def test_attempts_end_after_their_time_and_are_counted() -> None:
    with TokenServer(Answer.of(503, error="temporarily_unavailable")) as server:
        said = refusal(server.url, retry_for_ms=60)
    assert len(server.asked) > 1
    assert said.startswith(
        f"The token endpoint {server.url} gives no token: it answered 503 Service Unavailable,"
        f" temporarily_unavailable after {len(server.asked)} attempts in "
    )
    assert said.endswith("Check sasl_oauthbearer_token_endpoint_url, and that this machine can"
                         " reach it.")  # fmt: skip


def test_nobody_there_is_said_with_the_url() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    said = refusal(f"http://127.0.0.1:{port}/token")
    assert f"http://127.0.0.1:{port}/token gives no token: connection refused." in said


def test_silence_ends_with_the_read_timeout() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/token"
        said = refusal(url, sasl_login_read_timeout_ms=50)
    assert "its answer was not over within 0.05 s" in said


@contextmanager
def dripping(begin: bytes, drop: bytes, tls: ssl.SSLContext | None = None) -> Generator[str]:
    """An endpoint that sends one piece of its answer after the other, for ever."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        stop = threading.Event()
        # A test that fails before it connects leaves nobody waiting.
        server.settimeout(5)

        def drip() -> None:
            taken, _ = server.accept()
            if tls is not None:
                taken = tls.wrap_socket(taken, server_side=True)
            with taken:
                taken.recv(65_536)
                try:
                    taken.sendall(begin)
                    while not stop.wait(0.01):
                        taken.sendall(drop)
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://localhost:{server.getsockname()[1]}/token"
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("uses_tls", [False, True])
@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        pytest.param(b"", b"H", id="the status line"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="100 Continue"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", b"x", id="a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" ", id="the body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n{", b" ", id="a body without a length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="chunks"
        ),
    ],
)
def test_an_answer_that_never_ends_is_given_up(begin: bytes, drop: bytes, uses_tls: bool) -> None:
    with dripping(begin, drop, tls_of_server() if uses_tls else None) as url:
        said = refusal(url, sasl_login_read_timeout_ms=100, tls=tls_of_client())
    assert "its answer was not over within 0.1 s" in said


def test_an_answer_that_took_too_long_is_asked_for_again() -> None:
    goes_on = threading.Event()

    def late(asked: Asked) -> Answer:
        goes_on.wait(10)
        return GOOD

    with TokenServer(late, GOOD) as server:
        found = endpoint(server.url, retry_for_ms=5_000, sasl_login_read_timeout_ms=100)
        assert found.post(lambda: REQUEST)["access_token"] == "token"
        goes_on.set()
    assert len(server.asked) == 2


def test_the_bound_of_an_answer_leaves_no_thread_behind() -> None:
    with TokenServer(GOOD) as server:
        endpoint(server.url).post(lambda: REQUEST)
        assert "aioproducer-token-timeout" not in [it.name for it in threading.enumerate()]


@contextmanager
def hanging_up(answer: bytes, *, with_reset: bool = False) -> Generator[str]:
    """An endpoint that reads each request, sends what may be a part of an answer, and hangs up."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(5)
        is_over = threading.Event()

        def run() -> None:
            while not is_over.is_set():
                taken, _ = server.accept()
                with taken:
                    # What is left unread would make the end of the connection a reset.
                    received = b""
                    while not received.endswith(b"scope=a+b") and (chunk := taken.recv(65_536)):
                        received += chunk
                    taken.sendall(answer)
                    if with_reset:
                        taken.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/token"
        finally:
            is_over.set()
            with closing(socket.create_connection(server.getsockname())):
                pass
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="at once"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", id="after the header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", id="within the answer"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}", id="within a chunk"
        ),
    ],
)
def test_an_endpoint_that_hangs_up_is_said_and_tried_again(answer: bytes) -> None:
    with hanging_up(answer) as url:
        said = refusal(url, retry_for_ms=60)
    assert "it hung up before its answer was over after " in said


def test_a_reset_connection_is_a_hang_up() -> None:
    with hanging_up(b"", with_reset=True) as url:
        said = refusal(url)
    assert "it hung up before its answer was over. " in said


# ---- refused


def test_the_endpoints_own_words_are_shown_without_the_secrets() -> None:
    answer = Answer.of(401, error="invalid_client", error_description="no\x1b[31m canary\nY2FuYXJ5")
    with TokenServer(answer) as server:
        said = refusal(server.url)
    assert said == (
        f"The token endpoint {server.url} gives no token: it answered 401 Unauthorized,"
        " invalid_client: no [31m <hidden> <hidden>. Check the client secret."
    )


def test_the_reason_of_a_status_is_cut_and_shown_without_the_secrets() -> None:
    answer = b"HTTP/1.1 401 \x1b[31mno canary %s\r\nContent-Length: 2\r\n\r\n{}" % (b"x" * 60_000)
    with hanging_up(answer) as url:
        said = refusal(url)
    assert "it answered 401 [31mno <hidden> xxx" in said
    assert len(said) < 500


@pytest.mark.parametrize("status", [200, 201])
def test_an_error_in_an_answer_of_success_is_said_with_what_to_check(status: int) -> None:
    answer = Answer.of(status, error="invalid_client", error_description="no such canary")
    with TokenServer(answer) as server:
        said = refusal(server.url, retry_for_ms=5_000)
    assert len(server.asked) == 1
    assert f"it answered {status} " in said
    assert said.endswith(", invalid_client: no such <hidden>. Check the client secret.")


def test_the_endpoints_words_are_cut() -> None:
    with TokenServer(Answer.of(400, error="e" * 10_000, error_description=7)) as server:
        assert len(refusal(server.url)) < 500


def test_oktas_words_are_shown() -> None:
    with TokenServer(Answer.of(400, errorCode="E0000021", errorSummary="Bad request.")) as server:
        assert "400 Bad Request, E0000021: Bad request." in refusal(server.url)


def test_a_redirect_is_not_followed() -> None:
    def must_not_be_asked(asked: Asked) -> Answer:
        raise AssertionError

    with TokenServer(must_not_be_asked) as other:
        moved = Answer(307, b"", (("Location", other.url),))
        with TokenServer(moved) as server:
            said = refusal(server.url)
        assert not other.asked
    assert "307 Temporary Redirect, a redirect, which is not followed." in said
    assert "Set sasl_oauthbearer_token_endpoint_url" in said


@pytest.mark.parametrize("body", [b"", b"<html>canary", b"[1]", b"[" * 200_000, b"\xff"])
def test_an_answer_that_is_no_json_object_is_refused(body: bytes) -> None:
    with TokenServer(Answer(200, body)) as server:
        assert "answered with what is no JSON object" in refusal(server.url)


def test_an_answer_above_1_mib_is_refused() -> None:
    with TokenServer(Answer(200, bytes(1024 * 1024 + 1))) as server:
        assert "it sent more than 1048576 bytes" in refusal(server.url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://idp.example/token", "credentials would go unencrypted to another machine"),
        ("http://127.0.0.1.example/token", "would go unencrypted"),
        ("https://user:canary@idp.example/token", "has credentials in it"),
        ("idp.example/token", "is no URL with https://"),
        ("ftp://idp.example/token", "is no URL with https://"),
        ("https:///token", "is no URL with https://"),
        ("https://idp.example:port/token", "is no URL"),
        ("https://idp.example/to ken", "has characters that a URL cannot have"),
        ("https://idp.example/token\n", "has characters that a URL cannot have"),
    ],
)
def test_a_url_that_credentials_may_not_go_to_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        endpoint(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://localhost/t", "http://idp.localhost:1/t", "http://127.0.0.9/t", "http://[::1]/t"],
)
def test_http_is_for_this_machine(url: str) -> None:
    assert endpoint(url).shown == url


# ---- TLS and proxies


def test_the_certificate_is_checked_against_the_systems_authorities() -> None:
    with TokenServer(GOOD, tls=tls_of_server(), host="localhost") as server:
        said = refusal(server.url, retry_for_ms=5_000)
        assert not server.asked
    assert f"The certificate of the token endpoint {server.url} is not trusted: " in said
    assert "SSL_CERT_FILE" in said


def test_an_authority_of_ones_own_is_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with TokenServer(GOOD, tls=tls_of_server(), host="localhost") as server:
        assert endpoint(server.url).post(lambda: REQUEST)["access_token"] == "token"


def test_the_certificate_has_to_be_for_the_host_name() -> None:
    with TokenServer(GOOD, tls=tls_of_server("other.example"), host="localhost") as server:
        assert "Hostname mismatch" in refusal(server.url, tls=tls_of_client())


class Proxy:
    """A proxy that knows CONNECT, and leads to one address whatever the host."""

    def __init__(self, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(5)
        self._to = port
        self.port: int = self._server.getsockname()[1]
        self.heads: list[bytes] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        taken, _ = self._server.accept()
        with taken, socket.create_connection(("127.0.0.1", self._to)) as onward:
            head = b""
            while b"\r\n\r\n" not in head:
                head += taken.recv(4_096)
            self.heads.append(head)
            taken.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=self._pump, args=(onward, taken))
            back.start()
            self._pump(taken, onward)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self._thread.join()
        self._server.close()


def test_the_environments_proxy_is_used_by_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        TokenServer(GOOD, tls=tls_of_server("idp.invalid")) as server,
        closing(Proxy(server.port)) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://me:pass%20word@127.0.0.1:{proxy.port}")
        found = endpoint("https://idp.invalid/token", tls=tls_of_client())
        assert found.post(lambda: REQUEST)["access_token"] == "token"
    (head,) = proxy.heads
    assert head.startswith(b"CONNECT idp.invalid:443 ")
    assert b"Proxy-Authorization: Basic bWU6cGFzcyB3b3Jk\r\n" in head
    assert b"Y2FuYXJ5" not in head


def test_no_proxy_excludes_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:1")
    monkeypatch.setenv("no_proxy", "localhost")
    with TokenServer(GOOD, tls=tls_of_server(), host="localhost") as server:
        assert endpoint(server.url, tls=tls_of_client()).post(lambda: REQUEST)


def test_a_proxy_that_cannot_be_used_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://canary@proxy.invalid:1")
    said = refusal("https://idp.invalid/token")
    assert "The proxy for the token endpoint at idp.invalid cannot be used" in said
