"""The table of options in the docs."""

from __future__ import annotations

import dataclasses

from aioproducer.config import ProducerConfig
from tools.options_table import options_table


def test_the_table_has_every_option_with_its_default_and_a_meaning() -> None:
    rows = [line.removeprefix("| ").split(" | ", 2) for line in options_table().splitlines()[2:]]
    names = [field.name for field in dataclasses.fields(ProducerConfig)]
    assert [row[0] for row in rows] == [f"`{name}`" for name in names if not name.startswith("_")]
    assert all(len(row) == 3 and len(row[2]) > 30 for row in rows)


def test_a_default_is_shown_as_it_is_written() -> None:
    lines = options_table().splitlines()
    assert any(line.startswith('| `acks` | `"all"` |') for line in lines)
    assert any(line.startswith("| `bootstrap_servers` | required |") for line in lines)
    assert any(line.startswith("| `linger_ms` | `0` |") for line in lines)
