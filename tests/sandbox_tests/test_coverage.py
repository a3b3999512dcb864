"""The table of what the emulated APIs cover."""

from __future__ import annotations

import re

from tests.sandbox import coverage
from tests.sandbox.digitalocean.routes import ROUTES
from tests.sandbox.gitlab.web import api

TABLE = coverage.TARGET.read_text()


def row(path: str) -> list[str]:
    """The cells of a path: what is implemented, and what is not."""
    [line] = [line for line in TABLE.splitlines() if line.startswith(f"| `{path}` |")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_the_table_is_in_step_with_the_routes() -> None:
    assert coverage.document() == TABLE, "run `make docs`"


def test_every_route_of_both_apis_has_its_method_in_the_table() -> None:
    operations = [*coverage.routes_of(ROUTES), *coverage.routes_of(api.routes, coverage.GITLAB_PREFIX)]
    assert len(operations) > 200
    for method, path in operations:
        assert method in row(path)[0].split(", "), (method, path)


def test_a_part_of_an_operation_that_answers_501_stands_beside_it() -> None:
    assert row("/v2/volumes") == ["GET, POST, DELETE", "POST: volumes from snapshots"]
    assert "restore" in row("/v2/droplets/{droplet_id}/actions")[1]


def test_an_operation_that_only_the_real_api_has_is_shown_as_missing() -> None:
    assert row("/v2/volumes/{volume_id}/snapshots") == ["GET", "POST"]
    assert row("/v2/vpcs/{vpc_id}/peerings") == ["none", "GET; POST"]
    absent = [line for line in TABLE.splitlines() if line.startswith("Not implemented at all:")]
    assert "load_balancers" in absent[0]
    assert "projects/issues" in absent[1]


def test_a_name_that_stands_for_an_id_is_not_missing() -> None:
    assert ("GET", "/v2/projects/default") in coverage.digitalocean_client()
    assert "/v2/projects/default" not in TABLE


def test_no_operation_of_the_real_api_is_refused_as_a_wrong_method() -> None:
    for method, path in coverage.digitalocean_client():
        example = re.sub(r"\{[^}]*\}", "1", path)
        methods = [route.methods or set() for route in ROUTES if route.path_regex.match(example)]
        assert not methods or method in set().union(*methods), f"{method} {path}: needs a route with `unsupported`"
