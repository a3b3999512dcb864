"""The stack that all end-to-end tests share, and what it leaves when they are done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.control import Control
from tests.e2e.stack import RUNNER, SANDBOX, Stack


@pytest.fixture(scope="session")
def control() -> Iterator[Control]:
    """What the cloud knows of itself."""
    made = Control()
    yield made
    made.close()


@pytest.fixture(scope="session")
def foreign(control: Control) -> dict[str, Any]:
    """What the cloud held before the first test: that of another stack, perhaps."""
    return control.resources()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, foreign: dict[str, Any]) -> Iterator[Stack]:
    """An empty stack with the settings of the sandbox and a domain of its own; destroyed at the end."""
    assert "e2e" not in str(foreign)
    folder = tmp_path_factory.mktemp("stack")
    made = Stack.create("e2e", folder, SANDBOX, domain="e2e.test", projects=[], runners=[])
    yield made
    made.remove()


@pytest.fixture(scope="session")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a project and its runner, and a domain of its own; destroyed at the end."""
    folder = tmp_path_factory.mktemp("delivery")
    made = Stack.create(
        "delivery",
        folder,
        SANDBOX,
        domain="delivery.test",
        registry={"storage": "filesystem"},
    )
    yield made
    made.remove()


@pytest.fixture(scope="session")
def builders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a project that two machines build for without privileges; destroyed at the end."""
    made = Stack.create(
        "builders",
        tmp_path_factory.mktemp("builders"),
        SANDBOX,
        domain="builders.test",
        registry={"storage": "filesystem"},
        runners=[{**RUNNER, "builder": "buildah", "count": 2}],
    )
    yield made
    made.remove()
