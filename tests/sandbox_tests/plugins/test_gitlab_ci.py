"""Variables, tokens, members, runners and settings of the provider `gitlab`, each alone on the GitLab stand-in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.session import ApiError
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_resources import ask, comes_and_goes, make, settles
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver


@pytest.mark.parametrize("kind", ["env_var", "file"])
def test_a_variable_comes_changes_and_goes(instance: Instance, driver: ResourceDriver, kind: str) -> None:
    project, _ = make(driver)
    inputs: Properties = {"project": project, "key": "PASSPHRASE", "value": "sesame-open", "variableType": kind}
    comes_and_goes(driver, "ProjectVariable", **inputs, masked=True, description="")
    identifier, state = driver.create("ProjectVariable", **inputs, description="what for")
    assert identifier == f"{project}:PASSPHRASE:*"
    state = driver.update("ProjectVariable", identifier, state, value="other-value", protected=True, description=None)
    settles(driver, "ProjectVariable", identifier, state)
    there = ask(instance, "GET", f"/projects/{project}/variables/PASSPHRASE")
    assert (there["value"], there["protected"], there["description"] or "") == ("other-value", True, "")


def test_the_value_of_a_hidden_variable_stays_as_the_state_has_it(driver: ResourceDriver) -> None:
    project, _ = make(driver)
    inputs: Properties = {"project": project, "key": "HIDDEN", "value": "sesame-open", "masked": True, "hidden": True}
    identifier, state = driver.create("ProjectVariable", **inputs)
    assert state["value"] == "sesame-open"
    settles(driver, "ProjectVariable", identifier, state)
    assert "value" not in driver.read("ProjectVariable", identifier, state)[1]


def test_a_value_that_cannot_be_masked_is_refused_without_being_shown(driver: ResourceDriver) -> None:
    project, _ = make(driver)
    with pytest.raises(ApiError, match="400") as failure:
        driver.create("ProjectVariable", project=project, key="SHORT", value="xyzzy", masked=True)
    assert "xyzzy" not in str(failure.value)


def test_a_deploy_token_tells_its_secret_once(driver: ResourceDriver) -> None:
    project, _ = make(driver)
    inputs: Properties = {"project": project, "name": "pull", "scopes": ["read_repository", "read_registry"]}
    _, state = comes_and_goes(driver, "ProjectDeployToken", **inputs)
    assert state["token"].startswith("gldt-")
    assert state["username"].startswith("gitlab+deploy-token-")
    tomorrow = (datetime.now(UTC).date() + timedelta(days=1)).isoformat()
    dated: Properties = {**inputs, "username": "puller", "expiresAt": f"{tomorrow}T00:00:00Z"}
    assert comes_and_goes(driver, "ProjectDeployToken", **dated)[1]["username"] == "puller"


def test_an_access_token_tells_its_secret_once_and_is_revoked(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = make(driver)
    inputs: Properties = {"project": project, "name": "bot", "scopes": ["read_api"], "accessLevel": "reporter"}
    identifier, state = driver.create("ProjectAccessToken", **inputs)
    settles(driver, "ProjectAccessToken", identifier, state)
    address = f"{instance.url}/api/v4/projects/{project}"
    assert httpx.get(address, headers={"private-token": state["token"]}).status_code == 200
    driver.delete("ProjectAccessToken", identifier, state)
    assert httpx.get(address, headers={"private-token": state["token"]}).status_code == 401
    changed = dict(driver.resource("ProjectAccessToken").differences(state, {**state, "expiresAt": "2099-01-01"}))
    assert changed == {"expiresAt": True}


@pytest.mark.parametrize("kind", ["ProjectDeployToken", "ProjectAccessToken"])
def test_a_scope_that_a_token_cannot_have_is_refused_before_anything_is_asked(
    driver: ResourceDriver, kind: str
) -> None:
    (failure,) = driver.failures(kind, {"project": "1", "name": "n", "scopes": ["sudo"]})
    assert failure.path == "scopes[0]"
    assert "read_registry" in failure.reason


def test_a_member_comes_changes_and_goes(instance: Instance, driver: ResourceDriver) -> None:
    user = {"username": "ada", "name": "Ada", "email": "ada@example.com", "password": "kX9-vbq-Trz-73"}
    number = ask(instance, "POST", "/users", {**user, "skip_confirmation": True})["id"]
    project, _ = make(driver)
    inputs: Properties = {"project": project, "userId": number, "accessLevel": "developer"}
    comes_and_goes(driver, "ProjectMembership", **inputs)
    identifier, state = driver.create("ProjectMembership", **inputs)
    state = driver.update("ProjectMembership", identifier, state, accessLevel="maintainer")
    settles(driver, "ProjectMembership", identifier, state)
    assert ask(instance, "GET", f"/projects/{project}/members/{number}")["access_level"] == 40


def test_a_runner_comes_changes_and_goes(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = make(driver)
    inputs: Properties = {
        "runnerType": "project_type",
        "projectId": int(project),
        "description": "docker-builder",
        "locked": True,
    }
    comes_and_goes(driver, "UserRunner", **inputs, tagLists=["b", "a"], untagged=True, maximumTimeout=600)
    identifier, state = driver.create("UserRunner", **inputs, tagLists=["a"], untagged=False)
    assert state["token"].startswith("glrt-")
    changed = driver.update("UserRunner", identifier, state, tagLists=["a", "c"], paused=True, untagged=True)
    assert changed["token"] == state["token"]
    settles(driver, "UserRunner", identifier, changed)
    there = ask(instance, "GET", f"/runners/{identifier}")
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
def test_a_runner_that_cannot_be_is_refused_before_anything_is_asked(
    driver: ResourceDriver, inputs: Properties, path: str
) -> None:
    assert [failure.path for failure in driver.failures("UserRunner", inputs)] == [path]


def test_a_runner_is_shared_with_another_project_and_taken_away(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = make(driver)
    other, _ = make(driver)
    runner, _ = driver.create("UserRunner", runnerType="project_type", projectId=int(project), locked=False)
    comes_and_goes(driver, "ProjectRunnerEnablement", project=other, runnerId=int(runner))
    assert [str(one["id"]) for one in ask(instance, "GET", f"/runners/{runner}")["projects"]] == [project]


def test_settings_change_only_where_the_program_says_and_stay_when_it_ends(
    instance: Instance, driver: ResourceDriver
) -> None:
    before = ask(instance, "GET", "/application/settings")
    inputs: Properties = {"signupEnabled": False, "validRunnerRegistrars": ["group", "project"], "maxArtifactsSize": 50}
    identifier, state = driver.create("ApplicationSettings", **inputs)
    settles(driver, "ApplicationSettings", identifier, state)
    after = ask(instance, "GET", "/application/settings")
    changed = {name for name in before if before[name] != after[name]}
    assert {"signup_enabled", "max_artifacts_size"} <= changed
    assert changed <= {"signup_enabled", "max_artifacts_size", "valid_runner_registrars", "updated_at"}
    # The program gives three; the state has them all, and that is no difference.
    assert dict(driver.resource("ApplicationSettings").differences(state, inputs)) == {}
    driver.delete("ApplicationSettings", identifier, state)
    assert ask(instance, "GET", "/application/settings") == after
