"""From a push to a released image, on one stack with one project and one runner.

The tests run in order and build on each other: each leaves the project in the state that the next one needs.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gitlab
import pytest
import yaml
from gitlab.v4.objects import Project

from components import versions
from components.build_pipeline import pipeline_of as pipeline_text
from components.settings import Builder, ProjectSettings, SupplyChain
from tests.e2e.control import Control
from tests.e2e.creation_order import CreationOrder
from tests.e2e.hosts import Host
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools import verify
from tools.bench import WALKTHROUGH
from tools.clients import Docker, Outputs, run, temporary_project, try_run
from tools.environment import ROOT
from tools.pipelines import commit, image_tested, jobs_of, latest, pipeline_of, project_of

FILES = Path(__file__).parent / "files"
#: A repository with two images: one for two platforms and without a shell, and one that is a stage of its Dockerfile.
MONOREPO: dict[str, Any] = {
    "path": "hello",
    "sample": False,
    "images": [
        {
            "name": "api",
            "context": "api",
            "args": {"VERSION": "v-$CI_COMMIT_SHORT_SHA"},
            "secrets": ["LICENCE"],
            "platforms": ["linux/amd64", "linux/arm64"],
            "test": {"target": "build", "script": ["grep 'v-.* for amd64' /version", "test ! -e /run/secrets/LICENCE"]},
        },
        {
            "name": "web",
            "dockerfile": "web/Dockerfile",
            "target": "runtime",
            "test": {"script": ["cd /srv", "grep -x web index"]},
        },
    ],
}


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a project and its runner; destroyed at the end."""
    made = Stack.create(
        "delivery",
        tmp_path_factory.mktemp("delivery"),
        SANDBOX,
        domain="delivery.test",
    )
    yield made
    made.remove()


def event_log(stack: Stack) -> Path:
    """Where the engine logs the first update of a stack."""
    return stack.file.with_name("events.json")


