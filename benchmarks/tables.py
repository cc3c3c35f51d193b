"""Tables as text: rows of cells, the first of them the titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["markdown", "plain"]


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal, its columns aligned."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    align: Callable[[str, int], str]
    lines: list[str] = []
    for row in rows:
        cells: list[str] = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            align = str.ljust if place == 0 else str.rjust
            cells.append(align(cell, width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
