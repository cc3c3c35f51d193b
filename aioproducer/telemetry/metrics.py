"""The names of what `Producer.metrics` tells, and its values before there is anything to count."""

from __future__ import annotations

from typing import Final

from aioproducer.config import ProducerConfig

__all__ = ["METRICS", "metrics_of_nothing"]

METRICS: Final = (
    "record_accepted_total",
    "record_delivered_total",
    "record_error_total",
    "batch_sent_total",
    "batch_retry_total",
    "batch_split_total",
    "request_total",
    "outgoing_byte_total",
    "epoch_bump_total",
    "requests_in_flight",
    "buffer_total_bytes",
    "buffer_available_bytes",
    "waiting_callers",
    "metadata_age",
)
"""Named like Java's with `_` for `-`: counters since the start, then gauges."""


def metrics_of_nothing(config: ProducerConfig) -> dict[str, float]:
    """Return the metrics of a producer that was never started."""
    memory = float(config.buffer_memory)
    return dict.fromkeys(METRICS, 0.0) | {
        "buffer_total_bytes": memory,
        "buffer_available_bytes": memory,
    }
