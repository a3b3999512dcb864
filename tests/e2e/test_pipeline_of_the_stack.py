"""The stack's own pipeline, on the stack's own GitLab and runner, with the state in a Space: from branch to production.

The tests run in order and build on each other, as a team works: a merge request is previewed, refused, corrected,
merged, approved and applied, and at night somebody's change is noticed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gitlab
import pydo
import pytest
import yaml
from gitlab.v4.objects import Project, ProjectJob, ProjectMergeRequest, ProjectPipeline

from tests.e2e import job_image
from tests.e2e.control import Control
from tests.e2e.images import given_bucket
from tests.e2e.leaks import leaked, secret_values
from tests.e2e.stack import RUNNER, SANDBOX
from tests.e2e.test_plain_pulumi import publish
from tests.sandbox.layout import PUBLIC_NETWORK, WORKSTATION
from tools.clients import Docker, Outputs, run, try_run
from tools.environment import ROOT
from tools.pipelines import until

STACK, PATH = "production", "root/slipway"
#: A token of the account that may only read: the first row of the table of scopes.
READER = "dop_v1_reads-only"
PASSWORD = "a-password-of-a-person-4711"  # noqa: S105 - of people who exist in this test alone


def reading_scopes() -> list[str]:
    """What the documentation says that a preview needs."""
    row = (ROOT / "docs/settings.md").read_text().partition("## Scopes of the API token")[2].partition("|---|---|\n")[2]
    return re.findall(r"`([a-z_]+:read)`", row.splitlines()[0])


class Team:
    """A checkout with one stack, its GitLab, and the people and jobs that work there."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def tools(self, *words: str) -> subprocess.CompletedProcess[str]:
        return try_run(
            sys.executable, "-m", "tools", *words, timeout=900, cwd=self.folder, environment=self.environment
        )

    def pulumi(self, *words: str) -> str:
        done = try_run(
            "pulumi", *words, "--non-interactive", timeout=900, cwd=self.folder, environment=self.environment
        )
        return succeeded(done)

    def git(self, *words: str) -> str:
        git = ["git", "-c", "user.name=Operations", "-c", "user.email=ops@example.com", *words]
        return subprocess.run(git, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def outputs(self) -> Outputs:
        return Outputs(json.loads(self.pulumi("stack", "output", "--json", "--show-secrets", "--stack", STACK)))

    def project(self) -> Project:
        return self.outputs().gitlab().projects.get(PATH)

    def change(self, branch: str, **settings: Any) -> None:
        """Push a branch on which the stack file has other settings."""
        file = self.folder / "stacks" / f"Pulumi.{STACK}.yaml"
        content = yaml.safe_load(file.read_text())
        content["config"] |= {f"slipway:{key}": value for key, value in settings.items()}
        file.write_text(yaml.safe_dump(content))
        self.git("commit", "--quiet", "--all", "--message", f"Change {', '.join(settings)}")
        self.git("push", "--quiet", "gitlab", f"HEAD:{branch}")


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, control: Control) -> Iterator[Team]:
    """The stack, deployed once from a workstation, and this repository in its GitLab."""
    with ExitStack() as stack:
        bucket = stack.enter_context(given_bucket())
        control.change_account(tokens={READER: reading_scopes()})
        made = Team(publish(tmp_path_factory.mktemp("slipway")), environment_of(bucket))
        (made.folder / ".cache").mkdir()
        (made.folder / ".cache" / "venv").symlink_to(ROOT / ".cache" / "venv")
        write_stack_file(made.folder)
        made.pulumi("stack", "init", STACK)
        made.git("commit", "--quiet", "--all", "--message", "Our environment")
        succeeded(made.tools("up", "--stack", STACK, "--yes"))
        outputs = made.outputs()
        remote = f"https://root:{outputs.api_token}@{outputs.host}/{PATH}.git"
        made.git("remote", "add", "gitlab", remote)
        # The project was created with a README.
        made.git("fetch", "--quiet", "gitlab", "main")
        made.git("merge", "--quiet", "--allow-unrelated-histories", "--strategy", "ours", "FETCH_HEAD")
        made.git("push", "--quiet", "gitlab", "HEAD:main")
        yield made
        made.pulumi("destroy", "--stack", STACK, "--yes", "--skip-preview")
        made.pulumi("stack", "rm", STACK, "--yes")
        control.change_account()


def environment_of(bucket: dict[str, str]) -> dict[str, str]:
    """What an operator has exported: the state's place, and two keys for it."""
    api = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])
    grants = [{"bucket": bucket["bucket"], "permission": "read"}]
    reader = api.spaces_key.create({"name": "reader", "grants": grants})["key"]
    return {
        "PULUMI_BACKEND_URL": f"s3://{bucket['bucket']}?endpoint={bucket['endpoint']}&region=fra1",
        "AWS_ACCESS_KEY_ID": bucket["accessKey"],
        "AWS_SECRET_ACCESS_KEY": bucket["secretKey"],
        "PREVIEW_AWS_ACCESS_KEY_ID": reader["access_key"],
        "PREVIEW_AWS_SECRET_ACCESS_KEY": reader["secret_key"],
        "PREVIEW_DIGITALOCEAN_TOKEN": READER,
    }


