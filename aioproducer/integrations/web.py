"""What web services need of a producer, whatever their framework. Standard library only.

Opens a producer for the life of an application, says what HTTP has for each error, answers
readiness probes, and notices SIGTERM. The modules of the frameworks are thin fronts of this one;
a framework that has none uses it as it is (docs/frameworks.md).

Invariant: a response that goes to the public never names a broker, a topic or a setting.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast, get_args

from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    InvalidRecordError,
    KafkaError,
    MessageTooLargeError,
    ProducerClosedError,
    RecordListTooLargeError,
    RecordTooLargeError,
    UnknownTopicOrPartitionError,
    WrongEventLoopError,
)
from aioproducer.producer import Producer
from aioproducer.telemetry.status import ProducerStatus

__all__ = [
    "PROBLEM_JSON",
    "HttpError",
    "ProducerSource",
    "Readiness",
    "Start",
    "drain_on_sigterm",
    "http_error",
    "open_producer",
    "readiness",
]

logger = logging.getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"
"""The media type of an error's body (RFC 9457)."""

ProducerSource: TypeAlias = ProducerConfig | Callable[[], ProducerConfig | Producer[Any, Any]]
"""A config, or a function that returns one, or that makes a producer. It is called when the
application starts, in the process that serves it: `ProducerConfig.from_env`."""

Start: TypeAlias = Literal["wait", "background"]
"""`"wait"`: the application comes up when a broker has answered, and fails with the reason if none
does within `max_block_ms`. `"background"`: it comes up at once, and is not ready until then."""

_CLOSING_RETRY_AFTER: Final = 1


# ---- the life of a producer


@asynccontextmanager
async def open_producer(
    source: ProducerSource,
    *,
    start: Start = "wait",
    close_timeout: float | None = None,
    drain_seconds: float | None = None,
) -> AsyncGenerator[Producer[Any, Any]]:
    """Open a producer for the life of an application, and deliver what is left at its end.

    Args:
        source: A config, or a function that returns a config or makes a producer.
        start: `"wait"` for a broker, or connect in the `"background"`.
        close_timeout: Seconds for the close; None for `close_timeout_ms`. What was not delivered
            by then goes to the `on_undelivered` hook of the config.
        drain_seconds: Notice SIGTERM: the producer drains, so readiness says no; after so many
            seconds the signal goes on to the server. See `drain_on_sigterm`.

    Raises:
        KafkaError: As `Producer.start` does.
        TypeError: The source is a producer, or makes something else; or a time is no number.
        ValueError: `start` is neither of the two, or a time is negative or has no end.
        WrongEventLoopError: The function returned a producer that was started before: before the
            fork of a worker process (`--preload`), or for another application.
    """
    if start not in get_args(Start):
        raise ValueError(f'start must be "wait" or "background", not {start!r}')
    # Now, and not when SIGTERM comes or the producer is to be closed.
    _check_seconds("close_timeout", close_timeout)
    _check_seconds("drain_seconds", drain_seconds)
    producer = _make(source)
    draining = nullcontext() if drain_seconds is None else drain_on_sigterm(producer, drain_seconds)
    await producer.start(wait=start == "wait")
    try:
        with draining:
            yield producer
    finally:
        await producer.close(close_timeout)


def _check_seconds(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not 0 <= value < math.inf:  # nan is refused, too
        raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")


def _make(source: object) -> Producer[Any, Any]:
    made: object = source() if callable(source) else source
    if isinstance(made, ProducerConfig):
        return Producer(made)
    if not isinstance(cast("Any", made), Producer) or made is source:
        raise TypeError(
            f"{type(made).__name__} is no ProducerConfig: give a config, or a function that returns"
            " one or makes a producer, so that each process and each start gets its own"
        )
    producer = cast("Producer[Any, Any]", made)
    state = producer.status().state
    if state != "created":
        raise WrongEventLoopError(
            f"The producer for this application is not new but {state}",
            hint="One producer belongs to one process and one start, after the fork: return a new"
            " Producer from the function, or give a ProducerConfig.",
        )
    return producer


# ---- SIGTERM


@contextmanager
def drain_on_sigterm(producer: Producer[Any, Any], seconds: float = 0.0) -> Generator[None]:
    """Have the producer drain when SIGTERM comes, `seconds` before the server ends for it.

    Kubernetes sends SIGTERM and takes the pod out of its services at the same time; requests come
    in for some seconds more. So: 1. SIGTERM comes. 2. The producer drains, and readiness turns 503.
    3. Requests are served as before, for `seconds`. 4. The server gets the signal, finishes
    the requests in progress and ends the application, which closes the producer. A second SIGTERM
    ends step 3.

    The handler that was set before (`signal.getsignal`) is called in step 4 and set again at the
    end. A server that listens by `loop.add_signal_handler` (Hypercorn, aiohttp) gets the signal at
    once, whatever `seconds` says. Outside of the main thread, where Python handles no signals,
    nothing is done.

    Args:
        producer: Drains.
        seconds: Between the signal and its passing on.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative or has no end.
    """
    _check_seconds("seconds", seconds)
    if threading.current_thread() is not threading.main_thread():
        logger.debug("SIGTERM is not watched for: this is not the main thread")
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)
    passing_on: asyncio.TimerHandle | None = None

    def on_signal(signum: int, frame: FrameType | None) -> None:
        # Between two instructions of anything; the loop may sleep in its selector.
        loop.call_soon_threadsafe(begin)

    def begin() -> None:
        nonlocal passing_on
        producer.drain()
        if passing_on is not None:
            passing_on.cancel()
            pass_on()
            return
        logger.info("SIGTERM: draining for %g s", seconds)
        passing_on = loop.call_later(seconds, pass_on)

    def pass_on() -> None:
        if callable(before):
            before(signal.SIGTERM, None)
        elif before is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        if passing_on is not None:
            passing_on.cancel()
        if signal.getsignal(signal.SIGTERM) is on_signal:
            signal.signal(signal.SIGTERM, before)


