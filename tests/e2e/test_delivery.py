"""From a push to a running image, in order, on one stack with one project and one runner.

The tests build on each other: each leaves the project as the next one needs it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.control import Control
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools import verify
from tools.clients import Docker, run, temporary_project
from tools.pipelines import commit, image_tested, jobs_of, latest, pipeline_of, project_of


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a project and its runner, and a domain of its own; destroyed at the end."""
    made = Stack.create(
        "delivery",
        tmp_path_factory.mktemp("delivery"),
        SANDBOX,
        domain="delivery.test",
        registry={"storage": "filesystem"},
    )
    yield made
    made.remove()


def test_up_ends_with_a_green_pipeline_and_an_image_that_greets(delivery: Stack) -> None:
    delivery.up()
    results = {one.name: one for one in verify.measure(delivery.outputs())}
    assert {"Pipeline", "Released"} <= results.keys()
    assert [f"{one.name}: {one.measured}" for one in results.values() if not one.holds] == []


def test_the_runner_is_locked_to_its_project_described_and_online(delivery: Stack) -> None:
    outputs = delivery.outputs()
    [listed] = project_of(outputs).runners.list(type="project_type", get_all=True)
    runner = outputs.gitlab().runners.get(listed.id)
    assert (runner.description, runner.locked, runner.status) == ("docker-builder", True, "online")
    assert project_of(outputs).shared_runners_enabled is False


def test_a_second_up_of_project_and_runner_changes_nothing(delivery: Stack, control: Control) -> None:
    before = len(control.requests())
    delivery.up("--expect-no-changes")
    delivery.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    assert control.writes_since(before) == []


def test_a_commit_that_breaks_the_test_releases_nothing_and_a_fix_does(delivery: Stack) -> None:
    outputs = delivery.outputs()
    project, released = project_of(outputs), latest(outputs)
    source = base64.b64decode(project.files.get("greeting.js", ref="main").content).decode()

    broken = pipeline_of(project, commit(project, "main", "greeting.js", source.replace("Hello, ", "Good-bye, ")))
    assert broken.status == "failed"
    assert jobs_of(broken) == {"build": "success", "test": "failed", "release": "skipped"}
    assert latest(outputs) == released

    fixed = pipeline_of(project, commit(project, "main", "greeting.js", f"// Greets.\n{source}"))
    assert jobs_of(fixed) == {"build": "success", "test": "success", "release": "success"}
    assert f"{outputs.projects[0]['image']}@{latest(outputs)}" == image_tested(project, fixed)
    assert latest(outputs) != released


def test_a_push_to_another_branch_builds_and_tests_and_does_not_release(delivery: Stack, tmp_path: Path) -> None:
    outputs = delivery.outputs()
    project, released = project_of(outputs), latest(outputs)
    address = f"{outputs.projects[0]['url']}.git".replace("https://", f"https://root:{outputs.password}@")
    run("git", "clone", "--quiet", address, str(tmp_path / "hello"))
    (tmp_path / "hello" / "NOTES.md").write_text("On a branch.\n")
    git = ("git", "-C", str(tmp_path / "hello"), "-c", "user.name=Test", "-c", "user.email=test@example.test")
    run(*git, "checkout", "--quiet", "-b", "topic")
    run(*git, "add", "NOTES.md")
    run(*git, "commit", "--quiet", "--message", "Add notes")
    run(*git, "push", "--quiet", "origin", "topic")
    pipeline = pipeline_of(project, run(*git, "rev-parse", "HEAD").strip())
    assert jobs_of(pipeline) == {"build": "success", "test": "success"}
    assert latest(outputs) == released


def test_the_pipeline_of_the_walk_through_runs_as_it_stands(delivery: Stack) -> None:
    outputs = delivery.outputs()
    project = project_of(outputs)
    project.branches.create({"branch": "tutorial", "ref": "main"})
    text = Path(__file__).with_name("tutorial.gitlab-ci.yml").read_text().replace("REGISTRY", outputs.registry)
    pipeline = pipeline_of(project, commit(project, "tutorial", ".gitlab-ci.yml", text))
    assert jobs_of(pipeline) == {"build": "success", "test": "success", "release": "success"}
    [repository] = project.repositories.list(get_all=True)
    assert "tutorial-latest" in {tag.name for tag in repository.tags.list(get_all=True)}


def test_a_job_token_pushes_to_its_own_project_only(delivery: Stack) -> None:
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


def test_a_deploy_token_pulls_and_can_do_nothing_else(delivery: Stack) -> None:
    outputs = delivery.outputs()
    told = outputs.projects[0]
    with temporary_project(outputs) as other, Docker.session() as docker:
        docker.login(outputs.registry, told["deploy_username"], told["deploy_token"])
        docker.pull(f"{told['image']}:latest")
        docker.rename(f"{told['image']}:latest", f"{told['image']}:mine")
        refused = docker.try_push(f"{told['image']}:mine")
        foreign = docker.try_pull(f"{outputs.registry}/{other}:latest")
    for attempt in (refused, foreign):
        assert attempt.returncode != 0
        assert "denied" in attempt.stderr


def test_a_job_of_another_project_is_not_taken_by_the_locked_runner(delivery: Stack) -> None:
    outputs = delivery.outputs()
    with temporary_project(outputs) as path:
        other = outputs.gitlab().projects.get(path)
        action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": "job: {script: [echo taken]}\n"}
        other.commits.create({"branch": "main", "commit_message": "Add a job", "actions": [action]})
        # The runner asks every three seconds; a commit of its own project shows that it did meanwhile.
        project = project_of(outputs)
        readme = pipeline_of(project, commit(project, "main", "README.md", "# Hello\n"))
        assert readme.status == "success"
        [job] = other.jobs.list(get_all=True)
        assert (job.status, job.runner) == ("pending", None)


def test_concurrency_is_an_update_of_the_configuration_alone(delivery: Stack) -> None:
    delivery.set(runners=[{**RUNNER, "concurrency": 3}])
    changes = delivery.changes()
    assert changes.pop("delivery-docker-builder-1-registration") == "update"
    assert changes == {"delivery-docker-builder-online": "update"}
    delivery.up()
    delivery.up("--expect-no-changes")


def test_a_kept_project_is_found_again_as_its_developers_left_it(delivery: Stack) -> None:
    before = delivery.outputs()
    project, released = project_of(before), latest(before)
    source = project.files.raw(file_path="greeting.js", ref="main")
    delivery.set(removal="keep-data")
    delivery.up()
    delivery.run("destroy", "--yes", "--skip-preview", "--exclude-protected")
    delivery.up()
    delivery.up("--expect-no-changes")

    outputs = delivery.outputs()
    found, told = project_of(outputs), outputs.projects[0]
    assert found.id == project.id
    assert found.files.raw(file_path="greeting.js", ref="main") == source
    with Docker.session() as docker:
        docker.login(outputs.registry, told["deploy_username"], told["deploy_token"])
        assert docker.pull(f"{told['image']}@{released}") == released
    # Nothing of the stack before is left that could still be used.
    assert told["deploy_token"] != before.projects[0]["deploy_token"]
    assert len(found.deploytokens.list(get_all=True)) == 1
    [listed] = found.runners.list(type="project_type", get_all=True)
    assert outputs.gitlab().runners.get(listed.id).status == "online"
    delivery.set(removal="everything")
    delivery.up()


def test_destroy_takes_runner_and_project_with_the_machines(delivery: Stack, control: Control) -> None:
    delivery.run("destroy", "--yes", "--skip-preview")
    assert "delivery" not in str(control.resources())
