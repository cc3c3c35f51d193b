"""What a command tells: counts that add up, a few errors, and never an exception of its own."""

from __future__ import annotations

import io
import sys

import pytest

from aioproducer.cli.report import Tally, failures, progress, say, summary
from aioproducer.errors import (
    CorruptMessageError,
    InvalidTopicError,
    KafkaError,
    NetworkError,
    RecordTooLargeError,
)


def test_what_is_not_acknowledged_has_failed() -> None:
    tally = Tally(sent=10, acknowledged=7)
    tally.refuse(RecordTooLargeError())
    assert tally.failed == 4


def test_the_summary_gives_records_bytes_seconds_and_rate() -> None:
    tally = Tally(sent=3_000, sent_bytes=12_345, acknowledged=2_999)
    assert summary(tally, 1.5) == (
        "2,999 records acknowledged, 1 failed; 12,345 bytes in 1.50 s, 1,999 records/s"
    )


def test_no_time_at_all_is_no_division_by_zero() -> None:
    assert summary(Tally(), 0).endswith(" 0 records/s")


def test_progress_counts_as_failed_only_what_has_failed() -> None:
    tally = Tally(sent=3_000, acknowledged=1_000)
    tally.note(NetworkError(), 20)
    assert progress(tally, 1) == ("3,000 sent, 1,000 acknowledged, 20 failed, 1,000 records/s")


def test_equal_errors_are_reported_once_with_their_count() -> None:
    tally = Tally()
    tally.note(NetworkError("The cable broke"), 20)
    tally.note(NetworkError("It broke again"), 1)
    (line,) = failures(tally)
    assert line.startswith("21 x NetworkError: The cable broke")


def test_only_a_few_kinds_of_error_are_reported_the_most_frequent_first() -> None:
    tally = Tally()
    kinds: list[type[KafkaError]] = [
        CorruptMessageError,
        InvalidTopicError,
        RecordTooLargeError,
        NetworkError,
    ]
    for count, kind in enumerate(kinds, start=1):
        tally.note(kind(), count)
    lines = failures(tally)
    assert [line.split(":")[0] for line in lines] == [
        "4 x NetworkError",
        "3 x RecordTooLargeError",
        "2 x InvalidTopicError",
        "and 1 more kinds",
    ]


def test_what_is_said_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    assert capsys.readouterr() == ("", "hello\n")


class Broken(io.StringIO):
    def write(self, _text: str, /) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [Broken(), None], ids=["broken pipe", "closed"])
def test_nobody_there_to_read_is_no_error(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    say("hello")
