"""The identity of every resource: an existing stack keeps what it has only while its URNs stay the same."""

from __future__ import annotations

from pathlib import Path

from tests.unit.engine import run_program, stack_file

#: One line for each resource of the sandbox stack. A line that changes deletes a resource and creates another one.
URNS = Path(__file__).with_name("urns.txt")


def test_the_resources_of_the_sandbox_stack_keep_their_urns() -> None:
    registered = [one.urn.split("::", 2)[2] for one in run_program(**stack_file("sandbox")).registrations]
    assert sorted(registered) == URNS.read_text().splitlines()
