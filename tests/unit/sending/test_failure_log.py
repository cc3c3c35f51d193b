"""The log of failures: the first of its cause at once, the others as a count."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from aioproducer.background import Background
from aioproducer.errors import (
    InvalidRecordError,
    KafkaError,
    KafkaTimeoutError,
    NetworkError,
    NotEnoughReplicasError,
)
from aioproducer.sending.failure_log import FailureLog
from aioproducer.sending.retry import Step
from tests.support.core import ManualLoop

LINES = 20
"""Causes that have lines of their own."""


class LogHarness:
    """A failure log on a loop of its own, and the lines that it wrote."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.loop = ManualLoop()
        self.log = FailureLog(Background(self.loop.as_loop()))
        self._caplog = caplog

    @property
    def lines(self) -> list[str]:
        """Return the lines since the last look; each is a warning."""
        records = list(self._caplog.records)
        self._caplog.clear()
        assert all(record.levelno == logging.WARNING for record in records)
        return [record.getMessage() for record in records]

    def fail(self, topic: str = "t", error: KafkaError | None = None, count: int = 1) -> None:
        self.log.records_failed(topic, error or KafkaTimeoutError("too late"), count)

    def retry(
        self,
        error: KafkaError | None = None,
        *,
        where: str = "t-0",
        count: int = 1,
        step: Step = Step.RETRY,
    ) -> None:
        self.log.attempt_failed(where, count, 3, 1, error or NetworkError("gone"), step)


@pytest.fixture
def harness(caplog: pytest.LogCaptureFixture) -> Iterator[LogHarness]:
    with caplog.at_level(logging.DEBUG, logger="aioproducer.sending.failure_log"):
        yield LogHarness(caplog)


# ---- records


def test_the_first_failure_of_a_cause_is_logged_at_once(harness: LogHarness) -> None:
    harness.fail("payments", KafkaTimeoutError("nobody answers"), 3)
    (line,) = harness.lines
    assert line.startswith("3 records failed for topic payments: ")
    assert "nobody answers" in line


def test_one_record_is_one_record(harness: LogHarness) -> None:
    harness.fail()
    assert harness.lines[0].startswith("1 record failed for topic t: ")


def test_the_others_of_a_cause_are_counted_and_logged_at_the_end_of_the_minute(
    harness: LogHarness,
) -> None:
    harness.fail()
    harness.lines.clear()
    for count in (1, 2, 3):
        harness.fail(count=count)
    harness.loop.advance(59)
    assert harness.lines == []
    harness.loop.advance(1)
    assert harness.lines == [
        "6 more records failed for topic t (KafkaTimeoutError) in the last 60 s"
    ]


def test_a_failure_that_stays_alone_has_one_line(harness: LogHarness) -> None:
    harness.fail()
    assert len(harness.lines) == 1
    harness.loop.advance(600)
    assert harness.lines == []


def test_a_cause_that_lasts_has_a_line_a_minute(harness: LogHarness) -> None:
    for _ in range(300):
        harness.fail()
        harness.loop.advance(1)
    lines = harness.lines
    assert len(lines) == 1 + 5
    counts = [int(line.split()[0]) for line in lines]
    assert sum(counts) == 300


def test_a_cause_that_was_quiet_for_long_is_logged_at_once_again(harness: LogHarness) -> None:
    harness.fail()
    harness.loop.advance(200)
    harness.lines.clear()
    harness.fail(count=2)
    (line,) = harness.lines
    assert line.startswith("2 records failed for topic t: ")


def test_another_topic_is_another_cause(harness: LogHarness) -> None:
    harness.fail("a")
    harness.fail("b")
    assert [line.split(":")[0] for line in harness.lines] == [
        "1 record failed for topic a",
        "1 record failed for topic b",
    ]


def test_another_kind_of_error_is_another_cause(harness: LogHarness) -> None:
    harness.fail(error=KafkaTimeoutError())
    harness.fail(error=InvalidRecordError())
    assert len(harness.lines) == 2


def test_another_text_of_the_same_kind_of_error_is_no_other_cause(harness: LogHarness) -> None:
    for index in range(100):
        harness.fail(error=InvalidRecordError(f"record {index}"))
    assert len(harness.lines) == 1


