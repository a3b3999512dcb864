"""Several projects on one stack: of the administrator, of a group, adopted; with their own runner and a shared one.

The tests build on each other: each leaves the projects as the next one needs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gitlab.v4.objects import Project, ProjectJob

from tests.e2e.control import Control
from tests.e2e.leaks import found_in
from tests.e2e.ports import DoorWatch
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools.clients import Outputs
from tools.pipelines import pipeline_of

SHARED: dict[str, Any] = {**RUNNER, "name": "shared"}
OWN: dict[str, Any] = {**SHARED, "name": "own", "tags": ["own"], "untagged": False}
SECRET = "pa$$word-of-the-database"  # noqa: S105 - made up
GUARDED = "for-protected-branches"
SHOW = """
show:
  image: docker:cli
  script:
    - echo "secret is $DATABASE_PASSWORD."
    - echo "length is ${#DATABASE_PASSWORD}."
    - echo "guarded is ${GUARDED:-absent}."
"""
BY_HAND = "job: {image: 'docker:cli', tags: [own], script: [echo by hand]}\n"


def plain(path: str, *runners: str, **more: Any) -> dict[str, Any]:
    """A project without a sample and a pipeline of the stack."""
    return {"path": path, "sample": False, "pipeline": False, "runners": list(runners), **more}


GROUPED = plain("grouped", "shared", group="Team/apps", visibility="internal", keepImages=25)


def first(**more: Any) -> dict[str, Any]:
    """The project of the administrator, whose secret is set with `arrange`."""
    variables = {"GUARDED": {"value": GUARDED, "masked": False, "protected": True}}
    return plain("first", "shared", **{"variables": variables, **more})


def arrange(stack: Stack, *projects: dict[str, Any], runners: list[dict[str, Any]]) -> None:
    """These projects and runners, the first of them with its secret where it has variables."""
    stack.set(projects=list(projects), runners=runners)
    if "variables" in projects[0]:
        stack.set_secret("projects[0].variables.DATABASE_PASSWORD.value", SECRET)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """GitLab with one project and one runner, and images on the server; destroyed at the end."""
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
    """A project that somebody has made before, with files and a pipeline that waits for a runner."""
    values = {"name": "Made by Hand", "path": "by-hand", "description": "From before", "visibility": "internal"}
    project = stack.outputs().gitlab().projects.create(values)
    files = {"README.md": "# By hand\n", ".gitlab-ci.yml": BY_HAND}
    actions = [{"action": "create", "file_path": path, "content": content} for path, content in files.items()]
    project.commits.create({"branch": "main", "commit_message": "Begin", "actions": actions})
    return project


def project_of(outputs: Outputs, path: str) -> Project:
    """A project by its full path."""
    return outputs.gitlab().projects.get(path)


def ended_job(project: Project, sha: str) -> ProjectJob:
    """The one job of a commit's pipeline, once it has ended."""
    [job] = pipeline_of(project, sha).jobs.list(get_all=True)
    return project.jobs.get(job.id)


def shown(project: Project, branch: str) -> ProjectJob:
    """The job that shows variables, committed to a branch and run there."""
    known = {entry["path"] for entry in project.repository_tree(get_all=True)}
    action = {
        "action": "update" if ".gitlab-ci.yml" in known else "create",
        "file_path": ".gitlab-ci.yml",
        "content": f"# {branch}\n{SHOW}",
    }
    begin = {} if branch == project.default_branch else {"start_branch": project.default_branch}
    made = project.commits.create({"branch": branch, "commit_message": "Show", "actions": [action], **begin})
    return ended_job(project, str(made.id))


def test_nobody_reaches_gitlab_before_sign_up_is_off(stack: Stack) -> None:
    watch = DoorWatch("gitlab.projects.test", (80, 443, 5555))
    with watch.running():
        stack.up()
    # Port 80 alone at first, where Let's Encrypt looks for its proof.
    assert watch.opened[0] == {80}
    assert set().union(*watch.opened) == {80, 443, 5555}
    assert watch.sign_up == (302, "https://gitlab.projects.test/users/sign_in")
    assert stack.outputs().gitlab().settings.get().signup_enabled is False


