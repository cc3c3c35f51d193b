"""How many bytes may be in flight to a broker: what it answers well within the timeout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer._native.queues import InFlightLimit

MOST_FIRST_BYTES = 1_048_576
LEAST_BYTES = 16_384
MOST = 20 << 20


def over_a_link(limit: InFlightLimit, rate: float, requests: int) -> None:
    """Have so many requests that fill the limit answered over a link of `rate` bytes a second."""
    for _ in range(requests):
        limit.measure(limit.bytes, limit.bytes / rate)


@pytest.mark.parametrize(("timeout", "expected"), [(30.0, 1 << 20), (2.0, 1 << 20), (0.5, 1 << 18)])
def test_a_broker_of_which_nothing_is_known_gets_what_a_slow_link_takes(
    timeout: float, expected: int
) -> None:
    assert InFlightLimit(MOST, timeout).bytes == expected


def test_the_first_limit_is_within_its_bounds_whatever_the_timeout() -> None:
    assert InFlightLimit(MOST, 0.001).bytes == LEAST_BYTES
    assert InFlightLimit(MOST, 1e6).bytes == MOST_FIRST_BYTES
    assert InFlightLimit(50_000, 30.0).bytes == 50_000


def test_a_batch_has_half_of_the_limit() -> None:
    limit = InFlightLimit(MOST, 30.0)
    assert limit.batch_bytes == limit.bytes // 2


def test_each_response_to_a_large_request_doubles_the_limit() -> None:
    limit = InFlightLimit(MOST, 30.0)
    found = [limit.bytes]
    for _ in range(3):
        over_a_link(limit, 1e8, 1)
        found.append(limit.bytes)
    assert found == [1 << 20, 2 << 20, 4 << 20, 8 << 20]


def test_the_limit_never_exceeds_what_is_allowed() -> None:
    limit = InFlightLimit(MOST, 30.0)
    over_a_link(limit, 1e8, 20)
    assert limit.bytes == MOST


def test_a_small_request_tells_nothing() -> None:
    limit = InFlightLimit(MOST, 30.0)
    for took in (0.0, 0.001, 20.0):
        limit.measure(1_000, took)
    assert limit.bytes == 1 << 20


@pytest.mark.parametrize("rate", [100_000.0, 1_000_000.0, 2_000_000.0])
def test_over_a_slow_link_the_limit_is_what_is_answered_in_a_quarter_of_the_timeout(
    rate: float,
) -> None:
    limit = InFlightLimit(MOST, 3.0)
    over_a_link(limit, rate, 30)
    assert limit.bytes == pytest.approx(rate * 3.0 / 4, rel=0.01)


def test_a_link_that_gets_slower_lowers_the_limit_bit_by_bit() -> None:
    limit = InFlightLimit(MOST, 3.0)
    over_a_link(limit, 1e8, 20)
    found = [limit.bytes]
    for _ in range(60):
        limit.measure(1_000_000, 1.0)
        found.append(limit.bytes)
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(750_000, rel=0.05)


def test_one_slow_response_does_not_take_everything_back() -> None:
    limit = InFlightLimit(MOST, 30.0)
    over_a_link(limit, 1e8, 20)
    limit.measure(MOST, 30.0)
    assert limit.bytes > MOST / 2


def test_a_timeout_cuts_the_limit_to_a_quarter_and_not_below_the_least() -> None:
    limit = InFlightLimit(MOST, 30.0)
    found: list[int] = []
    for _ in range(6):
        limit.timed_out()
        found.append(limit.bytes)
    assert found == [1 << 18, 1 << 16, LEAST_BYTES, LEAST_BYTES, LEAST_BYTES, LEAST_BYTES]


def test_after_a_timeout_the_rate_is_measured_again() -> None:
    limit = InFlightLimit(MOST, 30.0)
    over_a_link(limit, 1e8, 20)
    limit.timed_out()
    over_a_link(limit, 1e6, 1)
    assert limit.bytes == pytest.approx(1e6 * 30 / 4, rel=0.01)


def test_after_many_timeouts_the_limit_grows_again() -> None:
    limit = InFlightLimit(MOST, 30.0)
    for _ in range(9):
        limit.timed_out()
    over_a_link(limit, 1e8, 20)
    assert limit.bytes == MOST


def test_a_response_that_was_read_with_another_gives_no_response_time() -> None:
    limit = InFlightLimit(MOST, 30.0)
    for _ in range(10):
        limit.measure(600_000, 2.0)
    before = limit.bytes
    limit.measure(600_000, 1e-5)
    assert limit.bytes == before
    # Its bytes were on the way as long as those of the next one.
    limit.measure(600_000, 4.0)
    assert limit.bytes == before


@given(
    most=st.integers(1, 1 << 30),
    timeout=st.floats(0.001, 10_000),
    events=st.lists(
        st.one_of(st.none(), st.tuples(st.integers(0, 1 << 28), st.floats(0, 1_000))), max_size=50
    ),
)
def test_the_limit_is_always_within_its_bounds(
    most: int, timeout: float, events: list[tuple[int, float] | None]
) -> None:
    limit = InFlightLimit(most, timeout)
    for event in events:
        if event is None:
            limit.timed_out()
        else:
            limit.measure(*event)
        assert min(LEAST_BYTES, most) <= limit.bytes <= most