def test_after_up_the_pipeline_is_green_and_the_released_image_greets(
    delivery: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without it the engine has no --event-log.
    monkeypatch.setenv("PULUMI_DEBUG_COMMANDS", "true")
    delivery.up("--event-log", str(event_log(delivery)))
    results = {one.name: one for one in verify.measure(delivery.outputs())}
    assert {"Pipeline", "Released"} <= results.keys()
    assert [f"{one.name}: {one.measured}" for one in results.values() if not one.holds] == []


def test_every_resource_starts_as_soon_as_it_has_what_it_needs(delivery: Stack) -> None:
    order = CreationOrder.read(event_log(delivery), delivery.resources())
    assert {"delivery-docker-builder-1-droplet", "gitlab-configuration"} <= order.names()
    assert order.too_early() == {}
    assert order.too_late() == {}


def test_the_runner_is_locked_to_its_project_described_and_online(delivery: Stack) -> None:
    outputs = delivery.outputs()
    [listed] = project_of(outputs).runners.list(type="project_type", get_all=True)
    runner = outputs.gitlab().runners.get(listed.id)
    assert (runner.description, runner.locked, runner.status) == ("docker-builder", True, "online")
    assert project_of(outputs).shared_runners_enabled is False


def test_the_logs_of_every_part_are_read_where_they_are(delivery: Stack) -> None:
    def logs(part: str) -> str:
        words = ("-m", "tools", "logs", part, "--stack", delivery.name, "--lines", "500")
        done = try_run(sys.executable, *words, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    job, runner, registry, gitlab_ = (logs(part) for part in ("job", "runner", "registry", "gitlab"))
    assert job.startswith("root/hello: job ")
    assert "Job succeeded" in job.splitlines()
    assert "delivery-docker-builder-1" in runner
    assert "Job succeeded" in runner
    assert "/v2/root/hello/" in registry
    assert "/api/v4/jobs/request" in gitlab_
    assert "==> /var/log/gitlab/puma/current <==" in gitlab_


def test_a_second_up_and_a_refresh_of_project_and_runner_change_nothing(delivery: Stack, control: Control) -> None:
    before = len(control.requests())
    delivery.up("--expect-no-changes")
    delivery.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    assert control.writes_since(before) == []


def test_a_failing_test_blocks_the_release_and_a_fix_is_released_without_docker_hub(
    delivery: Stack, control: Control
) -> None:
    outputs = delivery.outputs()
    machine = Host.of(delivery, "delivery-docker-builder-1")
    # From here on, Docker Hub refuses every pull.
    control.limit_pulls(0)
    project, released = project_of(outputs), latest(outputs)
    source = base64.b64decode(project.files.get("greeting.js", ref="main").content).decode()

    broken = pipeline_of(project, commit(project, "main", "greeting.js", source.replace("Hello, ", "Good-bye, ")))
    assert broken.status == "failed"
    assert jobs_of(broken) == {"build": "success", "test": "failed", "release": "skipped"}
    assert latest(outputs) == released

    fixed = pipeline_of(project, commit(project, "main", "greeting.js", f"// Greets.\n{source}"))
    assert jobs_of(fixed) == {"build": "success", "test": "success", "release": "success"}
    assert f"{outputs.projects[0]['image']}@{latest(outputs)}" == image_tested(project, fixed)

    # The machine asks Docker Hub whether tags have moved, and takes everything from its own cache.
    questions = [one for one in control.hub_requests() if one["source"] == machine.address]
    assert {one["repository"] for one in questions} == {"library/docker", "library/node"}
    assert [one for one in control.taken_from_hub() if one["source"] == machine.address] == []
    control.limit_pulls()
    assert latest(outputs) != released


def test_a_push_to_another_branch_is_built_and_tested_but_not_released(delivery: Stack, tmp_path: Path) -> None:
    outputs = delivery.outputs()
    project, released = project_of(outputs), latest(outputs)
    # In a file, not in the address: command lines are public.
    credentials = tmp_path / "credentials"
    credentials.write_text(outputs.url.replace("https://", f"https://root:{outputs.password}@"))
    helper = ("-c", f"credential.helper=store --file={credentials}")
    run("git", *helper, "clone", "--quiet", f"{outputs.projects[0]['url']}.git", str(tmp_path / "hello"))
    (tmp_path / "hello" / "NOTES.md").write_text("On a branch.\n")
    author = ("-c", "user.name=Test", "-c", "user.email=test@example.test")
    git = ("git", "-C", str(tmp_path / "hello"), *helper, *author)
    run(*git, "checkout", "--quiet", "-b", "topic")
    run(*git, "add", "NOTES.md")
    run(*git, "commit", "--quiet", "--message", "Add notes")
    run(*git, "push", "--quiet", "origin", "topic")
    pipeline = pipeline_of(project, run(*git, "rev-parse", "HEAD").strip())
    assert jobs_of(pipeline) == {"build": "success", "test": "success"}
    assert latest(outputs) == released


def test_a_developer_cannot_replace_what_the_default_branch_releases(delivery: Stack) -> None:
    outputs = delivery.outputs()
    project, released = project_of(outputs), latest(outputs)
    client = gitlab.Gitlab(outputs.url, private_token=new_developer(outputs, project))
    developer = client.projects.get(project.id)
    developer.branches.create({"branch": "attack", "ref": "main"})
    text = yaml.safe_load(base64.b64decode(project.files.get(".gitlab-ci.yml", ref="main").content))
    push = 'docker buildx imagetools create --tag "$CI_REGISTRY_IMAGE:{}" "$CI_REGISTRY_IMAGE:topic"'
    # What developers may push, and what they may not.
    jobs = {tag: {"script": [push.format(tag)]} for tag in ("attack", "latest", "main")}
    text = {key: text[key] for key in ("default", "variables")} | jobs
    pipeline = pipeline_of(project, commit(developer, "attack", ".gitlab-ci.yml", yaml.safe_dump(text)))
    assert jobs_of(pipeline) == {"attack": "success", "latest": "failed", "main": "failed"}
    for job in pipeline.jobs.list(get_all=True):
        log = project.jobs.get(job.id).trace().decode()
        assert ("insufficient permissions to push or delete protected tag" in log) is (job.name != "attack")
    assert latest(outputs) == released


def new_developer(outputs: Outputs, project: Project) -> str:
    """Add the developer `dana` to a project; returns a token of hers."""
    user = outputs.gitlab().users.create({
        "username": "dana", "name": "Dana", "email": "dana@example.test", "password": secrets.token_urlsafe(20)
    })  # fmt: skip
    project.members.create({"user_id": user.id, "access_level": gitlab.const.AccessLevel.DEVELOPER})
    expires = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    made = user.personal_access_tokens.create({"name": "test", "scopes": ["api"], "expires_at": expires})
    return str(made.token)


def test_no_variable_that_docker_reads_replaces_the_jobs_own_engine_and_login(delivery: Stack) -> None:
    outputs = delivery.outputs()
    [described] = outputs.projects
    project = project_of(outputs)
    reader = base64.b64encode(f"{described['deploy_username']}:{described['deploy_token']}".encode()).decode()
    given = {
        # It may pull and not push, and Docker prefers it to a login.
        "DOCKER_AUTH_CONFIG": json.dumps(
            {"auths": {outputs.registry: {"auth": reader}, "r.example": {"auth": "YTpi"}}}
        ),
        "DOCKER_HOST": "tcp://docker:2375",
        "DOCKER_TLS_CERTDIR": "",
        "DOCKER_CONFIG": "/nonexistent",
        "DOCKER_API_VERSION": "1.39",
        "BUILDX_BUILDER": "none",
        "CI_REGISTRY_PASSWORD": "of-another-registry",
    }
    for key, value in given.items():
        project.variables.create({"key": key, "value": value})
    project.branches.create({"branch": "variables", "ref": "main"})
    script = [
        "docker version --format '{{.Client.Version}} {{.Server.Version}}'",
        "cat ~/.docker/config.json",
        # Under the digest that is tested: the image and what it was built from, which names no subject.
        "image=$(cat image.txt)",
        "docker buildx imagetools inspect --format '{{json .Provenance.SLSA.buildDefinition}}' $image",
        "docker buildx imagetools inspect --raw $image",
    ]
    text = yaml.safe_load(base64.b64decode(project.files.get(".gitlab-ci.yml", ref="main").content))
    text["test"]["script"] += script
    pipeline = pipeline_of(project, commit(project, "variables", ".gitlab-ci.yml", yaml.safe_dump(text)))
    for key in given:
        project.variables.delete(key)
    assert jobs_of(pipeline) == {"build": "success", "test": "success"}
    [test] = [job for job in pipeline.jobs.list(get_all=True) if job.name == "test"]
    log = project.jobs.get(test.id).trace().decode()
    assert f"{versions.DOCKER} {versions.DOCKER}" in log
    assert '"r.example"' in log, "credentials for other registries are kept"
    assert "/buildkit/" in log
    assert "application/vnd.oci.image.index.v1+json" in log
    assert "attestation-manifest" in log


def test_a_job_runs_in_the_image_that_an_earlier_job_pushed_under_the_same_tag(delivery: Stack) -> None:
    project = project_of(delivery.outputs())
    project.branches.create({"branch": "tools", "ref": "main"})
    text = yaml.safe_load(base64.b64decode(project.files.get(".gitlab-ci.yml", ref="main").content))
    tools = "$CI_REGISTRY_IMAGE/tools:latest"

    def push(content: str, stage: str) -> dict[str, Any]:
        build = f"printf 'FROM debian:13-slim\\nRUN echo {content} >/which\\n' | docker build --tag {tools} -"
        return {"stage": stage, "script": [build, f"docker push {tools}"]}

    def use(stage: str, policy: str, content: str) -> dict[str, Any]:
        image = {"name": tools, "pull_policy": policy} if policy else tools
        return {
            "stage": stage,
            "image": image,
            "services": [],
            "before_script": [],
            "script": [f"grep -x {content} /which"],
        }

    jobs = {
        "push-old": push("old", "1"),
        "use-old": use("2", "", "old"),
        "push-new": push("new", "3"),
        # The machine has the old image, which only a job that asks for it gets.
        "use-local": use("4", "if-not-present", "old"),
        "use-new": use("5", "always", "new"),
    }
    text = {key: text[key] for key in ("default", "variables")} | {"stages": ["1", "2", "3", "4", "5"]} | jobs
    pipeline = pipeline_of(project, commit(project, "tools", ".gitlab-ci.yml", yaml.safe_dump(text)))
    assert jobs_of(pipeline) == dict.fromkeys(jobs, "success")


def test_the_pipeline_of_the_walk_through_runs_unchanged(delivery: Stack) -> None:
    outputs = delivery.outputs()
    project = project_of(outputs)
    project.branches.create({"branch": "tutorial", "ref": "main"})
    text = WALKTHROUGH.read_text().replace("REGISTRY", outputs.registry)
    pipeline = pipeline_of(project, commit(project, "tutorial", ".gitlab-ci.yml", text))
    assert jobs_of(pipeline) == {"build": "success", "test": "success", "release": "success"}
    [repository] = [one for one in project.repositories.list(get_all=True) if one.path == project.path_with_namespace]
    assert "tutorial-latest" in {tag.name for tag in repository.tags.list(get_all=True)}


def test_a_monorepo_with_two_images_is_green_on_its_first_push(delivery: Stack) -> None:
    outputs = delivery.outputs()
    project = project_of(outputs)
    project.variables.create({"key": "LICENCE", "value": "example-of-a-value", "masked": True})
    files = {f"{name}/Dockerfile": (FILES / f"{name}.Dockerfile").read_text() for name in ("api", "web")}
    settings = ProjectSettings.model_validate(MONOREPO)
    text = yaml.safe_load(pipeline_text(settings, Builder.DOCKER, None, None, SupplyChain()))
    del text["release"]["rules"]
    text["release"]["script"].append("docker buildx imagetools inspect $(cat image-api.txt)")
    actions = [{"action": "create", "file_path": path, "content": content} for path, content in files.items()]
    actions.append({"action": "create", "file_path": "web/index", "content": "web\n"})
    actions.append({"action": "update", "file_path": ".gitlab-ci.yml", "content": yaml.safe_dump(text)})
    commit_data = {"branch": "monorepo", "start_branch": "main", "commit_message": "Begin", "actions": actions}
    pipeline = pipeline_of(project, str(project.commits.create(commit_data).id))
    jobs = ("build:api", "build:web", "test:api", "test:web", "release")
    assert jobs_of(pipeline) == dict.fromkeys(jobs, "success")
    [release] = [job for job in pipeline.jobs.list(get_all=True) if job.name == "release"]
    log = project.jobs.get(release.id).trace().decode()
    assert {"linux/amd64", "linux/arm64"} <= set(re.findall(r"linux/\w+", log))
    found = {
        one.path.rpartition("/")[2]: {tag.name for tag in one.tags.list(get_all=True)}
        for one in project.repositories.list(get_all=True)
    }
    assert {"latest", "monorepo"} <= found["api"] & found["web"]


def test_a_job_token_cannot_push_to_another_project(delivery: Stack) -> None:
    outputs = delivery.outputs()
    project = project_of(outputs)
    with temporary_project(outputs) as other:
        project.branches.create({"branch": "intruder", "ref": "main"})
        script = [
            "docker pull docker:cli",
            f"docker tag docker:cli {outputs.registry}/{other}:mine",
            f"docker push {outputs.registry}/{other}:mine",
        ]
        text = yaml.safe_load(base64.b64decode(project.files.get(".gitlab-ci.yml", ref="main").content))
        text = {key: text[key] for key in ("default", "variables")} | {"push": {"script": script}}
        pipeline = pipeline_of(project, commit(project, "intruder", ".gitlab-ci.yml", yaml.safe_dump(text)))
        [job] = pipeline.jobs.list(get_all=True)
        assert job.status == "failed"
        log = project.jobs.get(job.id).trace().decode()
        assert "denied" in log
        assert outputs.gitlab().projects.get(other).repositories.list(get_all=True) == []


def test_a_deploy_token_can_pull_from_its_project_but_not_push_or_pull_elsewhere(delivery: Stack) -> None:
    outputs = delivery.outputs()
    exported = outputs.projects[0]
    with temporary_project(outputs) as other, Docker.session() as docker:
        docker.login(outputs.registry, exported["deploy_username"], exported["deploy_token"])
        docker.pull(f"{exported['image']}:latest")
        docker.rename(f"{exported['image']}:latest", f"{exported['image']}:mine")
        refused = docker.try_push(f"{exported['image']}:mine")
        foreign = docker.try_pull(f"{outputs.registry}/{other}:latest")
    for attempt in (refused, foreign):
        assert attempt.returncode != 0
        # A push of layers is "denied"; if all of them are there, Docker repeats what the registry says of the manifest.
        assert "denied" in attempt.stderr or "insufficient_scope" in attempt.stderr


def test_the_locked_runner_takes_no_job_of_another_project(delivery: Stack) -> None:
    outputs = delivery.outputs()
    with temporary_project(outputs) as path:
        other = outputs.gitlab().projects.get(path)
        action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": "job: {script: [echo taken]}\n"}
        other.commits.create({"branch": "main", "commit_message": "Add a job", "actions": [action]})
        # The runner polls every three seconds; a pipeline of its own project shows that it has polled since.
        project = project_of(outputs)
        readme = pipeline_of(project, commit(project, "main", "README.md", "# Hello\n"))
        assert readme.status == "success"
        [job] = other.jobs.list(get_all=True)
        assert (job.status, job.runner) == ("pending", None)


def test_changing_the_concurrency_updates_only_the_runner_configuration(delivery: Stack) -> None:
    delivery.set(runners=[{**RUNNER, "concurrency": 3}])
    changes = delivery.changes()
    assert changes.pop("delivery-docker-builder-1-registration") == "update"
    assert changes == {"delivery-docker-builder-online": "update"}
    shown = delivery.run("preview", "--diff")
    assert re.search(r"- concurrent = 2\n +\+ concurrent = 3\n", shown)
    # A preview shows the lines of files that contain secrets, and in place of a secret a mask.
    assert 'token = "[secret]"' in shown
    assert "glrt-" not in shown
    delivery.up()
    machine = Host.of(delivery, "delivery-docker-builder-1")
    assert machine.sudo("grep ^concurrent /etc/gitlab-runner/config.toml") == "concurrent = 3\n"
    delivery.up("--expect-no-changes")


def test_an_installation_that_is_made_again_on_kept_data_is_the_same(delivery: Stack, control: Control) -> None:
    outputs = delivery.outputs()
    project = project_of(outputs)
    project.variables.create({"key": "BY_HAND", "value": "kept"})
    outputs.gitlab().users.create({
        "username": "maria", "name": "Maria", "email": "maria@example.test", "password": secrets.token_urlsafe(20)
    })  # fmt: skip
    delivery.set(removal="keep-data")
    delivery.up()
    before, installation = delivery.outputs(), everything_in(delivery.outputs())
    with Docker.session() as docker:
        exported = before.projects[0]
        docker.login(before.registry, exported["deploy_username"], exported["deploy_token"])
        # It deletes everything else before it fails.
        refused = delivery.attempt("destroy", "--yes", "--skip-preview")
        assert refused.returncode != 0
        assert "protected" in refused.stdout + refused.stderr
        delivery.destroy()
        left = [str(thing) for things in control.resources().values() for thing in things if "delivery" in str(thing)]
        kept = ("slipway-delivery-data", "registry", "delivery.test")
        assert all(any(name in thing for name in kept) for thing in left), left
        assert all(any(name in thing for thing in left) for name in kept), left
        delivery.up()
        delivery.up("--expect-no-changes")
        # With the login from before.
        assert docker.pull(f"{exported['image']}:latest") == installation["latest"]
    after = delivery.outputs()
    assert everything_in(after) == installation
    replaced = {"gitlab_api_token", "registry_storage"}
    assert {name for name in before.values if after.values[name] != before.values[name]} == replaced
    assert before.storage
    assert after.storage
    assert before.storage["bucket"] == after.storage["bucket"]
    assert [f"{one.name}: {one.measured}" for one in verify.measure(after) if not one.holds] == []
    assert everything_in(after) == installation, "verify leaves nothing behind"
    with pytest.raises(gitlab.GitlabAuthenticationError):
        before.gitlab().auth()
    [listed] = project_of(after).runners.list(type="project_type", get_all=True)
    assert after.gitlab().runners.get(listed.id).status == "online"
    delivery.set(removal="everything")
    delivery.up()


def everything_in(outputs: Outputs) -> dict[str, Any]:
    """What people and machines have in an installation of one project, apart from the stack's own runner."""
    client, project = outputs.gitlab(), project_of(outputs)
    return {
        "users": {user.username: user.id for user in client.users.list(get_all=True)},
        "projects": {one.path_with_namespace: one.id for one in client.projects.list(get_all=True)},
        "variables": {one.key: one.value for one in project.variables.list(get_all=True)},
        "commit": project.branches.get("main").commit["id"],
        "pipelines": {one.id: one.status for one in project.pipelines.list(get_all=True)},
        "images": {
            f"{one.path}:{tag.name}": one.tags.get(tag.name).digest
            for one in project.repositories.list(get_all=True)
            for tag in one.tags.list(get_all=True)
        },
        "latest": latest(outputs),
        "tag rules": client.http_get(f"/projects/{project.id}/registry/protection/tag/rules"),
        "deploy tokens": [(one.name, one.username, one.scopes) for one in project.deploytokens.list(get_all=True)],
        "working tokens": len([one for one in client.personal_access_tokens.list(get_all=True) if one.active]),
    }


def test_destroy_leaves_nothing_of_the_delivery_stack(delivery: Stack, control: Control) -> None:
    delivery.run("destroy", "--yes", "--skip-preview")
    assert "delivery" not in str(control.resources())
