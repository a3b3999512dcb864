"""A repository before its first push, and where its jobs run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox_tests.support.buildah import Workshop, workshop
from tests.sandbox_tests.support.official_images import provide
from tests.sandbox_tests.support.repositories import BASES, Repository


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with workshop(tmp_path_factory.mktemp("workshop")) as running:
        yield running


@pytest.fixture
def pushed(request: pytest.FixtureRequest, tmp_path: Path, place: Workshop) -> Repository:
    """A repository before its first push; the registry has what its Dockerfiles name."""
    repository = Repository(str(request.param), tmp_path, place)
    for name in BASES[repository.path]:
        if place.registry.get(f"library/{name}/tags/list").is_error:
            provide(place.registry, name, place.folder)
    return repository
