"""What brokers do that are not Apache Kafka 4. Values, no behaviour.

A habit is something that such a broker always does, unlike a fault, which a test orders. Each was
seen on the broker that it is named after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from aioproducer.testing.observed import ApiName

__all__ = [
    "EVENT_HUBS",
    "KAFKA",
    "KROXYLICIOUS",
    "LIBRDKAFKA_MOCK",
    "TANSU",
    "Habits",
    "Refusal",
]

Refusal: TypeAlias = Literal["in_version_0", "in_version_asked", "in_form_of_librdkafka", "reset"]
"""How a broker refuses a version of ApiVersions that it does not know.

Kafka answers in version 0 and Kroxylicious in the version that was asked; librdkafka's mock cluster
writes a list of version 0 with a count of one byte; Azure Event Hubs resets the connection.
"""


@dataclass(frozen=True, slots=True)
class Habits:
    """What all brokers of a FakeCluster do, for its argument `habits`.

    Example:
        ```python
        FakeCluster(habits=EVENT_HUBS)
        FakeCluster(habits=Habits(responds_to_acks_zero=True))
        ```
    """

    max_versions: Mapping[ApiName, int] = field(default_factory=dict[ApiName, int])
    """The highest version of an API that is offered; FakeCluster's argument goes before it."""
    refusal: Refusal = "in_version_0"
    """How a version of ApiVersions that is not offered is refused."""
    responds_to_acks_zero: bool = False
    """Whether Produce requests with acks=0 are answered, errors and all."""
    tells_of_all_topics: bool = False
    """Whether a Metadata request for no topic is answered with all of them."""


KAFKA: Final = Habits()
"""Apache Kafka 4."""

EVENT_HUBS: Final = Habits(
    max_versions={"api_versions": 3, "metadata": 5}, refusal="reset", responds_to_acks_zero=True
)
"""Azure Event Hubs: no topic ids and no leader epochs, but Produce 13."""

KROXYLICIOUS: Final = Habits(max_versions={"api_versions": 3}, refusal="in_version_asked")
"""Kroxylicious 0.9, a proxy."""

LIBRDKAFKA_MOCK: Final = Habits(
    max_versions={
        "add_offsets_to_txn": 1,
        "add_partitions_to_txn": 1,
        "api_versions": 2,
        "describe_transactions": -1,
        "end_txn": 1,
        "find_coordinator": 3,
        "init_producer_id": 4,
        "offset_fetch": 6,
        "produce": 10,
        "txn_offset_commit": 3,
    },
    refusal="in_form_of_librdkafka",
)
"""The mock cluster in librdkafka 2.16."""

TANSU: Final = Habits(
    max_versions={"metadata": 12, "produce": 11},
    responds_to_acks_zero=True,
    tells_of_all_topics=True,
)
"""Tansu 0.6."""
