"""Protected tags and repositories of the provider `gitlab`, on a GitLab stand-in whose registry has its database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.sandbox.plugins.base.framework import PluginError
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_registry import gitlab_with_registry
from tests.sandbox_tests.support.gitlab_resources import assert_settled, create_and_delete, create_project
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver

pytestmark = pytest.mark.real_time("the distribution is written in Go")

TAG, REPOSITORY = "ProjectContainerTagProtection", "ProjectContainerRepositoryProtection"
LEVELS: dict[str, Any] = {"minimumAccessLevelForPush": "MAINTAINER", "minimumAccessLevelForDelete": "OWNER"}


@pytest.fixture(scope="module")
def shared_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with gitlab_with_registry(tmp_path_factory.mktemp("place")) as place:
        yield place.instance


@pytest.fixture
def project(driver: ResourceDriver) -> str:
    """The ID of a new project."""
    return create_project(driver)[0]


def rules(instance: Instance, project: str) -> list[Any]:
    found: list[Any] = instance.request("GET", f"/projects/{project}/registry/protection/tag/rules")
    return found


def test_a_rule_for_tags_is_created_and_deleted(driver: ResourceDriver, project: str) -> None:
    identifier, state = create_and_delete(driver, TAG, project=project, tagNameRegex="^latest$", **LEVELS)
    assert identifier == f"{project}:{state['protectionRuleId']}"


def test_every_change_of_a_rule_for_tags_is_a_replacement(driver: ResourceDriver) -> None:
    old = {"project": "1", "tagNameRegex": "a", "immutable": False, **LEVELS}
    new = {"project": "2", "tagNameRegex": "b", "immutable": True, **dict.fromkeys(LEVELS, "ADMIN")}
    assert dict(driver.resource(TAG).differences(old, new)) == dict.fromkeys(old, True)


def test_a_rule_for_tags_that_exists_is_taken_over_whatever_its_levels_are(
    instance: Instance, driver: ResourceDriver, project: str
) -> None:
    first, _ = driver.create(TAG, project=project, tagNameRegex="^v", **LEVELS)
    second, state = driver.create(
        TAG,
        project=project,
        tagNameRegex="^v",
        minimumAccessLevelForPush="ADMIN",
        minimumAccessLevelForDelete="ADMIN",
    )
    assert second == first
    assert state["minimumAccessLevelForPush"] == "MAINTAINER"
    # So a replacement that creates first ends without any rule.
    driver.delete(TAG, first, state)
    assert rules(instance, project) == []


def test_a_rule_for_tags_that_gitlab_refuses_is_waited_for_until_the_timeout(
    driver: ResourceDriver, project: str
) -> None:
    for number in range(5):
        driver.create(TAG, project=project, tagNameRegex=f"v{number}", **LEVELS)
    with pytest.raises(PluginError, match="timeout after 1 s while waiting for rule to be created"):
        driver.create(TAG, timeout=1, project=project, tagNameRegex="v5", **LEVELS)


def test_a_rule_for_tags_is_imported_by_the_ids_of_project_and_rule(driver: ResourceDriver, project: str) -> None:
    identifier, state = driver.create(TAG, project=project, tagNameRegex="^v", **LEVELS)
    _, imported = driver.read(TAG, identifier)
    assert imported == {name: value for name, value in state.items() if name in imported}
    assert driver.read(TAG, f"{project}:999") is None


def test_a_rule_for_tags_of_a_project_that_is_gone_cannot_be_read(driver: ResourceDriver) -> None:
    project, made = create_project(driver, permanentlyDeleteOnDestroy=True)
    identifier, state = driver.create(TAG, project=project, tagNameRegex="^v", **LEVELS)
    driver.delete("Project", project, made)
    with pytest.raises(PluginError, match=r"Unable to get project: .*404"):
        driver.read(TAG, identifier, state)
    with pytest.raises(PluginError, match=r"Unable to get project: .*404"):
        driver.create(TAG, project=project, tagNameRegex="^v", **LEVELS)


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"minimumAccessLevelForPush": "OWNER"}, "minimumAccessLevelForPush"),
        ({"immutable": True, **LEVELS}, "immutable"),
        ({"minimumAccessLevelForPush": "DEVELOPER"}, "minimumAccessLevelForPush"),
        ({"tagNameRegex": "", **LEVELS}, "tagNameRegex"),
    ],
)
def test_a_contradictory_rule_for_tags_is_refused_at_preview(
    driver: ResourceDriver, inputs: dict[str, Any], path: str
) -> None:
    failures = driver.failures(TAG, {"project": "1", "tagNameRegex": "a", **inputs})
    assert [failure.path for failure in failures] == [path]


def test_a_rule_for_repositories_is_created_changed_imported_and_deleted(
    driver: ResourceDriver, instance: Instance, project: str
) -> None:
    path = instance.request("GET", f"/projects/{project}")["path_with_namespace"]
    pattern = f"{path}/cache*"
    identifier, state = driver.create(
        REPOSITORY, project=project, repositoryPathPattern=pattern, minimumAccessLevelForPush="maintainer"
    )
    assert identifier == f"{project}:{state['protectionRuleId']}"
    assert_settled(driver, REPOSITORY, identifier, state)
    state = driver.update(REPOSITORY, identifier, state, minimumAccessLevelForPush="owner")
    assert driver.read(REPOSITORY, identifier)[1] == {
        "project": project,
        "repositoryPathPattern": pattern,
        "minimumAccessLevelForPush": "owner",
        "protectionRuleId": state["protectionRuleId"],
    }
    driver.delete(REPOSITORY, identifier, state)
    assert driver.read(REPOSITORY, identifier, state) is None
    with pytest.raises(PluginError, match="404"):
        driver.delete(REPOSITORY, identifier, state)
    assert driver.failures(REPOSITORY, {"project": project, "repositoryPathPattern": pattern}) != []
