"""Projects, groups, protected branches and files of the provider `gitlab`, each alone on the GitLab stand-in."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.sandbox.plugins.base.framework import PluginError
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.names import instant
from tests.sandbox.plugins.gitlab.session import ApiError, Session
from tests.sandbox.plugins.provider_gitlab import GitLab
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_resources import assert_settled, create_and_delete, create_project, invoke
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver


@pytest.mark.parametrize("other", ["2028-02-29T00:00:00Z", "2028-02-29", "2028-02-28T16:00:00-08:00"])
def test_one_moment_may_be_written_in_several_ways(other: str) -> None:
    assert instant("2028-02-29T00:00:00.000Z") == instant(other)
    assert instant("2028-02-29T00:00:01.000Z") != instant(other)


def test_a_project_is_created_and_deleted_and_frees_its_path(driver: ResourceDriver) -> None:
    first, state = create_and_delete(driver, "Project", name="again", initializeWithReadme=True)
    assert state["pathWithNamespace"] == "root/again"
    second, _ = create_and_delete(driver, "Project", name="again")
    assert second != first


def test_a_project_is_removed_for_good_only_on_request(instance: Instance, driver: ResourceDriver) -> None:
    identifier, state = create_project(driver)
    driver.delete("Project", identifier, state)
    assert instance.request("GET", f"/projects/{identifier}")["marked_for_deletion_on"]
    identifier, state = create_project(driver, permanentlyDeleteOnDestroy=True)
    driver.delete("Project", identifier, state)
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        instance.request("GET", f"/projects/{identifier}")


def test_a_project_that_is_to_be_archived_is_not_deleted(instance: Instance, driver: ResourceDriver) -> None:
    identifier, state = create_project(driver, archiveOnDestroy=True)
    driver.delete("Project", identifier, state)
    there = instance.request("GET", f"/projects/{identifier}")
    assert there["archived"] is True
    assert there["marked_for_deletion_on"] is None


def test_a_cleanup_policy_shows_no_difference_however_it_is_declared(driver: ResourceDriver) -> None:
    for policy in (
        {"enabled": False},
        {"enabled": False, "cadence": "1d", "keepN": 10, "olderThan": "90d", "nameRegexDelete": ".*"},
        {"enabled": True, "nameRegexDelete": "^branch-.*", "nameRegexKeep": ""},
        {"cadence": "7d"},
    ):
        identifier, state = create_project(driver, containerExpirationPolicy=policy)
        assert_settled(driver, "Project", identifier, state)
        # GitLab tells of an empty expression as of none.
        said = {name: value for name, value in policy.items() if value != ""}
        assert said.items() <= state["containerExpirationPolicy"].items()


def test_an_existing_cleanup_policy_can_be_declared_in_part(driver: ResourceDriver) -> None:
    identifier, _ = create_project(driver)
    resource = driver.resource("Project")
    there = resource.imported_inputs(driver.read("Project", identifier)[1])
    assert there["containerExpirationPolicy"]["cadence"] == "1d"
    same = {**there, "containerExpirationPolicy": {"enabled": False}}
    assert dict(resource.differences(there, same)) == {}
    other = {**there, "containerExpirationPolicy": {"enabled": False, "cadence": "7d"}}
    assert dict(resource.differences(there, other)) == {"containerExpirationPolicy": False}


def test_a_cleanup_policy_can_be_disabled_and_its_drift_is_detected(instance: Instance, driver: ResourceDriver) -> None:
    identifier, state = create_project(driver, containerExpirationPolicy={"enabled": True, "nameRegexDelete": "a"})
    assert instance.request("GET", f"/projects/{identifier}")["container_expiration_policy"]["enabled"] is True
    driver.update("Project", identifier, state, containerExpirationPolicy={"enabled": False, "nameRegexDelete": "b"})
    there = instance.request("GET", f"/projects/{identifier}")["container_expiration_policy"]
    assert (there["enabled"], there["name_regex"]) == (False, "b")
    old = {"name": state["name"], "containerExpirationPolicy": {"enabled": True, "nameRegexDelete": "a"}}
    _, found = driver.read("Project", identifier, state)
    refreshed = driver.resource("Project").refreshed_inputs(old, found)
    assert refreshed["containerExpirationPolicy"] == {"enabled": False, "nameRegexDelete": "b"}


def test_a_project_changes_in_place_and_only_as_declared(instance: Instance, driver: ResourceDriver) -> None:
    identifier, state = create_project(driver, description="old", sharedRunnersEnabled=True, publicJobs=True)
    before = instance.request("GET", f"/projects/{identifier}")
    changes: Properties = {
        "description": None,
        "sharedRunnersEnabled": False,
        "publicJobs": False,
        "buildTimeout": 1800,
    }
    state = driver.update("Project", identifier, state, **changes, ciDefaultGitDepth=5, topics=["b", "a"])
    assert_settled(driver, "Project", identifier, state)
    after = instance.request("GET", f"/projects/{identifier}")
    changed = {name for name in before if before[name] != after[name]} - {
        "last_activity_at",
        "updated_at",
        "tag_list",
        "public_builds",
    }
    assert changed == {
        "build_timeout",
        "ci_default_git_depth",
        "description",
        "public_jobs",
        "shared_runners_enabled",
        "topics",
    }
    assert after["description"] in ("", None)


def test_a_project_is_archived_and_restored(instance: Instance, driver: ResourceDriver) -> None:
    identifier, state = create_project(driver, archived=True)
    assert_settled(driver, "Project", identifier, state)
    assert instance.request("GET", f"/projects/{identifier}")["archived"] is True
    driver.update("Project", identifier, state, archived=False)
    assert instance.request("GET", f"/projects/{identifier}")["archived"] is False


class Recording(Session):
    """Keeps what would change something, and sends only what reads."""

    def __init__(self, instance: Instance) -> None:
        super().__init__({"token": instance.token, "baseUrl": f"{instance.url}/api/v4/"})
        self.sent: list[tuple[str, str, Any]] = []

    def request(self, method: str, path: str, body: Any = None, query: Properties | None = None) -> Any:
        if method == "get":
            return super().request(method, path, body, query)
        self.sent.append((method, path, body))
        return None


def test_a_project_is_moved_in_place_to_another_path_and_group(instance: Instance, driver: ResourceDriver) -> None:
    identifier, state = create_project(driver, path="old")
    recording = Recording(instance)
    ResourceDriver(GitLab(), recording).update("Project", identifier, state, path="new", namespaceId=77)
    name = state["name"]
    assert recording.sent == [
        ("put", f"/projects/{identifier}", {"name": name, "path": "new"}),
        ("put", f"/projects/{identifier}/transfer", {"namespace": 77}),
    ]


def test_a_preview_knows_which_urls_a_move_changes(driver: ResourceDriver) -> None:
    resource = driver.resource("Project")
    state = {"name": "app", "path": "app", "namespaceId": 1, "description": "x"}
    moved = {"httpUrlToRepo", "pathWithNamespace", "sshUrlToRepo", "webUrl"}
    assert set(resource.unknown_during(state, {**state, "path": "new"})) == moved
    assert set(resource.unknown_during(state, {**state, "namespaceId": 2})) == moved
    assert set(resource.unknown_during(state, {**state, "description": "y"})) == set()


def test_a_project_is_imported_by_its_path(driver: ResourceDriver) -> None:
    identifier, state = create_project(driver)
    found, observed = driver.read("Project", state["pathWithNamespace"])
    assert found == identifier
    inputs = driver.resource("Project").imported_inputs(observed)
    assert inputs["name"] == state["name"]
    assert driver.failures("Project", inputs) == []


def test_a_project_path_that_is_taken_is_reported(driver: ResourceDriver) -> None:
    _, state = create_project(driver)
    with pytest.raises(ApiError, match=r"POST /projects: 400 .*taken"):
        create_project(driver, name="another name", path=state["path"])


def test_a_group_is_created_and_deleted_and_frees_its_path(driver: ResourceDriver) -> None:
    parent, _ = driver.create("Group", name="Parent", path="parent")
    for for_good in (True, False):
        common: Properties = {
            "name": "Child",
            "path": "child",
            "parentId": int(parent),
            "permanentlyRemoveOnDelete": for_good,
        }
        _, state = create_and_delete(driver, "Group", **common, description="", visibilityLevel="private")
        assert state["fullPath"] == "parent/child"
    identifier, state = driver.create("Group", name="Child", path="child", description="x")
    state = driver.update(
        "Group", identifier, state, name="Renamed", description=None, projectCreationLevel="maintainer"
    )
    assert_settled(driver, "Group", identifier, state)
    assert driver.read("Group", "child", {})[1]["name"] == "Renamed"


def test_a_member_of_a_group_leaves_it_alone_if_that_is_asked_for(instance: Instance, driver: ResourceDriver) -> None:
    group, _ = driver.create("Group", name="Team", path="team-with-members")
    user, _ = instance.new_user("member-of-a-group")
    project, _ = create_project(driver, namespaceId=int(group))
    inputs: Properties = {"groupId": int(group), "userId": user, "accessLevel": "developer"}
    create_and_delete(driver, "GroupMembership", **inputs)
    for skipped in (True, False):
        identifier, state = driver.create("GroupMembership", **inputs, skipSubresourcesOnDestroy=skipped)
        assert identifier == f"{group}:{user}"
        state = driver.update("GroupMembership", identifier, state, accessLevel="guest")
        assert_settled(driver, "GroupMembership", identifier, state)
        instance.request("POST", f"/projects/{project}/members", {"user_id": user, "access_level": 30})
        driver.delete("GroupMembership", identifier, state)
        assert bool(instance.request("GET", f"/projects/{project}/members")) is skipped
        if skipped:
            instance.request("DELETE", f"/projects/{project}/members/{user}")


def test_a_branch_is_created_from_a_ref_and_deleted(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = create_project(driver, defaultBranch="main")
    _, state = create_and_delete(driver, "Branch", project=project, name="stable", ref="main")
    head = instance.request("GET", f"/projects/{project}/repository/branches/main")["commit"]
    [commit] = state["commits"]
    assert (commit["id"], commit["shortId"]) == (head["id"], head["short_id"])
    assert (state["default"], state["protected"], state["canPush"]) == (False, False, True)
    with pytest.raises(ApiError, match="Invalid reference name: nowhere"):
        driver.create("Branch", project=project, name="other", ref="nowhere")


def test_a_branch_that_is_to_be_kept_outlives_its_resource(driver: ResourceDriver) -> None:
    project, _ = create_project(driver, defaultBranch="main")
    identifier, state = driver.create("Branch", project=project, name="stable", ref="main")
    state = driver.update("Branch", identifier, state, keepOnDestroy=True)
    driver.delete("Branch", identifier, state)
    assert driver.read("Branch", identifier, state) is not None


def test_another_ref_needs_a_new_branch(driver: ResourceDriver) -> None:
    resource = driver.resource("Branch")
    old = driver.checked("Branch", {"project": "1", "name": "stable", "ref": "main"})
    assert dict(resource.differences(old, {**old, "ref": "v1"})) == {"ref": True}
    assert dict(resource.differences(old, {**old, "keepOnDestroy": True})) == {"keepOnDestroy": False}


def test_the_protection_of_the_default_branch_is_taken_over(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = create_project(driver, defaultBranch="main")
    rules = instance.request("GET", f"/projects/{project}/protected_branches")
    assert [rule["name"] for rule in rules] == ["main"]
    inputs: Properties = {
        "project": project,
        "branch": "main",
        "pushAccessLevel": "no one",
        "mergeAccessLevel": "developer",
    }
    identifier, state = driver.create("BranchProtection", **inputs)
    assert identifier == f"{project}:main"
    assert_settled(driver, "BranchProtection", identifier, state)
    (rule,) = instance.request("GET", f"/projects/{project}/protected_branches")
    assert rule["push_access_levels"][0]["access_level"] == 0
    state = driver.update("BranchProtection", identifier, state, allowForcePush=True)
    assert instance.request("GET", f"/projects/{project}/protected_branches/main")["allow_force_push"] is True
    assert_settled(driver, "BranchProtection", identifier, state)
    driver.delete("BranchProtection", identifier, state)
    assert driver.read("BranchProtection", identifier, state) is None


def test_the_protection_of_another_branch_is_not_taken_over(driver: ResourceDriver) -> None:
    project, _ = create_project(driver)
    create_and_delete(driver, "BranchProtection", project=project, branch="release/*")
    driver.create("BranchProtection", project=project, branch="stable")
    with pytest.raises(PluginError, match=r"branch stable of project .* is protected already"):
        driver.create("BranchProtection", project=project, branch="stable")


def test_changing_who_can_push_replaces_the_protection(driver: ResourceDriver) -> None:
    resource = driver.resource("BranchProtection")
    old = driver.checked("BranchProtection", {"project": "1", "branch": "main"})
    assert dict(resource.differences(old, {**old, "pushAccessLevel": "developer"})) == {"pushAccessLevel": True}
    assert dict(resource.differences(old, {**old, "allowForcePush": True})) == {"allowForcePush": False}


def file_of(project: str, **inputs: Any) -> Properties:
    common: Properties = {
        "project": project,
        "branch": "main",
        "filePath": "a/b.txt",
        "content": "é\n",
        "encoding": "text",
    }
    return {**common, "commitMessage": "Write it", **inputs}


def test_a_file_is_created_changed_and_deleted_in_one_commit_each(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = create_project(driver, defaultBranch="main")
    identifier, state = driver.create("RepositoryFile", **file_of(project))
    assert identifier == f"{project}:main:a/b.txt"
    assert state["contentSha256"] == hashlib.sha256("é\n".encode()).hexdigest()
    assert_settled(driver, "RepositoryFile", identifier, state)
    changed = driver.update("RepositoryFile", identifier, state, content="changed\n", executeFilemode=True)
    assert changed["lastCommitId"] != state["lastCommitId"]
    assert_settled(driver, "RepositoryFile", identifier, changed)
    driver.delete("RepositoryFile", identifier, changed)
    assert driver.read("RepositoryFile", identifier, changed) is None
    driver.delete("RepositoryFile", identifier, changed)
    titles = [commit["title"] for commit in instance.request("GET", f"/projects/{project}/repository/commits")]
    assert titles == ["[DELETE]: Write it", "Write it", "Write it", "Initial commit"]


def test_a_binary_file_is_declared_and_kept_in_base64(driver: ResourceDriver) -> None:
    project, _ = create_project(driver, defaultBranch="main")
    content = base64.b64encode(bytes(range(256))).decode()
    _, state = create_and_delete(driver, "RepositoryFile", **file_of(project, content=content, encoding="base64"))
    assert state["size"] == 256


def test_an_existing_file_is_overwritten_only_on_request(driver: ResourceDriver) -> None:
    project, _ = create_project(driver, defaultBranch="main")
    with pytest.raises(ApiError, match="A file with this name already exists"):
        driver.create("RepositoryFile", **file_of(project, filePath="README.md"))
    _, state = driver.create("RepositoryFile", **file_of(project, filePath="README.md", overwriteOnCreate=True))
    assert state["content"] == "é\n"


def test_files_that_are_written_concurrently_all_exist(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = create_project(driver, defaultBranch="main")

    def write(number: int) -> None:
        driver.create("RepositoryFile", **file_of(project, filePath=f"file-{number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    names = {entry["name"] for entry in instance.request("GET", f"/projects/{project}/repository/tree")}
    assert names == {"README.md", *(f"file-{number}" for number in range(8))}


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"commitMessage": None}, "commitMessage"),
        ({"createCommitMessage": "Make it"}, "commitMessage"),
        ({"filePath": "/a"}, "filePath"),
        ({"encoding": "utf-8"}, "encoding"),
    ],
)
def test_an_invalid_file_is_refused_before_the_api_is_called(
    driver: ResourceDriver, inputs: Properties, path: str
) -> None:
    assert [failure.path for failure in driver.failures("RepositoryFile", file_of("1", **inputs))] == [path]


def test_mails_about_pipelines_settle_and_change_in_place(instance: Instance, driver: ResourceDriver) -> None:
    project, _ = create_project(driver)
    recipients = ["b@example.com", "a@example.com"]
    identifier, state = driver.create("ProjectIntegrationPipelinesEmail", project=project, recipients=recipients)
    assert identifier == project
    assert (state["branchesToBeNotified"], state["notifyOnlyBrokenPipelines"]) == ("default", True)
    assert_settled(driver, "ProjectIntegrationPipelinesEmail", identifier, state)
    driver.update("ProjectIntegrationPipelinesEmail", identifier, state, recipients=["c@example.com"])
    there = f"/projects/{project}/integrations/pipelines-email"
    assert instance.request("GET", there)["properties"]["recipients"] == "c@example.com"
    driver.delete("ProjectIntegrationPipelinesEmail", identifier, state)
    assert instance.request("GET", there)["active"] is False
    # GitLab keeps it without its settings, and that is what the provider reads.
    found = driver.read("ProjectIntegrationPipelinesEmail", identifier, state)
    assert found is not None
    assert (found[1]["recipients"], found[1]["branchesToBeNotified"]) == ([], "")


def test_messages_to_slack_settle_and_keep_the_webhook_that_the_api_never_returns(
    instance: Instance, driver: ResourceDriver
) -> None:
    project, _ = create_project(driver)
    webhook = "https://hooks.slack.com/services/T0/B0/x"
    quiet = {"pushEvents": False, "issuesEvents": False, "pipelineEvents": True}
    identifier, state = driver.create(
        "IntegrationSlack", project=project, webhook=webhook, pipelineChannel="#team", **quiet
    )
    assert (state["webhook"], state["pushEvents"], state["noteEvents"]) == (webhook, False, True)
    assert_settled(driver, "IntegrationSlack", identifier, state)
    state = driver.update("IntegrationSlack", identifier, state, pipelineChannel=None, branchesToBeNotified="all")
    there = instance.request("GET", f"/projects/{project}/integrations/slack")
    assert not there["properties"].get("pipeline_channel")
    assert there["properties"]["branches_to_be_notified"] == "all"
    assert_settled(driver, "IntegrationSlack", identifier, state)
    driver.delete("IntegrationSlack", identifier, state)
    driver.delete("IntegrationSlack", identifier, state)


def test_users_are_found_by_their_exact_name_in_any_case(instance: Instance, driver: ResourceDriver) -> None:
    user, _ = instance.new_user("found-by-name")
    [found] = invoke(driver, "getUsers", username="Found-By-Name")["users"]
    assert (found["id"], found["username"], found["state"]) == (user, "found-by-name", "active")
    assert invoke(driver, "getUsers", username="found-by")["users"] == []
