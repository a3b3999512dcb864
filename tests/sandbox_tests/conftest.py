"""Shared by the tests of the sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox.layout import current
from tests.sandbox_tests.support.machines_tree import MachinesTree, machines_tree


def pytest_configure(config: pytest.Config) -> None:
    """Say what our markers mean."""
    config.addinivalue_line("markers", "machines: starts real machines in private namespaces; needs root")


@pytest.fixture(scope="session")
def tree() -> Iterator[MachinesTree]:
    """Private namespaces with a machine engine, shared by all tests of a run."""
    with machines_tree(current().cache) as running:
        yield running