def write_stack_file(folder: Path) -> None:
    config = yaml.safe_load(SANDBOX.read_text())["config"]
    settings = {
        "domain": "operations.test",
        "adminCidrs": [f"{WORKSTATION.ip}/32", str(PUBLIC_NETWORK)],
        "registry": {"storage": "filesystem"},
        "backup": {"enabled": True},
        "projects": [{"path": "slipway", "sample": False, "pipeline": False, "runners": ["operations"]}],
        "runners": [{**RUNNER, "name": "operations", "builder": "buildah", "tags": ["slipway"], "untagged": False}],
    }
    config |= {f"slipway:{key}": value for key, value in settings.items()}
    (folder / "stacks" / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": config}))


def member(project: Project, name: str, level: int) -> gitlab.Gitlab:
    """A client of somebody with a role in the project."""
    client = project.manager.gitlab
    user = client.users.create(
        {
            "username": name,
            "name": name,
            "email": f"{name}@example.com",
            "password": PASSWORD,
            "skip_confirmation": True,
        }
    )
    project.members.create({"user_id": user.id, "access_level": level})
    expires = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 7 * 86400))
    token = user.personal_access_tokens.create({"name": "test", "scopes": ["api"], "expires_at": expires})
    return gitlab.Gitlab(client.url, private_token=token.token)


def ended(project: Project, pipeline_id: int, *states: str) -> ProjectPipeline:
    """Wait for a pipeline to end, or to wait for somebody."""
    wanted = states or ("success", "failed", "canceled", "skipped", "manual")

    def found() -> ProjectPipeline | None:
        one = project.pipelines.get(pipeline_id)
        return one if one.status in wanted else None

    return until(found, f"pipeline {pipeline_id} is {' or '.join(wanted)}", 300)


def pipeline_after(project: Project, before: int, **which: str) -> ProjectPipeline:
    """Wait for the next pipeline after one, and for its end."""

    def newest() -> int | None:
        found = project.pipelines.list(get_all=False, query_parameters={"per_page": "1", **which})
        return int(found[0].id) if found and found[0].id > before else None

    return ended(project, until(newest, f"a pipeline after {before}", 60))


def last_id(project: Project) -> int:
    found = project.pipelines.list(get_all=False, per_page=1)
    return int(found[0].id) if found else 0


def job_of(project: Project, pipeline: ProjectPipeline, name: str) -> ProjectJob:
    [found] = [job for job in pipeline.jobs.list(get_all=True) if job.name == name]
    return project.jobs.get(found.id)


def log_of(job: ProjectJob) -> str:
    return job.trace().decode(errors="replace")


def statuses(pipeline: ProjectPipeline) -> dict[str, str]:
    return {job.name: job.status for job in pipeline.jobs.list(get_all=True)}


def notes_of(request: ProjectMergeRequest) -> list[str]:
    return [note.body for note in request.notes.list(get_all=True) if not note.system]


