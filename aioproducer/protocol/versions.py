"""Chooses the version of each API to speak with a broker. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from aioproducer.errors import UnsupportedVersionError
from aioproducer.protocol.api_versions import ApiVersionsResponse
from aioproducer.protocol.end_txn import END_TXN
from aioproducer.protocol.produce import PRODUCE
from aioproducer.protocol.txn_offset_commit import TXN_OFFSET_COMMIT

__all__ = [
    "SomeApi",
    "broker_ranges",
    "choose_version",
    "produce_version_cap",
    "runs_transactions_v2",
]

_LAST_PRODUCE_BEFORE_TRANSACTIONS_V2 = 11
_LAST_PRODUCE_WITH_TOPIC_NAMES = 12
_TRANSACTIONS_V2 = 2
_NEEDED_FOR_V2 = {PRODUCE.key: 12, END_TXN.key: 5, TXN_OFFSET_COMMIT.key: 5}


class SomeApi(Protocol):
    """An `Api` whatever its messages."""

    @property
    def key(self) -> int:
        """Kafka's number for the API."""
        ...

    @property
    def name(self) -> str:
        """Kafka's name for it."""
        ...

    @property
    def min_version(self) -> int:
        """The oldest version we speak."""
        ...

    @property
    def max_version(self) -> int:
        """The newest version we speak."""
        ...


def broker_ranges(response: ApiVersionsResponse) -> dict[int, tuple[int, int]]:
    """Return the oldest and newest version the broker speaks, by API key."""
    return {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}


def choose_version(
    api: SomeApi,
    ranges: Mapping[int, tuple[int, int]],
    *,
    at_most: int | None = None,
) -> int:
    """Return the newest version of `api` that both sides speak.

    Args:
        api: The API.
        ranges: What the broker speaks, see `broker_ranges`.
        at_most: A version not to exceed, see `produce_version_cap`.

    Raises:
        UnsupportedVersionError: No version is common.
    """
    if api.key not in ranges:
        raise UnsupportedVersionError(
            f"The broker does not offer {api.name}",
            hint="aioproducer needs Kafka 2.1 or newer.",
        )
    oldest, newest = ranges[api.key]
    ours = api.max_version if at_most is None else min(api.max_version, at_most)
    version = min(ours, newest)
    if version < max(api.min_version, oldest):
        raise UnsupportedVersionError(
            f"No version of {api.name} in common: we speak {api.min_version} to {ours}, "
            f"the broker {oldest} to {newest}",
            hint="aioproducer needs Kafka 2.1 or newer.",
        )
    return version


def runs_transactions_v2(response: ApiVersionsResponse) -> bool:
    """Return whether a broker ends transactions with a new epoch (KIP-890).

    The cluster must run it, and this broker speak the versions that need it.
    """
    if response.finalized_features_epoch < 0:
        return False
    levels = {each.name: each.max_version_level for each in response.finalized_features}
    ranges = broker_ranges(response)
    return levels.get("transaction.version", 0) >= _TRANSACTIONS_V2 and all(
        ranges.get(key, (0, -1))[1] >= version for key, version in _NEEDED_FOR_V2.items()
    )


def produce_version_cap(
    *, transactional: bool = False, transactions_v2: bool = False, topic_ids: bool = True
) -> int:
    """Return the newest version of Produce that a request may use.

    Args:
        transactional: The request belongs to a transaction.
        transactions_v2: The cluster runs `transaction.version` 2 (KIP-890). Otherwise the broker
            would add the partitions of a newer request to the transaction by itself.
        topic_ids: The id of every topic in the request is known. Some brokers offer Produce 13
            but no Metadata version with ids.
    """
    cap = PRODUCE.max_version
    if transactional and not transactions_v2:
        cap = min(cap, _LAST_PRODUCE_BEFORE_TRANSACTIONS_V2)
    if not topic_ids:
        cap = min(cap, _LAST_PRODUCE_WITH_TOPIC_NAMES)
    return cap
