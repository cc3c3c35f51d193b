"""A token endpoint that answers as the test wants it to, and the config of a client of one."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs

from aioproducer.config import ProducerConfig

__all__ = ["Answer", "Asked", "TokenServer", "oauth_config"]


def oauth_config(url: str = "https://idp.example/token", **options: Any) -> ProducerConfig:
    """Return a config that gets its tokens from an endpoint."""
    chosen: dict[str, Any] = {
        "bootstrap_servers": "localhost",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauthbearer_token_endpoint_url": url,
    }
    return ProducerConfig(**{**chosen, **options})


class Asked(NamedTuple):
    """A request as the server got it."""

    path: str
    headers: dict[str, str]
    form: dict[str, str]


class Answer(NamedTuple):
    """What the server answers."""

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, status: int = 200, **fields: object) -> Self:
        """Return an answer with a JSON object."""
        return cls(status, json.dumps(fields).encode())


class TokenServer:
    """A token endpoint on this machine, in a thread.

    Args:
        answers: What to answer, in order, the last one again and again; a function is asked.
        tls: Its certificate; None for plain HTTP.

    Attributes:
        asked: The requests so far.
        url: Where it is.
    """

    def __init__(
        self,
        *answers: Answer | Callable[[Asked], Answer],
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.asked: list[Asked] = []
        self._answers = list(answers)
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                form = parse_qs(self.rfile.read(length).decode(), keep_blank_values=True)
                asked = Asked(
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    {name: values[0] for name, values in form.items()},
                )
                answer = owner._next(asked)
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Be silent."""

        class Server(ThreadingHTTPServer):
            # So that `server_close` waits for the requests that are being answered.
            daemon_threads = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hangs up is part of the tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://{host}:{self.port}/oauth2/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def _next(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        answer = self._answers[0]
        if len(self._answers) > 1:
            self._answers.pop(0)
        return answer if isinstance(answer, Answer) else answer(asked)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
