"""Projects with images: what GitLab can do with them with and without the registry's metadata database."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from gitlab.exceptions import GitlabError

from tests.sandbox.gitlab.web.core import cleanup
from tests.sandbox.gitlab.web.core.cleanup import Policy
from tests.sandbox_tests.support.gitlab_instance import Instance, running
from tests.sandbox_tests.support.registry_service import Client, Registry, folder

pytestmark = pytest.mark.real_time("the distribution is written in Go")

LAYER = b"layer " * 1000
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass
class Place:
    """A GitLab with its registry."""

    instance: Instance
    registry: str

    def project(self, **more: Any) -> Any:
        """A new project with one image, an index under the tag `v1`."""
        project = self.instance.client().projects.create({"name": f"p{secrets.token_hex(4)}", **more})
        self.push(project, "v1")
        path = project.path_with_namespace
        query = "INSERT INTO container_repositories (project_id, path, created_at) VALUES (?, ?, '2026-01-01')"
        self.instance.execute(query, project.id, path)
        return project

    def push(self, project: Any, tag: str) -> None:
        """Push an index to the project's repository."""
        with Client(self.registry, project.path_with_namespace) as client:
            client.push_index(tag, LAYER)

    def digests(self, project: Any) -> dict[str, str]:
        """Tags of the project's repository, each with its digest."""
        with Client(self.registry, project.path_with_namespace) as client:
            return {tag: client.manifest(tag).headers["docker-content-digest"] for tag in client.tags()}

    def group(self, **more: Any) -> Any:
        """A new group."""
        name = f"g{secrets.token_hex(4)}"
        return self.instance.client().groups.create({"name": name, "path": name, **more})


def place(tmp_path_factory: pytest.TempPathFactory, *, database: bool) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("registry")
    with (
        Registry(directory, folder(directory).options).serving(database) as client,
        running(tmp_path_factory.mktemp("gitlab"), client.url) as instance,
    ):
        yield Place(instance, client.url)


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Without the metadata database."""
    yield from place(tmp_path_factory, database=False)


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With it."""
    yield from place(tmp_path_factory, database=True)


def tag_of(project: Any, name: str = "v1") -> Any:
    return project.repositories.list(get_all=True)[0].tags.get(name)


def refusal(action: Any) -> tuple[int | None, str]:
    with pytest.raises(GitlabError) as found:
        action()
    return found.value.response_code, str(found.value.error_message)


KEPT = "Cannot rename or delete project because it contains container registry tags!"


def test_without_the_database_gitlab_cannot_read_an_index_or_give_its_project_another_path(legacy: Place) -> None:
    project, group = legacy.project(), legacy.group()
    assert refusal(lambda: tag_of(project)) == (404, "404 Tag Not Found")
    projects = legacy.instance.client().projects
    assert refusal(lambda: projects.update(project.id, {"path": "renamed"})) == (400, KEPT)
    assert refusal(lambda: projects.delete(project.id)) == (400, KEPT)
    status, words = refusal(lambda: project.transfer(group.id))
    assert (status, words) == (
        400,
        "Project cannot be transferred, because image tags are present in its container registry",
    )
    assert list(legacy.digests(project)) == ["v1"]


def test_without_images_a_project_can_be_renamed_in_either_mode(legacy: Place) -> None:
    projects = legacy.instance.client().projects
    project = projects.create({"name": "bare"})
    assert projects.update(project.id, {"path": "bare-renamed"})["path"] == "bare-renamed"


def test_with_the_database_a_renamed_project_keeps_its_images(modern: Place) -> None:
    project, projects = modern.project(), modern.instance.client().projects
    digest = tag_of(project).digest
    projects.update(project.id, {"path": f"{project.path}-renamed"})
    renamed = projects.get(project.id)
    assert renamed.path_with_namespace == f"root/{project.path}-renamed"
    assert tag_of(renamed).digest == digest
    assert modern.digests(renamed) == {"v1": digest}
    assert modern.digests(project) == {}


