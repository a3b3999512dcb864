"""A machine engine in private namespaces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox.layout import current
from tests.sandbox_tests.support.machines_tree import MachinesTree, machines_tree


@pytest.fixture(scope="session")
def tree() -> Iterator[MachinesTree]:
    """Private namespaces with a machine engine, shared by all tests of a run."""
    with machines_tree(current().cache) as running:
        yield running
