"""docs/scale.md: its figures are those of the program, and its settings are accepted."""

from __future__ import annotations

import re
from typing import Any

import pytest

from components.cost import monthly_cost
from components.settings import Settings
from tests.sandbox.digitalocean.models.catalog import Catalog
from tests.unit.engine import REQUIRED, ROOT

DOCUMENT = (ROOT / "docs" / "scale.md").read_text()
#: Slots are busy for half of eight hours, with jobs of two minutes, of which an image takes three.
JOBS_OF_A_SLOT = 8 * 60 // 2 // 2
JOBS_OF_AN_IMAGE = 3


def columns() -> list[dict[str, str]]:
    """The sizes of the first table: their cells by the name of the row."""
    table = DOCUMENT.partition("## Four sizes")[2].partition("\n\nWhere")[0].strip()
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table.splitlines()]
    named = [(row[0].replace("`", ""), row[1:]) for row in rows if not row[0].startswith("---")]
    return [{name: cells[place] for name, cells in named} for place in range(4)]


def settings_of(column: dict[str, str]) -> dict[str, Any]:
    """The stack file of a size."""
    found = re.fullmatch(r"(\d+) \S `?([\w-]+)", column["machines of runners"])
    assert found
    runner = {"count": int(found[1]), "size": found[2], "concurrency": int(column["concurrency of each"])}
    server = {"size": column["server.size"], "volumeSizeGb": int(column["server.volumeSizeGb"])}
    return {**REQUIRED, "server": server, "runners": [runner]}


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.mark.parametrize("place", range(4))
def test_a_size_of_the_document_can_be_deployed_and_costs_what_it_says(place: int) -> None:
    column = columns()[place]
    settings = Settings.model_validate(settings_of(column))
    sizes = Catalog(("ubuntu-24-04-x64",)).sizes
    for slug in (settings.server.size, settings.runners[0].size):
        assert settings.region in sizes[slug].regions
    cost = monthly_cost(settings, {slug: size.price_monthly for slug, size in sizes.items()}, has_bucket=True)
    assert sum(cost.values()) == number(column["US dollars a month"])


@pytest.mark.parametrize("place", range(4))
def test_jobs_and_images_of_a_size_follow_from_its_machines(place: int) -> None:
    column = columns()[place]
    [runner] = Settings.model_validate(settings_of(column)).runners
    slots = runner.count * runner.concurrency
    assert slots == number(column["jobs at the same time"])
    assert slots * JOBS_OF_A_SLOT == number(column["jobs a day"])
    assert slots * JOBS_OF_A_SLOT // JOBS_OF_AN_IMAGE == number(column["images a day"])
