"""Writes the table of options into docs/options.md: `python -m tools.options_table`.

The names and defaults are those of `ProducerConfig`, the meanings are the docstrings below them.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
from pathlib import Path

from aioproducer import config
from aioproducer.config import ProducerConfig

PAGE = Path(__file__).parent.parent / "docs" / "options.md"
BEGIN = "<!-- options: made by `python -m tools.options_table` -->"
END = "<!-- end of options -->"


def options_table() -> str:
    """Return the table, one line per option in the order of `ProducerConfig`."""
    meanings = _docstrings()
    lines = ["| Option | Default | Meaning |", "|---|---|---|"]
    for option in dataclasses.fields(ProducerConfig):
        if option.name.startswith("_"):
            continue
        meaning = " ".join(meanings[option.name].split()).replace("|", "\\|")
        lines.append(f"| `{option.name}` | {_default(option.name, option.default)} | {meaning} |")
    return "\n".join(lines)


def _docstrings() -> dict[str, str]:
    """Map each field of `ProducerConfig` to the text that stands below it in the source."""
    tree = ast.parse(inspect.getsource(config))
    (body,) = (
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == ProducerConfig.__name__
    )
    found: dict[str, str] = {}
    for field, below in itertools.pairwise(body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = text
            case _:
                pass
    return found


def _default(name: str, default: object) -> str:
    if default is dataclasses.MISSING:
        return "required"
    if name == "acks":
        default = "all"  # read as -1, but seldom written so
    shown = f'"{default}"' if isinstance(default, str) else repr(default)
    return f"`{shown}`"


def with_table(page: str) -> str:
    """Return the page's text with the table between its two markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{options_table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
