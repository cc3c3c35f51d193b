"""What failed is counted and reported once, whatever a log handler does."""

from __future__ import annotations

import logging

import pytest

from aioproducer._native.broker_queues import Counters
from aioproducer.background import Background
from aioproducer.errors import KafkaError, KafkaTimeoutError, ProducerClosedError
from aioproducer.sending.failures import Failures
from tests.support.core import ManualLoop

LOGGER = "aioproducer.sending.failure_log"


class FailuresHarness:
    """Failures on a loop of their own, and what the hook heard."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.counters = Counters()
        self.heard: list[tuple[str, int]] = []
        self.failures = Failures(
            Background(self.loop.as_loop()), self.counters, self._on_error, lambda *_: b""
        )

    def _on_error(self, error: KafkaError, count: int) -> None:
        self.heard.append((type(error).__name__, count))

    def fail(self, topic: str = "t", count: int = 1) -> None:
        self.failures.records_failed(topic, KafkaTimeoutError("too late"), count)


@pytest.fixture
def harness() -> FailuresHarness:
    return FailuresHarness()


def test_records_of_one_topic_and_kind_are_one_line(
    harness: FailuresHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.fail(count=2)
    harness.fail(count=3)
    harness.failures.report()
    harness.failures.report()
    assert [record.getMessage()[:27] for record in caplog.records] == [
        "5 records failed for topic "
    ]
    assert harness.counters.records_failed == 5


def test_the_hook_hears_of_each_failure_from_the_loop(harness: FailuresHarness) -> None:
    harness.fail(count=2)
    assert harness.heard == []
    harness.loop.run_once()
    assert harness.heard == [("KafkaTimeoutError", 2)]


def test_records_that_a_close_gives_up_have_no_line_of_their_own(
    harness: FailuresHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.failures.records_failed("t", ProducerClosedError("closed"), 1)
    harness.failures.report()
    assert caplog.records == []
    assert harness.counters.records_failed == 1


def test_a_log_handler_whose_own_records_fail_gets_each_line_once(
    harness: FailuresHarness,
) -> None:
    lines: list[str] = []

    class SendsTheLog(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            if len(lines) == 1:
                harness.fail(topic="logs")
                harness.failures.report()

    handler = SendsTheLog()
    logging.getLogger(LOGGER).addHandler(handler)
    try:
        harness.fail(topic="a")
        harness.fail(topic="b")
        harness.failures.report()
    finally:
        logging.getLogger(LOGGER).removeHandler(handler)
    assert sorted(line.split("topic ")[1][:4].strip(":") for line in lines) == [
        "a: t",
        "b: t",
        "logs",
    ]


def test_a_log_filter_that_raises_does_so_once(harness: FailuresHarness) -> None:
    def broken(_: logging.LogRecord) -> bool:
        raise ValueError("a filter")

    logging.getLogger(LOGGER).addFilter(broken)
    try:
        harness.fail()
        with pytest.raises(ValueError, match="a filter"):
            harness.failures.report()
        harness.failures.report()
    finally:
        logging.getLogger(LOGGER).removeFilter(broken)
