"""Producer ids, epochs and sequences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.sending.sequences import MAX_EPOCH, ProducerIdAndEpoch, advance_sequence

LAST = 2**31 - 1


@pytest.mark.parametrize(
    ("sequence", "count", "expected"),
    [
        (0, 0, 0),
        (0, 1, 1),
        (5, 10, 15),
        (LAST - 1, 1, LAST),
        (LAST, 1, 0),
        (LAST, 2, 1),
        (LAST - 5, 100, 94),
    ],
)
def test_a_sequence_advances_by_the_record_count(sequence: int, count: int, expected: int) -> None:
    assert advance_sequence(sequence, count) == expected


@given(st.integers(0, LAST), st.integers(0, LAST))
def test_a_sequence_advances_as_in_java(sequence: int, increment: int) -> None:
    # DefaultRecordBatch.incrementSequence
    java = sequence + increment
    if sequence > LAST - increment:
        java = increment - (LAST - sequence) - 1
    assert advance_sequence(sequence, increment) == java


def test_a_bumped_epoch_keeps_the_producer_id() -> None:
    assert ProducerIdAndEpoch(9, 3).bumped() == (9, 4)


def test_the_last_epoch_cannot_be_bumped() -> None:
    assert ProducerIdAndEpoch(9, MAX_EPOCH - 1).can_bump
    assert not ProducerIdAndEpoch(9, MAX_EPOCH).can_bump


def test_the_last_epoch_is_the_largest_that_fits_the_wire() -> None:
    assert MAX_EPOCH == 32767