def test_beyond_twenty_causes_the_others_share_one_count(harness: LogHarness) -> None:
    for index in range(1_000):
        harness.fail(f"topic-{index}", count=2)
    assert len(harness.lines) == LINES
    harness.loop.advance(60)
    assert harness.lines == [
        f"{2 * (1_000 - LINES)} records failed for {1_000 - LINES} other topics"
    ]


def test_however_many_topics_fail_no_record_is_left_out_of_the_counts(harness: LogHarness) -> None:
    for _ in range(3):
        for index in range(100):
            harness.fail(f"topic-{index}")
        harness.loop.advance(60)
    harness.log.close()
    assert sum(int(line.split()[0]) for line in harness.lines) == 300


def test_what_was_only_counted_is_logged_when_the_producer_closes(harness: LogHarness) -> None:
    for _ in range(3):
        harness.fail()
    harness.loop.advance(10)
    harness.lines.clear()
    harness.log.close()
    assert harness.lines == [
        "2 more records failed for topic t (KafkaTimeoutError) in the last 10 s"
    ]


def test_what_shares_a_count_is_logged_when_the_producer_closes(harness: LogHarness) -> None:
    for index in range(LINES + 1):
        harness.fail(f"topic-{index}")
    harness.lines.clear()
    harness.log.close()
    assert harness.lines == ["1 record failed for 1 other topic"]


def test_closing_leaves_no_timer_and_says_nothing_twice(harness: LogHarness) -> None:
    for _ in range(3):
        harness.fail()
    harness.log.close()
    harness.lines.clear()
    assert harness.loop.timers == []
    harness.log.close()
    assert harness.lines == []


def test_a_log_without_failures_sets_no_timer(harness: LogHarness) -> None:
    assert harness.loop.timers == []
    harness.fail()
    assert len(harness.loop.timers) == 1
    harness.loop.advance(1_000)
    assert harness.loop.timers == []


# ---- attempts


def test_the_first_failed_attempt_is_logged_with_where_why_and_what_is_next(
    harness: LogHarness,
) -> None:
    harness.retry(NetworkError("gone", broker="1 at b:9092"), where="payments-3")
    (line,) = harness.lines
    assert line.startswith("payments-3: attempt 1 of a batch of 3 records failed (")
    assert "gone" in line
    assert line.endswith("next: retry")


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, "a batch of 3 records failed"),
        (2, "a batch of 3 records and 1 more batch failed"),
        (5, "a batch of 3 records and 4 more batches failed"),
    ],
)
def test_batches_of_one_response_share_a_line(
    harness: LogHarness, count: int, expected: str
) -> None:
    harness.retry(count=count)
    assert expected in harness.lines[0]


def test_further_attempts_are_counted_and_logged_at_the_end_of_the_minute(
    harness: LogHarness,
) -> None:
    harness.retry()
    harness.lines.clear()
    for _ in range(3):
        harness.retry(count=2)
    assert harness.lines == []
    harness.loop.advance(60)
    assert harness.lines == ["6 more attempts failed by NETWORK_EXCEPTION in the last 60 s"]


def test_each_broker_has_a_line_of_its_own(harness: LogHarness) -> None:
    for broker in ("1 at a:9092", "2 at b:9092", "1 at a:9092"):
        harness.retry(NetworkError("gone", broker=broker))
    assert len(harness.lines) == 2


def test_another_step_is_another_cause(harness: LogHarness) -> None:
    harness.retry(NotEnoughReplicasError(), step=Step.RETRY)
    harness.retry(NotEnoughReplicasError(), step=Step.RESTART)
    assert len(harness.lines) == 2


def test_an_outage_of_many_brokers_has_twenty_lines_of_attempts_at_most(
    harness: LogHarness,
) -> None:
    for index in range(1_000):
        harness.retry(NetworkError("gone", broker=f"{index} at b{index}:9092"))
    assert len(harness.lines) == LINES


def test_closing_logs_nothing_of_attempts(harness: LogHarness) -> None:
    for _ in range(3):
        harness.retry()
    harness.lines.clear()
    harness.log.close()
    assert harness.lines == []


def test_an_outage_that_is_over_is_logged_at_once_when_it_comes_again(harness: LogHarness) -> None:
    harness.retry()
    harness.loop.advance(200)
    harness.lines.clear()
    harness.retry()
    assert len(harness.lines) == 1
