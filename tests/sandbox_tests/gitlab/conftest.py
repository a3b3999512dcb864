"""The package of the GitLab stand-in, its clients, projects and events."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import gitlab
import pytest
from gitlab.v4.objects import Project

from tests.sandbox.gitlab.build import build
from tests.sandbox.gitlab.web.core import db, events
from tests.sandbox.gitlab.web.core.config import Config
from tests.sandbox.gitlab.web.core.events import Push
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_projects import make_project


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the package, unpacked."""
    folder = tmp_path_factory.mktemp("tree")
    package = build("19.3.0-ce.0", tmp_path_factory.mktemp("package"))
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return folder


@pytest.fixture
def client(instance: Instance) -> gitlab.Gitlab:
    """A client of the administrator."""
    return instance.client()


@pytest.fixture
def emptied(instance: Instance) -> Iterator[None]:
    """Deletes all projects, groups and runners after the test."""
    yield
    instance.empty()


@pytest.fixture
def project(instance: Instance, client: gitlab.Gitlab) -> Iterator[Project]:
    """The project `root/hello`, deleted with all others after the test."""
    yield make_project(client)
    instance.empty()


@pytest.fixture
def pushes() -> Iterator[list[Push]]:
    """Every push of the test, as the stand-in announces it to its own parts."""
    seen: list[Push] = []

    def note(_: db.Connection, __: Config, push: Push) -> None:
        seen.append(push)

    events.on_push(note)
    yield seen
    events.forget(note)
