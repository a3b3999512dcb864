"""Variables, tokens, members, runners and settings of the provider `gitlab`, each alone on the GitLab stand-in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.session import ApiError
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_resources import assert_settled, create_and_delete, create_project
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver


@pytest.mark.parametrize("kind", ["env_var", "file"])
def test_a_variable_is_created_changed_and_deleted(instance: Instance, driver: ResourceDriver, kind: str) -> None:
    project, _ = create_project(driver)
    inputs: Properties = {"project": project, "key": "PASSPHRASE", "value": "sesame-open", "variableType": kind}
    create_and_delete(driver, "ProjectVariable", **inputs, masked=True, description="")
    identifier, state = driver.create("ProjectVariable", **inputs, description="what for")
    assert identifier == f"{project}:PASSPHRASE:*"
    state = driver.update("ProjectVariable", identifier, state, value="other-value", protected=True, description=None)
    assert_settled(driver, "ProjectVariable", identifier, state)
    there = instance.request("GET", f"/projects/{project}/variables/PASSPHRASE")
    assert (there["value"], there["protected"], there["description"] or "") == ("other-value", True, "")


def test_the_value_of_a_hidden_variable_is_kept_from_the_state(driver: ResourceDriver) -> None:
    project, _ = create_project(driver)
    inputs: Properties = {"project": project, "key": "HIDDEN", "value": "sesame-open", "masked": True, "hidden": True}
    identifier, state = driver.create("ProjectVariable", **inputs)
    assert state["value"] == "sesame-open"
    assert_settled(driver, "ProjectVariable", identifier, state)
    assert "value" not in driver.read("ProjectVariable", identifier, state)[1]


def test_a_value_that_cannot_be_masked_is_refused_without_being_shown(driver: ResourceDriver) -> None:
    project, _ = create_project(driver)
    with pytest.raises(ApiError, match="400") as failure:
        driver.create("ProjectVariable", project=project, key="SHORT", value="xyzzy", masked=True)
    assert "xyzzy" not in str(failure.value)


def test_a_deploy_token_returns_its_secret_once(driver: ResourceDriver) -> None:
    project, _ = create_project(driver)
    inputs: Properties = {"project": project, "name": "pull", "scopes": ["read_repository", "read_registry"]}
    _, state = create_and_delete(driver, "ProjectDeployToken", **inputs)
    assert state["token"].startswith("gldt-")
    assert state["username"].startswith("gitlab+deploy-token-")
    tomorrow = (datetime.now(UTC).date() + timedelta(days=1)).isoformat()
    dated: Properties = {**inputs, "username": "puller", "expiresAt": f"{tomorrow}T00:00:00Z"}
    assert create_and_delete(driver, "ProjectDeployToken", **dated)[1]["username"] == "puller"


def test_an_access_token_returns_its_secret_once_and_is_revoked(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = create_project(driver)
    inputs: Properties = {"project": project, "name": "bot", "scopes": ["read_api"], "accessLevel": "reporter"}
    identifier, state = driver.create("ProjectAccessToken", **inputs)
    assert_settled(driver, "ProjectAccessToken", identifier, state)
    address = f"{instance.url}/api/v4/projects/{project}"
    assert httpx.get(address, headers={"private-token": state["token"]}).status_code == 200
    driver.delete("ProjectAccessToken", identifier, state)
    assert httpx.get(address, headers={"private-token": state["token"]}).status_code == 401
    changed = dict(driver.resource("ProjectAccessToken").differences(state, {**state, "expiresAt": "2099-01-01"}))
    assert changed == {"expiresAt": True}


@pytest.mark.parametrize("kind", ["ProjectDeployToken", "ProjectAccessToken"])
def test_an_invalid_token_scope_is_refused_before_the_api_is_called(driver: ResourceDriver, kind: str) -> None:
    (failure,) = driver.failures(kind, {"project": "1", "name": "n", "scopes": ["sudo"]})
    assert failure.path == "scopes[0]"
    assert "read_registry" in failure.reason


def test_a_member_is_added_changed_and_removed(instance: Instance, driver: ResourceDriver) -> None:
    user = {"username": "ada", "name": "Ada", "email": "ada@example.com", "password": "kX9-vbq-Trz-73"}
    number = instance.request("POST", "/users", {**user, "skip_confirmation": True})["id"]
    project, _ = create_project(driver)
    inputs: Properties = {"project": project, "userId": number, "accessLevel": "developer"}
    create_and_delete(driver, "ProjectMembership", **inputs)
    identifier, state = driver.create("ProjectMembership", **inputs)
    state = driver.update("ProjectMembership", identifier, state, accessLevel="maintainer")
    assert_settled(driver, "ProjectMembership", identifier, state)
    assert instance.request("GET", f"/projects/{project}/members/{number}")["access_level"] == 40


def test_a_runner_is_created_changed_and_deleted(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = create_project(driver)
    inputs: Properties = {
        "runnerType": "project_type",
        "projectId": int(project),
        "description": "docker-builder",
        "locked": True,
    }
    create_and_delete(driver, "UserRunner", **inputs, tagLists=["b", "a"], untagged=True, maximumTimeout=600)
    identifier, state = driver.create("UserRunner", **inputs, tagLists=["a"], untagged=False)
    assert state["token"].startswith("glrt-")
    changed = driver.update("UserRunner", identifier, state, tagLists=["a", "c"], paused=True, untagged=True)
    assert changed["token"] == state["token"]
    assert_settled(driver, "UserRunner", identifier, changed)
    there = instance.request("GET", f"/runners/{identifier}")
    assert (set(there["tag_list"]), there["paused"], there["run_untagged"]) == ({"a", "c"}, True, True)
    _, imported = driver.read("UserRunner", identifier)
    assert imported["projectId"] == int(project)
    assert "token" not in imported


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"runnerType": "project_type"}, "projectId"),
        ({"runnerType": "instance_type", "projectId": 1}, "projectId"),
        ({"runnerType": "group_type"}, "groupId"),
        ({"runnerType": "instance_type", "maximumTimeout": 599}, "maximumTimeout"),
    ],
)
def test_an_invalid_runner_is_refused_before_the_api_is_called(
    driver: ResourceDriver, inputs: Properties, path: str
) -> None:
    assert [failure.path for failure in driver.failures("UserRunner", inputs)] == [path]


def test_a_runner_is_enabled_and_disabled_for_another_project(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = create_project(driver)
    other, _ = create_project(driver)
    runner, _ = driver.create("UserRunner", runnerType="project_type", projectId=int(project), locked=False)
    create_and_delete(driver, "ProjectRunnerEnablement", project=other, runnerId=int(runner))
    assert [str(one["id"]) for one in instance.request("GET", f"/runners/{runner}")["projects"]] == [project]


def test_settings_change_only_as_declared_and_are_kept_after_destroy(
    instance: Instance, driver: ResourceDriver
) -> None:
    before = instance.request("GET", "/application/settings")
    inputs: Properties = {"signupEnabled": False, "validRunnerRegistrars": ["group", "project"], "maxArtifactsSize": 50}
    identifier, state = driver.create("ApplicationSettings", **inputs)
    assert_settled(driver, "ApplicationSettings", identifier, state)
    after = instance.request("GET", "/application/settings")
    changed = {name for name in before if before[name] != after[name]}
    assert {"signup_enabled", "max_artifacts_size"} <= changed
    assert changed <= {"signup_enabled", "max_artifacts_size", "valid_runner_registrars", "updated_at"}
    # The program gives three; the state has them all, and that is no difference.
    assert dict(driver.resource("ApplicationSettings").differences(state, inputs)) == {}
    driver.delete("ApplicationSettings", identifier, state)
    assert instance.request("GET", "/application/settings") == after
