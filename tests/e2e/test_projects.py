"""Several projects on one stack: the administrator's, a group's and an imported one, with own and shared runners.

The tests run in order and build on each other: each leaves the projects in the state that the next one needs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gitlab.v4.objects import Project, ProjectJob

from tests.e2e.control import Control
from tests.e2e.leaks import leaked
from tests.e2e.ports import PortSampler
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools.clients import Outputs
from tools.pipelines import pipeline_of

SHARED: dict[str, Any] = {**RUNNER, "name": "shared"}
OWN: dict[str, Any] = {**SHARED, "name": "own", "tags": ["own"], "untagged": False}
SECRET = "pa$$word-of-the-database"  # noqa: S105 - made up
GUARDED = "for-protected-branches"
#: What a shell, YAML or GitLab could expand or unquote.
ODD = """it's "$HOME" ${CI_JOB_ID} $$ `id` \\n %d %PATH%"""
SHOW = """
show:
  image: docker:cli
  script:
    - echo "secret is $DATABASE_PASSWORD."
    - echo "length is ${#DATABASE_PASSWORD}."
    - echo "guarded is ${GUARDED:-absent}."
    - printf %s "$ODD" | sha256sum
"""
BY_HAND = "job: {image: 'docker:cli', tags: [own], script: [echo by hand]}\n"


def plain(path: str, *runners: str, **more: Any) -> dict[str, Any]:
    """Settings of a project to which the stack adds neither sample nor pipeline."""
    return {"path": path, "sample": False, "pipeline": False, "runners": list(runners), **more}


GROUPED = plain("grouped", "shared", group="Team/apps", visibility="internal", keepImages=25)


def variables(guarded: str) -> dict[str, Any]:
    """Variables that are no secrets, and so are in plain text in the stack file."""
    return {
        "GUARDED": {"value": guarded, "masked": False, "protected": True},
        "ODD": {"value": ODD, "masked": False},
    }


def first(**more: Any) -> dict[str, Any]:
    """Settings of the administrator's project; `configure` adds its secret variable."""
    return plain("first", "shared", **{"variables": variables(GUARDED), **more})


def configure(stack: Stack, *projects: dict[str, Any], runners: list[dict[str, Any]]) -> None:
    """Set projects and runners; the first project gets its secret variable if it has variables."""
    stack.set(projects=list(projects), runners=runners)
    if "variables" in projects[0]:
        stack.set_secret("projects[0].variables.DATABASE_PASSWORD.value", SECRET)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with one project, one runner and images on the server; destroyed at the end."""
    made = Stack.create(
        "projects",
        tmp_path_factory.mktemp("projects"),
        SANDBOX,
        domain="projects.test",
        registry={"storage": "filesystem"},
        projects=[plain("first", "shared")],
        runners=[SHARED],
    )
    yield made
    made.remove()


@pytest.fixture(scope="module")
def by_hand(stack: Stack) -> Project:
    """A project that people created and set up, with files and a job that is waiting for a runner."""
    gitlab = stack.outputs().gitlab()
    policy = {"enabled": True, "keep_n": 50, "older_than": "90d", "name_regex": ".*", "name_regex_keep": "v.*"}
    values = {
        "name": "Made by Hand",
        "path": "Made_by.hand",
        "description": "From before",
        "visibility": "internal",
        "default_branch": "master",
        "merge_method": "ff",
        "topics": ["legacy"],
        "container_expiration_policy_attributes": policy,
    }
    project = gitlab.projects.create(values)
    files = {"README.md": "# By hand\n", ".gitlab-ci.yml": BY_HAND}
    actions = [{"action": "create", "file_path": path, "content": content} for path, content in files.items()]
    project.commits.create({"branch": "master", "commit_message": "Initial commit", "actions": actions})
    return gitlab.projects.get(project.id)


def project_of(outputs: Outputs, path: str) -> Project:
    """Look up a project by its full path."""
    return outputs.gitlab().projects.get(path)


def ended_job(project: Project, sha: str) -> ProjectJob:
    """Wait for the only job of a commit's pipeline to end."""
    [job] = pipeline_of(project, sha).jobs.list(get_all=True)
    return project.jobs.get(job.id)


def run_show_job(project: Project, branch: str) -> ProjectJob:
    """Commit a job that prints variables to a branch, and wait for it to end."""
    known = {entry["path"] for entry in project.repository_tree(get_all=True)}
    action = {
        "action": "update" if ".gitlab-ci.yml" in known else "create",
        "file_path": ".gitlab-ci.yml",
        "content": f"# {branch}\n{SHOW}",
    }
    start = {} if branch == project.default_branch else {"start_branch": project.default_branch}
    made = project.commits.create({"branch": branch, "commit_message": "Show", "actions": [action], **start})
    return ended_job(project, str(made.id))


