"""What a warm record meets in Python, so that nobody puts a detour on its way unseen."""

from __future__ import annotations

import pytest

from tools.walk import walk


def test_a_warm_record_meets_next_to_no_python() -> None:
    walked = walk()
    assert walked.count <= 15, walked
    assert len(walked.modules) <= 5, walked


def test_on_the_slow_path_the_python_calls_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPRODUCER_SLOW_PATH", "1")
    walked = walk()
    assert walked.count > 15
    assert "sender" in walked.modules
