"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["short"]


def short(value: float) -> str:
    """Return a number with three digits that count: `1,234,567`, `12.3`, `0.0123`."""
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}"
