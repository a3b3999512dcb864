"""The services that all runs share, the recorded kinds of call, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox_tests.support.fault_matrix import Kind, Outcome, record, table
from tests.sandbox_tests.support.whole_program import World, world

OUTCOMES = pytest.StashKey[list[Outcome]]()


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All services, on loopback."""
    with world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="session")
def kinds(services: World) -> list[Kind]:
    """The kinds of call that an update makes."""
    return record(services)


@pytest.fixture(scope="session")
def outcomes(pytestconfig: pytest.Config) -> list[Outcome]:
    """What the runs have shown, for the table."""
    return pytestconfig.stash.setdefault(OUTCOMES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    found = config.stash.get(OUTCOMES, [])
    if found:
        terminalreporter.section("fault matrix")
        for line in table(found):
            terminalreporter.line(line)
