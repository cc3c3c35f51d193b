"""What fails is told in the log: the first of its cause at once, the others as a count."""

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


class Told:
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
def its(caplog: pytest.LogCaptureFixture) -> Iterator[Told]:
    with caplog.at_level(logging.DEBUG, logger="aioproducer.sending.failure_log"):
        yield Told(caplog)


# ---- records


def test_the_first_failure_of_a_cause_is_logged_at_once(its: Told) -> None:
    its.fail("payments", KafkaTimeoutError("nobody answers"), 3)
    (line,) = its.lines
    assert line.startswith("3 records failed for topic payments: ")
    assert "nobody answers" in line


def test_one_record_is_one_record(its: Told) -> None:
    its.fail()
    assert its.lines[0].startswith("1 record failed for topic t: ")


def test_the_others_of_a_cause_are_counted_and_logged_at_the_end_of_the_minute(its: Told) -> None:
    its.fail()
    its.lines.clear()
    for count in (1, 2, 3):
        its.fail(count=count)
    its.loop.advance(59)
    assert its.lines == []
    its.loop.advance(1)
    assert its.lines == ["6 more records failed for topic t (KafkaTimeoutError) in the last 60 s"]


def test_a_failure_that_stays_alone_has_one_line(its: Told) -> None:
    its.fail()
    assert len(its.lines) == 1
    its.loop.advance(600)
    assert its.lines == []


def test_a_cause_that_lasts_has_a_line_a_minute(its: Told) -> None:
    for _ in range(300):
        its.fail()
        its.loop.advance(1)
    lines = its.lines
    assert len(lines) == 1 + 5
    told = [int(line.split()[0]) for line in lines]
    assert sum(told) == 300


def test_a_cause_that_was_quiet_for_long_is_logged_at_once_again(its: Told) -> None:
    its.fail()
    its.loop.advance(200)
    its.lines.clear()
    its.fail(count=2)
    (line,) = its.lines
    assert line.startswith("2 records failed for topic t: ")


def test_another_topic_is_another_cause(its: Told) -> None:
    its.fail("a")
    its.fail("b")
    assert [line.split(":")[0] for line in its.lines] == [
        "1 record failed for topic a",
        "1 record failed for topic b",
    ]


def test_another_kind_of_error_is_another_cause(its: Told) -> None:
    its.fail(error=KafkaTimeoutError())
    its.fail(error=InvalidRecordError())
    assert len(its.lines) == 2


def test_another_text_of_the_same_kind_of_error_is_no_other_cause(its: Told) -> None:
    for index in range(100):
        its.fail(error=InvalidRecordError(f"record {index}"))
    assert len(its.lines) == 1


def test_beyond_twenty_causes_the_others_share_one_count(its: Told) -> None:
    for index in range(1_000):
        its.fail(f"topic-{index}", count=2)
    assert len(its.lines) == LINES
    its.loop.advance(60)
    assert its.lines == [f"{2 * (1_000 - LINES)} records failed for {1_000 - LINES} other topics"]


def test_however_many_topics_fail_no_record_is_left_out_of_the_counts(its: Told) -> None:
    for _ in range(3):
        for index in range(100):
            its.fail(f"topic-{index}")
        its.loop.advance(60)
    its.log.close()
    assert sum(int(line.split()[0]) for line in its.lines) == 300


def test_what_was_only_counted_is_logged_when_the_producer_closes(its: Told) -> None:
    for _ in range(3):
        its.fail()
    its.loop.advance(10)
    its.lines.clear()
    its.log.close()
    assert its.lines == ["2 more records failed for topic t (KafkaTimeoutError) in the last 10 s"]


def test_what_shares_a_count_is_logged_when_the_producer_closes(its: Told) -> None:
    for index in range(LINES + 1):
        its.fail(f"topic-{index}")
    its.lines.clear()
    its.log.close()
    assert its.lines == ["1 record failed for 1 other topic"]


def test_closing_leaves_no_timer_and_says_nothing_twice(its: Told) -> None:
    for _ in range(3):
        its.fail()
    its.log.close()
    its.lines.clear()
    assert its.loop.timers == []
    its.log.close()
    assert its.lines == []


def test_a_log_without_failures_sets_no_timer(its: Told) -> None:
    assert its.loop.timers == []
    its.fail()
    assert len(its.loop.timers) == 1
    its.loop.advance(1_000)
    assert its.loop.timers == []


# ---- attempts


def test_the_first_failed_attempt_is_logged_with_where_why_and_what_is_next(its: Told) -> None:
    its.retry(NetworkError("gone", broker="1 at b:9092"), where="payments-3")
    (line,) = its.lines
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
def test_batches_of_one_response_share_a_line(its: Told, count: int, expected: str) -> None:
    its.retry(count=count)
    assert expected in its.lines[0]


def test_further_attempts_are_counted_and_logged_at_the_end_of_the_minute(its: Told) -> None:
    its.retry()
    its.lines.clear()
    for _ in range(3):
        its.retry(count=2)
    assert its.lines == []
    its.loop.advance(60)
    assert its.lines == ["6 more attempts failed by NETWORK_EXCEPTION in the last 60 s"]


def test_each_broker_has_a_line_of_its_own(its: Told) -> None:
    for broker in ("1 at a:9092", "2 at b:9092", "1 at a:9092"):
        its.retry(NetworkError("gone", broker=broker))
    assert len(its.lines) == 2


def test_another_step_is_another_cause(its: Told) -> None:
    its.retry(NotEnoughReplicasError(), step=Step.RETRY)
    its.retry(NotEnoughReplicasError(), step=Step.RESTART)
    assert len(its.lines) == 2


def test_an_outage_of_many_brokers_has_twenty_lines_of_attempts_at_most(its: Told) -> None:
    for index in range(1_000):
        its.retry(NetworkError("gone", broker=f"{index} at b{index}:9092"))
    assert len(its.lines) == LINES


def test_closing_logs_nothing_of_attempts(its: Told) -> None:
    for _ in range(3):
        its.retry()
    its.lines.clear()
    its.log.close()
    assert its.lines == []


def test_an_outage_that_is_over_is_logged_at_once_when_it_comes_again(its: Told) -> None:
    its.retry()
    its.loop.advance(200)
    its.lines.clear()
    its.retry()
    assert len(its.lines) == 1
