"""docs/scale.md: its figures are those of the program, and its settings are accepted."""

from __future__ import annotations

import re
from typing import Any

import pytest

from components.cost import monthly_cost
from components.database_engines import ENGINES
from components.database_plan import plan_clusters
from components.settings import Settings
from components.settings.databases import Postgresql, needed_connections
from components.settings.server import Server
from tests.sandbox.digitalocean.models import database_catalog
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


def cheapest_databases(server: str) -> tuple[str, float]:
    """The smallest PostgreSQL that a stack with this server accepts, and the cost of both clusters."""
    needed = needed_connections(Server(size=server))
    size = next(one for one in database_catalog.SIZES if Postgresql(size=one).connections >= needed)
    databases = {"postgresql": {"kind": "managed", "size": size}, "valkey": {"kind": "managed"}}
    settings = Settings.model_validate({**REQUIRED, "server": {"size": server}, "databases": databases})
    items = monthly_cost(settings, {}, has_bucket=False, databases=plan_clusters(settings, {}, ENGINES))
    return size, round(sum(price for item, price in items.items() if item.startswith("managed ")), 2)


def test_managed_databases_cost_what_the_documents_say() -> None:
    first, last = (cheapest_databases(columns()[place]["server.size"]) for place in (0, -1))
    words = f": {first[1]:.0f} dollars for the first of these sizes, {last[1]:.0f} for the last one"
    assert words in " ".join(DOCUMENT.split())
    recipe = " ".join((ROOT / "docs/recipes/managed-databases.md").read_text().split())
    small = cheapest_databases("s-2vcpu-4gb")
    assert f"| {first[1]:.2f} US dollars: `{first[0]}` for PostgreSQL" in recipe
    assert f"; {small[1]:.2f} beside a server of 4 GB" in recipe
    assert Postgresql().size == first[0]
    for server, (size, _) in (("s-2vcpu-4gb", small), ("s-4vcpu-8gb", first)):
        needed, accepted = needed_connections(Server(size=server)), Postgresql(size=size).connections
        assert f"{needed} on `{server}`, where `{size}` accepts {accepted}" in recipe