def test_mistakes_in_projects_and_runners_are_told_together_at_preview(stack: Stack, control: Control) -> None:
    before = len(control.requests())
    stack.set(
        projects=[plain("first", "nobody"), plain("first", importId="x"), plain("third", group="root")],
        runners=[SHARED, OWN],
    )
    done = stack.attempt("preview")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "projects[1].importId: is not a project ID" in said
    stack.set(projects=[plain("first", "nobody"), plain("first"), plain("third", group="root")])
    done = stack.attempt("preview")
    said = done.stdout + done.stderr
    assert "5 errors in the configuration; nothing was changed." in said
    assert "Traceback" not in said
    assert control.requests()[before:] == []


@pytest.mark.parametrize(
    ("project", "told"),
    [
        (plain("other", group="nosuch"), "There is no group nosuch in GitLab"),
        (plain("other", importId="4711"), "resource '4711' does not exist"),
    ],
    ids=["group", "importId"],
)
def test_what_only_gitlab_knows_is_told_at_preview_in_one_line(
    stack: Stack, project: dict[str, Any], told: str
) -> None:
    arrange(stack, plain("first", "shared"), project, runners=[SHARED])
    done = stack.attempt("preview")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert told in said
    assert "Traceback" not in said


def test_projects_come_in_all_their_forms_by_one_up(stack: Stack, by_hand: Project) -> None:
    groups = stack.outputs().gitlab().groups
    parent = groups.create({"name": "Team", "path": "team", "visibility": "internal"})
    groups.create({"name": "Apps", "path": "apps", "parent_id": parent.id, "visibility": "internal"})
    adopted = {"path": "by-hand", "importId": str(by_hand.id), "runners": ["own"]}
    arrange(stack, first(), GROUPED, adopted, runners=[SHARED, OWN])
    steps = {step["op"] for step in stack.preview()["steps"] if step["urn"].endswith("::delivery-by-hand-project")}
    assert steps == {"import", "update"}
    stack.up()
    outputs = stack.outputs()
    paths = [told["url"].removeprefix(f"{outputs.url}/") for told in outputs.projects]
    assert paths == ["root/first", "team/apps/grouped", "root/by-hand"]
    grouped = project_of(outputs, "team/apps/grouped")
    assert (grouped.visibility, grouped.container_registry_access_level) == ("internal", "enabled")
    assert (grouped.container_expiration_policy["keep_n"], grouped.container_expiration_policy["enabled"]) == (25, True)
    assert project_of(outputs, "root/first").visibility == "private"


def test_an_adopted_project_has_lost_nothing_and_its_job_that_waited_is_done(stack: Stack, by_hand: Project) -> None:
    project = project_of(stack.outputs(), "root/by-hand")
    assert project.id == by_hand.id
    assert (project.name, project.description, project.visibility) == ("Made by Hand", "From before", "internal")
    assert {entry["path"] for entry in project.repository_tree(get_all=True)} == {"README.md", ".gitlab-ci.yml"}
    assert project.files.raw(file_path=".gitlab-ci.yml", ref="main").decode() == BY_HAND
    assert project.shared_runners_enabled is False
    [commit] = project.commits.list(get_all=True)
    job = ended_job(project, str(commit.id))
    assert (job.status, job.runner["description"]) == ("success", "own")


def test_a_second_up_of_all_projects_changes_nothing(stack: Stack, control: Control) -> None:
    before = len(control.requests())
    stack.up("--expect-no-changes")
    stack.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    assert control.writes_since(before) == []


def test_a_secret_of_the_stack_file_is_in_plain_text_nowhere(stack: Stack) -> None:
    state = stack.run("stack", "export", settings_file=False)
    assert "delivery-first-variable-DATABASE_PASSWORD" in state
    assert found_in(state + Path(stack.file).read_text(), {"password": SECRET}) == []


