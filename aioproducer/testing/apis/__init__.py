"""The APIs that the fake brokers speak: one module each, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aioproducer.testing.apis import (
    api_versions,
    fetch,
    find_coordinator,
    init_producer_id,
    list_offsets,
    metadata,
    produce,
)
from aioproducer.testing.apis.base import Api

__all__ = ["APIS"]

APIS: Final[Mapping[int, Api]] = {
    module.API.key: module.API
    for module in (
        produce,
        fetch,
        list_offsets,
        metadata,
        find_coordinator,
        api_versions,
        init_producer_id,
    )
}
"""By API key."""
