"""Drives a SASL exchange by hand: what it sends, and what it makes of each challenge."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from aioproducer.network.sasl.exchange import Call, Exchange

__all__ = ["advance"]


def advance(exchange: Exchange, challenge: bytes | None = None) -> bytes | None:
    """Give an exchange a challenge; return what it sends then, or None when it is over."""
    try:
        step = exchange.send(challenge)
        while isinstance(step, Call):
            step = exchange.send(_called(step.function))
    except StopIteration:
        return None
    return step


def _called(function: Callable[[], Any]) -> Any:
    async def awaited() -> Any:
        result = function()
        return await result if inspect.isawaitable(result) else result

    return asyncio.run(awaited())