# ---- readiness


class Readiness(NamedTuple):
    """The answer to a readiness probe.

    Attributes:
        status: 200 or 503.
        body: For JSON.
    """

    status: int
    body: dict[str, Any]


def readiness(producers: Iterable[Producer[Any, Any]], *, details: bool = False) -> Readiness:
    """Return what to answer a readiness probe: 200 when every producer is healthy, else 503.

    Args:
        producers: The application's.
        details: Put each producer's status, which names brokers and topics, into the body: only
            where the public cannot ask.
    """
    all_of_them = [producer.status() for producer in producers]
    is_ready = bool(all_of_them) and all(status.healthy for status in all_of_them)
    body: dict[str, Any] = {"status": "ready" if is_ready else _unready(all_of_them)}
    if details:
        body["producers"] = [status.as_dict() for status in all_of_them]
    return Readiness(200 if is_ready else 503, body)


def _unready(statuses: list[ProducerStatus]) -> str:
    states = {status.state for status in statuses if not status.healthy}
    for state in ("draining", "closing", "closed", "starting"):
        if state in states:
            return state
    return "not ready"


# ---- errors


@dataclass(frozen=True, slots=True)
class HttpError:
    """What HTTP has for an error of the producer.

    Attributes:
        status: The status code.
        title: A short text that is the same for each error of its kind.
        detail: What became of the record, and what the client can do. Names no broker or topic.
        retry_after: Seconds for `Retry-After`; None where a client is not to try again.
    """

    status: int
    title: str
    detail: str
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`, where there is one."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    @property
    def close_code(self) -> int:
        """What closes a WebSocket: 1013 (try again later) where this is a 503, and else 1011."""
        return 1011 if self.retry_after is None else 1013

    @property
    def body(self) -> dict[str, Any]:
        """The body, for JSON of the type `PROBLEM_JSON`."""
        return {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }


def http_error(error: KafkaError) -> HttpError | None:
    """Return what HTTP has for an error; None for what is the service's own fault: a plain 500.

    what happened                                    response
    -----------------------------------------------  --------------------------------------
    not stored, and sending again can help           503 with Retry-After (`retry_after`)
    (no buffer space, not in time, no broker)
    the producer closes                              503 with Retry-After: 1
    it may be stored: no answer in time, or only     504 without Retry-After: a client that
    the wait is over and the record goes on          sends again may store it twice
    the record is larger than Kafka takes            413
    the broker refuses the record's content          422
    all else: authorization, configuration, topic    None: a 500, whose traceback is logged;
    or partition, a value that is not serialized     the client can change nothing
    """
    if error.possibly_persisted or error.is_pending:
        return HttpError(
            504,
            "Gateway Timeout",
            "It is not known whether the record is stored. Sent again, it may be stored twice.",
        )
    if isinstance(error, UnknownTopicOrPartitionError):
        # A topic may be new, so this is retriable; but the producer has tried until the record's
        # time was over, and a client cannot make a topic.
        return None
    if error.retry_after is not None:
        return HttpError(
            503,
            "Service Unavailable",
            "The record is not stored. Send it again.",
            error.retry_after,
        )
    if isinstance(error, ProducerClosedError):
        return HttpError(
            503,
            "Service Unavailable",
            "The record is not stored. Send it again.",
            _CLOSING_RETRY_AFTER,
        )
    if isinstance(error, (RecordTooLargeError, MessageTooLargeError, RecordListTooLargeError)):
        return HttpError(413, "Content Too Large", "The record is too large. It is not stored.")
    if isinstance(error, InvalidRecordError):
        return HttpError(
            422, "Unprocessable Content", "The record's content was refused. It is not stored."
        )
    return None