def test_with_the_database_a_project_moves_within_its_top_level_namespace_and_not_beyond(modern: Place) -> None:
    top, other = modern.group(), modern.group()
    below = modern.group(parent_id=top.id)
    project = modern.project(namespace_id=top.id)
    status, words = refusal(lambda: project.transfer(other.id))
    assert (status, "to a different top-level namespace" in words) == (400, True)
    project.transfer(below.id)
    moved = modern.instance.client().projects.get(project.id)
    assert moved.path_with_namespace == f"{below.full_path}/{project.path}"
    assert list(modern.digests(moved)) == ["v1"]


def test_a_group_with_images_gets_no_other_path_in_either_mode(legacy: Place, modern: Place) -> None:
    for where in (legacy, modern):
        group = where.group()
        where.project(namespace_id=group.id)
        update = where.instance.client().groups.update
        status, words = refusal(lambda update=update, group=group: update(group.id, {"path": "renamed"}))
        assert (status, "contain Docker images in their Container Registry" in words) == (400, True)


def test_with_the_database_a_project_with_images_can_be_deleted_and_restored(modern: Place) -> None:
    project, projects = modern.project(), modern.instance.client().projects
    projects.delete(project.id)
    marked = projects.get(project.id)
    assert marked.path_with_namespace.endswith(f"-deletion_scheduled-{project.id}")
    assert list(modern.digests(marked)) == ["v1"]
    marked.restore()
    assert list(modern.digests(project)) == ["v1"]
    projects.delete(project.id)
    projects.delete(project.id, permanently_remove=True, full_path=marked.path_with_namespace)
    assert modern.digests(marked) == {}


def dates(**days: int | None) -> dict[str, datetime | None]:
    return {name: None if age is None else NOW - timedelta(days=age) for name, age in days.items()}


def test_a_policy_keeps_the_newest_and_what_matches_its_pattern() -> None:
    tags = dates(latest=90, main=90, a=40, b=41, c=42, v1=400)
    month = timedelta(days=30)
    assert Policy(".*", r"(?:main|v\d+)", 1, month).doomed(tags, NOW) == ["b", "c"]
    assert Policy(".*", "", 10, month).doomed(tags, NOW) == []
    assert Policy("[ab]", "", None, None).doomed(tags, NOW) == ["a", "b"]


def test_a_pattern_without_a_group_keeps_what_begins_or_ends_like_its_parts() -> None:
    tags = dates(latest2=90, xmain=90, other=90)
    assert Policy(".*", "latest|main").doomed(tags, NOW) == ["other"]
    assert Policy(".*", "(?:latest|main)").doomed(tags, NOW) == ["latest2", "xmain", "other"]


def test_a_policy_never_deletes_a_tag_that_has_no_date_and_counts_it_among_the_newest() -> None:
    tags = dates(dated=40, undated=None)
    assert Policy(".*", "", None, timedelta(days=30)).doomed(tags, NOW) == ["dated"]
    assert Policy(".*", "", 1, timedelta(days=30)).doomed(tags, NOW) == ["dated"]


@pytest.mark.parametrize("mode", ["legacy", "modern"])
def test_a_policy_runs_when_it_is_due_and_deletes_what_it_can_date(request: pytest.FixtureRequest, mode: str) -> None:
    where: Place = request.getfixturevalue(mode)
    project = where.project()
    where.push(project, "v2")
    policy = {"enabled": True, "cadence": "1d", "older_than": "30d", "keep_n": 1, "name_regex_delete": ".*"}
    project.container_expiration_policy_attributes = policy
    project.save()
    assert cleanup.run_due(where.instance.config, datetime.now(UTC)) == []
    later = datetime.now(UTC) + timedelta(days=40)
    gone = [name for name in cleanup.run_due(where.instance.config, later) if project.path in name]
    assert gone == ([] if mode == "legacy" else [f"root/{project.path}:v1"])
    assert cleanup.run_due(where.instance.config, later) == []