def test_both_projects_that_share_a_runner_have_their_jobs_done_by_it(stack: Stack) -> None:
    outputs = stack.outputs()
    projects = [project_of(outputs, path) for path in ("root/first", "team/apps/grouped")]
    jobs = [shown(project, "main") for project in projects]
    assert [(job.status, job.runner["description"]) for job in jobs] == [("success", "shared")] * 2
    known = {one.description: outputs.gitlab().runners.get(one.id) for one in outputs.gitlab().runners.list()}
    assert {one["id"] for one in known["shared"].projects} == {project.id for project in projects}
    assert (known["shared"].locked, known["own"].locked) == (False, True)


def test_a_masked_value_is_not_in_the_log_and_a_protected_one_not_on_an_unprotected_branch(stack: Stack) -> None:
    project = project_of(stack.outputs(), "root/first")
    protected = ended_job(project, str(project.commits.list(per_page=1, get_all=False)[0].id))
    free = shown(project, "topic")
    logs = [job.trace().decode() for job in (protected, free)]
    for log in logs:
        assert "secret is [MASKED]." in log
        assert f"length is {len(SECRET)}." in log
        assert SECRET not in log
    assert f"guarded is {GUARDED}." in logs[0]
    assert "guarded is absent." in logs[1]


def test_a_setting_of_one_project_is_an_update_of_one_node(stack: Stack, by_hand: Project) -> None:
    adopted = {"path": "by-hand", "importId": str(by_hand.id), "runners": ["own"]}
    changed = {"description": "The first", "visibility": "public", "keepImages": 5}
    arrange(stack, first(**changed), GROUPED, adopted, runners=[SHARED, OWN])
    assert stack.changes() == {"delivery-first-project": "update"}
    variables = {"GUARDED": {"value": "another", "masked": False, "protected": True}}
    arrange(stack, first(**changed, variables=variables), GROUPED, adopted, runners=[SHARED, OWN])
    assert stack.changes() == {"delivery-first-project": "update", "delivery-first-variable-GUARDED": "update"}
    stack.up()
    project = project_of(stack.outputs(), "root/first")
    assert (project.description, project.visibility) == ("The first", "public")
    assert project.container_expiration_policy["keep_n"] == 5
    assert project.variables.get("GUARDED").value == "another"


def test_a_project_that_leaves_takes_nothing_of_others_and_its_runner_goes_to_the_next(
    stack: Stack, by_hand: Project
) -> None:
    adopted = {"path": "by-hand", "importId": str(by_hand.id), "runners": ["own"]}
    arrange(stack, GROUPED, adopted, runners=[SHARED, OWN])
    changes = stack.changes()
    gone = {name for name, operation in changes.items() if operation == "delete"}
    assert gone == {name for name in changes if name.startswith("delivery-first")} | {"delivery-shared-project-grouped"}
    assert {name for name in changes if name not in gone} == {
        "delivery-shared-registration",
        "delivery-shared-1-registration",
        "delivery-shared-online",
    }
    stack.up()
    outputs = stack.outputs()
    assert [one.path for one in outputs.gitlab().projects.list(search="first") if not one.marked_for_deletion_on] == []
    job = shown(project_of(outputs, "team/apps/grouped"), "after")
    assert (job.status, job.runner["description"]) == ("success", "shared")
    assert outputs.gitlab().runners.get(job.runner["id"]).locked is True


def test_an_adopted_project_that_leaves_stays_in_gitlab_without_what_the_stack_gave_it(
    stack: Stack, by_hand: Project
) -> None:
    assert len(project_of(stack.outputs(), "root/by-hand").deploytokens.list(get_all=True)) == 1
    arrange(stack, GROUPED, runners=[SHARED])
    stack.up()
    outputs = stack.outputs()
    project = project_of(outputs, "root/by-hand")
    assert (project.id, project.name, project.marked_for_deletion_on) == (by_hand.id, "Made by Hand", None)
    assert project.files.raw(file_path="README.md", ref="main").decode() == "# By hand\n"
    assert [branch.name for branch in project.protectedbranches.list(get_all=True)] == ["main"]
    assert project.deploytokens.list(get_all=True) == []
    assert [one.description for one in outputs.gitlab().runners.list(get_all=True)] == ["shared"]


def test_destroy_leaves_nothing_of_the_projects_stack(stack: Stack, control: Control) -> None:
    stack.run("destroy", "--yes", "--skip-preview")
    assert "slipway-projects" not in str(control.resources())