def test_gitlab_is_unreachable_until_sign_up_is_disabled(stack: Stack) -> None:
    ports = PortSampler("gitlab.projects.test", (80, 443, 5555))
    with ports.running():
        stack.up()
    # Port 80 opens first, on its own: Let's Encrypt needs it for its challenge.
    assert ports.opened[0] == {80}
    assert set().union(*ports.opened) == {80, 443, 5555}
    assert ports.sign_up == (302, "https://gitlab.projects.test/users/sign_in")
    assert stack.outputs().gitlab().settings.get().signup_enabled is False


def test_preview_reports_all_errors_in_projects_and_runners_at_once(stack: Stack, control: Control) -> None:
    before = len(control.requests())
    stack.set(
        projects=[plain("first", "nobody"), plain("first", importId="x"), plain("third", group="root")],
        runners=[SHARED, OWN],
    )
    done = stack.attempt("preview")
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "6 errors in the configuration; nothing was changed." in output
    assert "projects[1].importId: is not a project ID" in output
    assert "projects[1].path: first is also the path of projects[0]" in output
    assert "Traceback" not in output
    assert control.writes_since(before) == []


@pytest.mark.parametrize(
    ("project", "message"),
    [
        (plain("other", group="nosuch"), "GitLab has no group nosuch; the project cannot be created in it"),
        (plain("other", importId="4711"), "resource '4711' does not exist"),
    ],
    ids=["group", "importId"],
)
def test_preview_reports_a_group_or_project_that_gitlab_does_not_have_in_one_line(
    stack: Stack, project: dict[str, Any], message: str
) -> None:
    configure(stack, plain("first", "shared"), project, runners=[SHARED])
    done = stack.attempt("preview")
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert message in output
    assert "Traceback" not in output


def test_one_up_creates_own_grouped_and_imported_projects(stack: Stack, by_hand: Project) -> None:
    groups = stack.outputs().gitlab().groups
    parent = groups.create({"name": "Team", "path": "team", "visibility": "internal"})
    # One that exists, and one of the stack in it.
    stack.set(groups=[{"path": "team/apps", "name": "Apps", "visibility": "internal"}])
    imported = {"path": "by-hand", "importId": str(by_hand.id), "runners": ["own"]}
    configure(stack, first(), GROUPED, imported, runners=[SHARED, OWN])
    steps = {step["op"] for step in stack.preview()["steps"] if step["urn"].endswith("::delivery-by-hand-project")}
    assert steps == {"import"}
    stack.up()
    outputs = stack.outputs()
    paths = [project["url"].removeprefix(f"{outputs.url}/") for project in outputs.projects]
    assert paths == ["root/first", "team/apps/grouped", "root/Made_by.hand"]
    grouped = project_of(outputs, "team/apps/grouped")
    assert groups.get(grouped.namespace["id"]).parent_id == parent.id
    assert (grouped.visibility, grouped.container_registry_access_level) == ("internal", "enabled")
    assert (grouped.container_expiration_policy["keep_n"], grouped.container_expiration_policy["enabled"]) == (25, True)
    assert project_of(outputs, "root/first").visibility == "private"


def test_an_imported_project_loses_nothing_and_its_waiting_job_runs(stack: Stack, by_hand: Project) -> None:
    project = project_of(stack.outputs(), "root/Made_by.hand")
    assert project.id == by_hand.id
    volatile = {"last_activity_at", "updated_at"}
    changed = {key for key, value in project.attributes.items() if value != by_hand.attributes.get(key)}
    assert changed <= volatile
    assert (project.default_branch, project.container_expiration_policy["keep_n"]) == ("master", 50)
    [protected] = project.protectedbranches.list(get_all=True)
    assert (protected.name, protected.allow_force_push) == ("master", False)
    assert {entry["path"] for entry in project.repository_tree(get_all=True)} == {"README.md", ".gitlab-ci.yml"}
    assert project.files.raw(file_path=".gitlab-ci.yml", ref="master").decode() == BY_HAND
    [commit] = project.commits.list(get_all=True)
    job = ended_job(project, str(commit.id))
    assert (job.status, job.runner["description"]) == ("success", "own")


def test_a_second_up_and_a_refresh_of_all_projects_change_nothing(stack: Stack, control: Control) -> None:
    before = len(control.requests())
    stack.up("--expect-no-changes")
    stack.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    assert control.writes_since(before) == []


def test_a_secret_setting_is_in_plain_text_in_neither_state_nor_stack_file(stack: Stack) -> None:
    state = stack.run("stack", "export", settings_file=False)
    assert "delivery-first-variable-DATABASE_PASSWORD" in state
    assert leaked(state + Path(stack.file).read_text(), {"password": SECRET}) == []


