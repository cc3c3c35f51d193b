"""Producer id, epoch and sequence: values and pure functions.

Rules of KIP-98 and KIP-360; mirrors TransactionManager (4.3).
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["MAX_EPOCH", "ProducerIdAndEpoch", "advance_sequence"]

MAX_EPOCH: Final = 2**15 - 1
_SEQUENCES: Final = 2**31


class ProducerIdAndEpoch(NamedTuple):
    """The producer id and epoch, by which a broker knows a producer."""

    producer_id: int
    epoch: int

    @property
    def can_bump(self) -> bool:
        """Whether this id has another epoch; else a new id is needed."""
        return self.epoch < MAX_EPOCH

    def bumped(self) -> ProducerIdAndEpoch:
        """The same id, one epoch later; its sequences start at 0 again."""
        return ProducerIdAndEpoch(self.producer_id, self.epoch + 1)


def advance_sequence(sequence: int, count: int) -> int:
    """The sequence `count` records after `sequence`: 2147483647 is followed by 0."""
    return (sequence + count) % _SEQUENCES
