"""The ratios of `make bench` in one table, beside those that were recorded before and what they should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from rich.table import Table

RECORDED: Final = Path(__file__).with_name("bench.yaml")
#: The most that a ratio should be.
AIMS: Final = {
    "new stack ÷ its longest chain": 1.1,
    "new stack ÷ all its operations": 0.6,
    "preview ÷ that of an empty program": 3.0,
    "pipeline ÷ walk-through, first": 0.5,
    "pipeline ÷ walk-through, changed": 0.15,
    "recreate ÷ new": 0.5,
    "recreate from golden images ÷ new": 0.5,
}


@dataclass(frozen=True)
class Comparison:
    """A table with seconds, and the ratios in it that are recorded: their names say what is divided by what."""

    table: Table
    ratios: Mapping[str, float]


def summary(ratios: Mapping[str, float], file: Path = RECORDED) -> Table:
    """All ratios of this run, those of the run that was recorded last, and their aims."""
    before: dict[str, float] = yaml.safe_load(file.read_text())
    table = Table("Ratio", "Now", "Before", "Aim")
    for name, value in ratios.items():
        known, aim = before.get(name), AIMS.get(name)
        table.add_row(
            name, f"{value:.2f}", "" if known is None else f"{known:.2f}", "" if aim is None else f"≤ {aim:.2f}"
        )
    return table


def record(ratios: Mapping[str, float], file: Path = RECORDED) -> None:
    """Keep the ratios of this run for the next one. Those that it did not measure stay."""
    before: dict[str, float] = yaml.safe_load(file.read_text())
    note = "".join(line for line in file.read_text().splitlines(keepends=True) if line.startswith("#"))
    merged = before | {name: round(value, 2) for name, value in ratios.items()}
    file.write_text(note + yaml.safe_dump(merged, sort_keys=False, allow_unicode=True))
