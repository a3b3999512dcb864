"""What a stack costs, as preview and the stack's outputs show it."""

from __future__ import annotations

from components.cost import cost_report
from tests.unit.engine import run_program
from tests.unit.test_account import RUNNERS
from tests.unit.test_state import KEPT

SPACES = "Spaces subscription, shared by all Spaces of the account"


def test_every_item_that_has_a_price_is_an_output_with_the_total() -> None:
    cost = run_program(**RUNNERS).exports["monthly_cost"]
    assert cost == {
        "currency": "USD",
        "items": {
            "server, s-4vcpu-8gb": 48.0,
            "runner a, 3 x s-2vcpu-4gb": 72.0,
            "data volume, 50 GiB": 5.0,
            SPACES: 5.0,
        },
        "total": 130.0,
    }


def test_a_stack_without_spaces_pays_for_none() -> None:
    assert SPACES not in run_program(registry={"storage": "filesystem"}).exports["monthly_cost"]["items"]
    # A bucket that is kept costs as much when it is no longer used.
    kept = run_program(previous_outputs={"deployed": KEPT}, registry={"storage": "filesystem"})
    assert kept.exports["monthly_cost"]["items"][SPACES] == 5.0


def test_the_report_shows_every_item_and_the_difference_to_what_is_deployed() -> None:
    deployed = {"server, s-2vcpu-4gb": 24.0, "data volume, 50 GiB": 5.0}
    lines = cost_report({"server, s-4vcpu-8gb": 48.0, "data volume, 50 GiB": 5.0}, deployed).splitlines()
    assert [line.split(maxsplit=1) for line in lines[1:-1]] == [
        ["48.00", "server, s-4vcpu-8gb"],
        ["5.00", "data volume, 50 GiB"],
        ["-24.00", "server, s-2vcpu-4gb, no longer needed"],
    ]
    assert lines[-1].strip() == "53.00  in total (+24.00 compared with the deployed 29.00)"


def test_the_report_of_a_new_stack_compares_with_nothing() -> None:
    assert cost_report({"server, c-4": 84.0}, {}).endswith("84.00  in total (nothing is deployed yet)")


def test_a_preview_shows_the_report_and_an_update_does_not_repeat_it() -> None:
    for dry_run in (True, False):
        shown = "\n".join(run_program(dry_run=dry_run, previous_outputs={"monthly_cost": {}}).notes)
        assert ("48.00  server, s-4vcpu-8gb" in shown) is dry_run
