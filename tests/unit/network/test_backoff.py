"""How long a retry waits (KIP-580)."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.errors import ConcurrentTransactionsError, KafkaError, NotCoordinatorError
from aioproducer.network.backoff import Backoff


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (500, 1.0)]
)
def test_the_delay_doubles_up_to_its_maximum(failures: int, expected: float) -> None:
    with mock.patch("random.random", return_value=0.5):
        assert Backoff(100, 1000).after(failures) == pytest.approx(expected)


@given(
    st.integers(1, 10_000),
    st.integers(1, 100_000),
    st.integers(1, 1_000_000),
    st.floats(0, 1, exclude_max=True),
)
def test_the_delay_is_within_a_fifth_and_never_over_its_maximum(
    failures: int, base_ms: int, maximum_ms: int, drawn: float
) -> None:
    with mock.patch("random.random", return_value=drawn):
        delay = Backoff(base_ms, maximum_ms).after(failures)
    middle = min(base_ms * 2.0 ** min(failures - 1, 60), maximum_ms) / 1000
    assert middle * 0.799 <= delay <= min(middle * 1.201, maximum_ms / 1000)


def test_a_delay_of_zero_stays_zero() -> None:
    assert Backoff(0, 0).after(9) == 0.0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConcurrentTransactionsError("the last one still ends"), [1, 2, 4, 8, 16, 20, 20]),
        (NotCoordinatorError("not here"), [100, 200, 400, 800, 1000, 1000, 1000]),
    ],
    ids=["concurrent", "another"],
)
def test_a_transaction_that_still_ends_is_not_waited_for_as_a_failure(
    error: KafkaError, expected: list[int]
) -> None:
    with mock.patch("random.random", return_value=0.5):
        delays = [Backoff(100, 1000).after_error(error, failures) for failures in range(1, 8)]
    assert delays == pytest.approx([milliseconds / 1000 for milliseconds in expected])


def test_a_backoff_that_the_user_set_shorter_is_kept() -> None:
    error = ConcurrentTransactionsError("the last one still ends")
    assert Backoff(0, 0).after_error(error, 3) == 0.0