def test_the_repository_runs_nothing_until_it_is_set_up(team: Team) -> None:
    project = team.project()
    assert project.pipelines.list(get_all=True) == []
    done = team.tools("pipeline", "--stack", STACK, "--project", f"{team.outputs().url}/{PATH}")
    output = succeeded(done)
    assert "`apply …` that wait can be started by: Maintainers" in output
    assert leaked(output, team.environment) == []
    found = {(one.key, one.environment_scope): one for one in project.variables.list(get_all=True)}
    for key in ("DIGITALOCEAN_TOKEN", "AWS_SECRET_ACCESS_KEY", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        assert found[key, STACK].protected
        assert not found[key, f"preview/{STACK}"].protected
    hidden = found["DIGITALOCEAN_TOKEN", STACK].attributes
    assert (hidden["hidden"], hidden["value"]) == (True, None)
    [schedule] = project.pipelineschedules.list(get_all=True)
    assert (schedule.ref, schedule.active) == ("refs/heads/main", True)
    with Docker.session() as docker:
        image = f"{team.outputs().registry}/{PATH}/tools:1"
        job_image.build(image)
        docker.login(team.outputs().registry, team.outputs().user, team.outputs().password)
        docker.push(image)
        run("docker", "rmi", "--force", image)
    project.variables.create({"key": "JOB_IMAGE", "value": image})


def nightly(project: Project) -> tuple[str, str]:
    """Run the nightly check now; its status and its log."""
    before = last_id(project)
    [schedule] = project.pipelineschedules.list(get_all=True)
    project.pipelineschedules.get(schedule.id).play()
    pipeline = pipeline_after(project, before, source="schedule")
    return pipeline.status, log_of(job_of(project, pipeline, f"nightly {STACK}"))


def test_the_nightly_check_fails_for_a_change_and_for_a_missing_backup_and_passes_without(team: Team) -> None:
    project = team.project()
    project.shared_runners_enabled = True
    project.save()
    status, log = nightly(project)
    assert status == "failed"
    assert re.search(r"^ +.*shared.*runners", log, re.MULTILINE | re.IGNORECASE), log
    assert "there is no complete backup" in log
    project.shared_runners_enabled = False
    project.save()
    succeeded(team.tools("backup", "--stack", STACK))
    status, log = nightly(project)
    assert status == "success", log


@pytest.fixture(scope="module")
def request_iid(team: Team) -> int:
    """A merge request that describes the project."""
    project, before = team.project(), last_id(team.project())
    entry = {"path": "slipway", "sample": False, "pipeline": False, "runners": ["operations"], "description": "Ours"}
    team.git("checkout", "--quiet", "-b", "topic")
    team.change("topic", projects=[entry])
    made = project.mergerequests.create({"source_branch": "topic", "target_branch": "main", "title": "Say whose it is"})
    pipeline_after(project, before, source="merge_request_event")
    return int(made.iid)


def test_a_merge_request_gets_the_plan_as_a_comment(team: Team, request_iid: int) -> None:
    project = team.project()
    request = project.mergerequests.get(request_iid)
    pipeline = project.pipelines.get(last_id(project))
    assert statuses(pipeline) == {f"preview {STACK}": "success"}, log_of(job_of(project, pipeline, f"preview {STACK}"))
    [note] = notes_of(request)
    assert f"### {STACK}: 1 to update\n" in note
    assert team.git("rev-parse", "topic") in note
    assert '"Ours"' in note
    assert "[advisory]  signing-keys-are-pinned" in note


def test_a_second_push_rewrites_the_comment_and_a_refused_preview_says_why(team: Team, request_iid: int) -> None:
    project, before = team.project(), last_id(team.project())
    team.change("topic", removal="nothing")
    pipeline = pipeline_after(project, before, source="merge_request_event")
    assert statuses(pipeline) == {f"preview {STACK}": "failed"}
    [note] = notes_of(project.mergerequests.get(request_iid))
    assert f"### {STACK}: refused\n" in note
    assert "removal" in note
    before = last_id(project)
    team.change("topic", removal="everything")
    assert pipeline_after(project, before, source="merge_request_event").status == "success"
    [note] = notes_of(project.mergerequests.get(request_iid))
    assert f"### {STACK}: 1 to update\n" in note


def test_a_merge_waits_for_somebody_who_may_approve_it_and_applies_the_plan(team: Team, request_iid: int) -> None:
    project, before = team.project(), last_id(team.project())
    developer, maintainer = member(project, "dev", 30), member(project, "lead", 40)
    project.mergerequests.get(request_iid).merge()
    pipeline = pipeline_after(project, before, ref="main")
    assert statuses(pipeline)[f"apply {STACK}"] == "manual"
    assert project.description != "Ours"
    job = job_of(project, pipeline, f"apply {STACK}")
    with pytest.raises(gitlab.GitlabError) as caught:
        developer.projects.get(project.id).jobs.get(job.id).play()
    assert caught.value.response_code in {401, 403}
    plan = job_of(project, pipeline, f"plan {STACK}")
    with pytest.raises(gitlab.GitlabError):
        developer.projects.get(project.id).jobs.get(plan.id).artifacts()
    maintainer.projects.get(project.id).jobs.get(job.id).play()
    done = ended(project, pipeline.id, "success", "failed")
    assert set(statuses(done).values()) == {"success"}, log_of(job_of(project, done, f"apply {STACK}"))
    assert team.project().description == "Ours"


def test_a_plan_that_is_outdated_changes_nothing(team: Team) -> None:
    project = team.project()
    pipeline = ended(project, project.pipelines.create({"ref": "main"}).id)
    assert statuses(pipeline)[f"apply {STACK}"] == "manual"
    # Somebody else updates the stack meanwhile.
    team.pulumi("refresh", "--stack", STACK, "--yes", "--skip-preview", "--target", "**::admin-key*")
    job = job_of(project, pipeline, f"apply {STACK}")
    job.play()
    done = ended(project, pipeline.id, "success", "failed")
    assert statuses(done)[f"apply {STACK}"] == "failed"
    assert f"{STACK} was changed after this plan was made" in log_of(project.jobs.get(job.id))


def test_no_secret_is_in_a_log_or_a_comment(team: Team, request_iid: int) -> None:
    project = team.project()
    values = secret_values(team.outputs()) | {
        name: value for name, value in team.environment.items() if name != "PULUMI_BACKEND_URL"
    }
    values["API token"] = os.environ["DIGITALOCEAN_TOKEN"]
    values["passphrase"] = Path(os.environ["PULUMI_CONFIG_PASSPHRASE_FILE"]).read_text().strip()
    jobs = project.jobs.list(get_all=True)
    assert len(jobs) > 8
    for job in jobs:
        assert leaked(log_of(project.jobs.get(job.id)), values) == [], job.name
    for note in notes_of(project.mergerequests.get(request_iid)):
        assert leaked(note, values) == []
