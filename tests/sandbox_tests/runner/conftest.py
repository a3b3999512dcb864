"""A coordinator on loopback for the runner stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox_tests.support.gitlab_instance import listen, serving
from tests.sandbox_tests.support.runner_coordinator import Coordinator


@pytest.fixture
def coordinator() -> Coordinator:
    """A coordinator without jobs."""
    return Coordinator()


@pytest.fixture
def url(coordinator: Coordinator) -> Iterator[str]:
    """Where the coordinator answers."""
    sock, address = listen()
    with serving(coordinator.app, sock):
        yield address


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A `config.toml` that is not written yet."""
    return tmp_path / "etc" / "config.toml"
