"""`make rollback` and the history of environments, with the pipeline that the program commits, on the stand-in."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import gitlab
import pytest

from components.build_pipeline import pipeline_of
from components.settings import Builder, ProjectSettings, SupplyChain
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest, statuses
from tests.sandbox_tests.support.gitlab_runner_client import Runner
from tests.unit.stack_file_corpus import PUBLIC_KEY
from tools.clients import CheckError, Outputs
from tools.progress import ToolError
from tools.rollback import Wish, earlier, rollback

pytestmark = pytest.mark.usefixtures("emptied")
JOB = "deploy:production"
TARGET: dict[str, Any] = {
    "name": "production",
    "host": "203.0.113.7",
    "user": "deploy",
    "hostKey": PUBLIC_KEY,
    "healthCheck": {"command": "true"},
}


def image(digit: int) -> str:
    """The image of a pipeline."""
    return f"registry.test:5050/root/hello@sha256:{str(digit) * 64}"


def archive(name: str, content: str) -> bytes:
    """An artifact of one file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(name, f"{content}\n")
    return made.getvalue()


class World:
    """A project with the environment `production`, and a runner that does with its jobs what the test says."""

    def __init__(self, client: gitlab.Gitlab, monkeypatch: pytest.MonkeyPatch) -> None:
        self.project = make_project(client)
        self.runner: Runner = make_runner(client, self.project)
        settings = ProjectSettings.model_validate({"path": "hello", "deploy": [TARGET]})
        self.text = pipeline_of(settings, Builder.DOCKER, None, None, SupplyChain())
        values = {"gitlab_url": client.url, "projects": [{"url": f"{client.url}/root/hello"}]}
        monkeypatch.setattr(Outputs, "of_stack", lambda _: Outputs(values))
        monkeypatch.setattr(Outputs, "gitlab", lambda _: client)

    def pipeline(self, digit: int) -> Any:
        """Build, test and release an image; its pipeline."""
        commit(self.project, {".gitlab-ci.yml": self.text, "image": str(digit)})
        build = self.runner.take()
        assert build.name == "build"
        assert build.upload(archive("image.txt", image(digit))).status_code == 201
        build.succeed()
        assert self.runner.drain() == ["test", "release"]
        return newest(self.project)

    def job(self, pipeline: Any) -> Any:
        """The deploy job of a pipeline, as it is now."""
        [listed] = [job for job in pipeline.jobs.list(get_all=True) if job.name == JOB]
        return self.project.jobs.get(listed.id)

    def finish(self, digit: int) -> None:
        """Have the runner deploy well."""
        job = self.runner.take()
        assert job.name == JOB
        assert job.upload(archive("deployed.txt", image(digit))).status_code == 201
        job.succeed()

    def deploy(self, pipeline: Any, digit: int) -> None:
        """Deploy a pipeline's image by hand."""
        self.job(pipeline).play()
        self.finish(digit)

    def wish(self, to: str | None = None, **more: str) -> Wish:
        """The wish of a user."""
        return Wish(more.get("project", "hello"), more.get("environment", "production"), to)


@pytest.fixture
def world(client: gitlab.Gitlab, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(client, monkeypatch)


def test_a_pipeline_that_nobody_deploys_is_complete_and_its_job_waits_with_its_digest(world: World) -> None:
    pipeline = world.pipeline(1)
    assert pipeline.status == "success"
    assert statuses(pipeline) == {"build": "success", "test": "success", "release": "success", JOB: "manual"}
    world.job(pipeline).play()
    job = world.runner.take()
    assert [one["name"] for one in job.payload["dependencies"]] == ["build"]
    assert job.variables["CI_ENVIRONMENT_NAME"] == "production"
    assert "before_script" not in str(job.payload["steps"])
    assert "docker login" not in "\n".join(job.payload["steps"][0]["script"]).split("machine_script")[0]


def test_without_a_wish_it_goes_back_to_what_ran_before_and_never_forth(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipelines = {digit: world.pipeline(digit) for digit in (1, 2, 3)}
    for digit, pipeline in pipelines.items():
        world.deploy(pipeline, digit)
    # Whoever waits for the job sees it done.
    monkeypatch.setattr("tools.rollback.time.sleep", lambda _: world.finish(2))
    assert rollback(None, world.wish()) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"production runs {image(2)} again"
    found = world.project.deployments.list(environment="production", status="success", get_all=True)
    assert [one.deployable["pipeline"]["id"] for one in found] == [pipelines[digit].id for digit in (1, 2, 3, 2)]
    assert earlier(world.project, world.wish()).image == image(1)


def test_a_pipeline_or_a_digest_names_where_to_go_back_to(world: World) -> None:
    first = world.pipeline(1)
    world.deploy(first, 1)
    for digit in (2, 3):
        world.deploy(world.pipeline(digit), digit)
    for to in (str(first.id), f"sha256:{'1' * 64}", "1" * 12):
        assert earlier(world.project, world.wish(to)).pipeline == first.id


def test_a_deployment_that_failed_is_nothing_to_go_back_to(world: World) -> None:
    world.deploy(world.pipeline(1), 1)
    broken = world.pipeline(2)
    world.job(broken).play()
    world.runner.take().fail()
    world.deploy(world.pipeline(3), 3)
    assert earlier(world.project, world.wish()).image == image(1)
    with pytest.raises(CheckError, match=f"{broken.id} was never deployed to production"):
        earlier(world.project, world.wish(str(broken.id)))


def test_what_cannot_be_done_is_named_and_no_job_runs(world: World) -> None:
    with pytest.raises(CheckError, match=r"root/hello has no environment production; .* none, nothing was deployed"):
        earlier(world.project, world.wish())
    first = world.pipeline(1)
    with pytest.raises(CheckError, match="nothing was deployed to production yet"):
        earlier(world.project, world.wish())
    with pytest.raises(CheckError, match=r"no environment staging; nothing was changed. .* production"):
        earlier(world.project, world.wish(environment="staging"))
    world.deploy(first, 1)
    with pytest.raises(CheckError, match=r"production has had no other image before pipeline \d+"):
        earlier(world.project, world.wish())
    with pytest.raises(CheckError, match="production runs that already"):
        earlier(world.project, world.wish("1" * 64))
    with pytest.raises(CheckError, match=r"latest was never deployed to production; .* The last ones: pipeline"):
        earlier(world.project, world.wish("latest"))
    world.job(world.pipeline(2)).play()
    running = world.runner.take()
    with pytest.raises(CheckError, match="a deployment to production is running"):
        earlier(world.project, world.wish())
    running.fail()
    assert world.runner.request() is None


def test_a_project_that_is_not_the_stacks_is_refused_with_those_that_are(world: World) -> None:
    with pytest.raises(ToolError, match=r"rollback: other is not one of the stack's projects; .* root/hello"):
        rollback(None, world.wish(project="other"))


def test_a_job_that_fails_again_is_an_error_of_the_command(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for digit in (1, 2):
        world.deploy(world.pipeline(digit), digit)

    def fail(_: float) -> None:
        world.runner.take().fail()

    monkeypatch.setattr("tools.rollback.time.sleep", fail)
    assert rollback(None, world.wish()) == 1
    assert "production was not changed: job" in capsys.readouterr().out