def test_a_shared_runner_runs_the_jobs_of_both_its_projects(stack: Stack) -> None:
    outputs = stack.outputs()
    projects = [project_of(outputs, path) for path in ("root/first", "team/apps/grouped")]
    jobs = [run_show_job(project, "main") for project in projects]
    assert [(job.status, job.runner["description"]) for job in jobs] == [("success", "shared")] * 2
    known = {one.description: outputs.gitlab().runners.get(one.id) for one in outputs.gitlab().runners.list()}
    assert {one["id"] for one in known["shared"].projects} == {project.id for project in projects}
    assert (known["shared"].locked, known["own"].locked) == (False, True)


def test_logs_hide_a_masked_variable_and_an_unprotected_branch_lacks_a_protected_one(stack: Stack) -> None:
    project = project_of(stack.outputs(), "root/first")
    protected = ended_job(project, str(project.commits.list(per_page=1, get_all=False)[0].id))
    free = run_show_job(project, "topic")
    logs = [job.trace().decode() for job in (protected, free)]
    for log in logs:
        assert "secret is [MASKED]." in log
        assert f"length is {len(SECRET)}." in log
        assert hashlib.sha256(ODD.encode()).hexdigest() in log
        assert SECRET not in log
    assert f"guarded is {GUARDED}." in logs[0]
    assert "guarded is absent." in logs[1]


def test_changing_a_setting_of_one_project_updates_one_resource(stack: Stack, by_hand: Project) -> None:
    imported = {"path": "by-hand", "importId": str(by_hand.id), "runners": ["own"]}
    changed = {"description": "The first", "visibility": "public", "keepImages": 5}
    configure(stack, first(**changed), GROUPED, imported, runners=[SHARED, OWN])
    assert stack.changes() == {"delivery-first-project": "update"}
    configure(stack, first(**changed, variables=variables("another")), GROUPED, imported, runners=[SHARED, OWN])
    assert stack.changes() == {"delivery-first-project": "update", "delivery-first-variable-GUARDED": "update"}
    stack.up()
    project = project_of(stack.outputs(), "root/first")
    assert (project.description, project.visibility) == ("The first", "public")
    assert project.container_expiration_policy["keep_n"] == 5
    assert project.variables.get("GUARDED").value == "another"

    before = stack.outputs()
    configure(stack, first(**changed, group="nosuch"), GROUPED, imported, runners=[SHARED, OWN])
    done = stack.attempt("up", "--yes", "--skip-preview")
    assert done.returncode != 0
    # Both are asked at once, and the first answer ends the update.
    assert re.search("cannot move to nosuch|has no group nosuch", done.stdout)
    assert re.findall(r"^ +- (?:deployed|gitlab_url) ", done.stdout, re.MULTILINE) == [], "outputs shown as removed"
    assert stack.outputs() == before


def test_removing_a_project_leaves_the_others_alone_and_hands_its_runner_on(stack: Stack, by_hand: Project) -> None:
    imported = {"path": "by-hand", "importId": str(by_hand.id), "runners": ["own"]}
    configure(stack, GROUPED, imported, runners=[SHARED, OWN])
    changes = stack.changes()
    gone = {name for name, operation in changes.items() if operation in {"delete", "delete-replaced"}}
    assert {name for name in changes if name.startswith("delivery-first")} <= gone
    rest = {name for name in changes if not name.startswith("delivery-first")}
    assert {"delivery-shared-registration", "delivery-shared-1-registration", "delivery-shared-online"} <= rest
    # Besides the runner, only the list of tokens that are looked after is another one.
    assert all(name.startswith(("delivery-shared-", "delivery-deploy-tokens")) for name in rest), rest
    assert not any(name.endswith("-droplet") for name in rest), rest
    stack.up()
    outputs = stack.outputs()
    assert [one.path for one in outputs.gitlab().projects.list(search="first") if not one.marked_for_deletion_on] == []
    job = run_show_job(project_of(outputs, "team/apps/grouped"), "after")
    assert (job.status, job.runner["description"]) == ("success", "shared")
    assert outputs.gitlab().runners.get(job.runner["id"]).locked is True


def test_removing_an_imported_project_keeps_it_in_gitlab_without_the_objects_of_the_stack(
    stack: Stack, by_hand: Project
) -> None:
    assert len(project_of(stack.outputs(), "root/Made_by.hand").deploytokens.list(get_all=True)) == 1
    configure(stack, GROUPED, runners=[SHARED])
    stack.up()
    outputs = stack.outputs()
    project = project_of(outputs, "root/Made_by.hand")
    assert (project.id, project.name, project.marked_for_deletion_on) == (by_hand.id, "Made by Hand", None)
    assert project.files.raw(file_path="README.md", ref="master").decode() == "# By hand\n"
    assert [branch.name for branch in project.protectedbranches.list(get_all=True)] == ["master"]
    assert project.deploytokens.list(get_all=True) == []
    assert [one.description for one in outputs.gitlab().runners.list(get_all=True)] == ["shared"]


def test_destroy_leaves_nothing_of_the_projects_stack(stack: Stack, control: Control) -> None:
    stack.run("destroy", "--yes", "--skip-preview")
    assert "slipway-projects" not in str(control.resources())
