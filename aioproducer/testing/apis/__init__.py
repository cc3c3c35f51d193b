"""The APIs that the fake brokers speak: one module each, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aioproducer.testing.apis import (
    add_offsets_to_txn,
    add_partitions_to_txn,
    api_versions,
    describe_transactions,
    end_txn,
    fetch,
    find_coordinator,
    init_producer_id,
    list_offsets,
    metadata,
    offset_commit,
    offset_fetch,
    produce,
    sasl_authenticate,
    sasl_handshake,
    txn_offset_commit,
)
from aioproducer.testing.apis.base import Api
from aioproducer.testing.observed import ApiName
from aioproducer.testing.state import Supported

__all__ = ["APIS", "supported_apis"]

APIS: Final[Mapping[int, Api]] = {
    module.API.key: module.API
    for module in (
        produce,
        fetch,
        list_offsets,
        metadata,
        offset_commit,
        offset_fetch,
        find_coordinator,
        api_versions,
        init_producer_id,
        add_partitions_to_txn,
        add_offsets_to_txn,
        end_txn,
        txn_offset_commit,
        describe_transactions,
        sasl_handshake,
        sasl_authenticate,
    )
}
"""By API key."""


def supported_apis(max_versions: Mapping[ApiName, int]) -> tuple[Supported, ...]:
    """Return what the brokers offer; `max_versions` lowers it, -1 takes an API away."""
    names = {api.name for api in APIS.values()}
    if unknown := set(max_versions) - names:
        raise ValueError(f"no API is called {sorted(unknown)}; there are {sorted(names)}")
    found: list[Supported] = []
    for api in APIS.values():
        highest = min(api.max_version, max_versions.get(api.name, api.max_version))
        if highest < 0:
            continue
        lowest = min(api.min_version, highest)
        advertised = lowest if api.advertised_min is None else api.advertised_min
        found.append(Supported(api.name, api.key, lowest, highest, advertised))
    return tuple(found)
