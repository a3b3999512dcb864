"""Two environments in one account: what one runs is promoted to the other by a plan, and taken back.

The commands run in a repository of their own, with a commit of everything that this checkout has.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.stack import RUNNER, SANDBOX
from tests.e2e.test_plain_pulumi import publish
from tools.clients import CheckError, Docker, Outputs, run, try_run
from tools.environment import ROOT
from tools.pipelines import jobs_of, last_pipeline, project_of

STACKS = ("staging", "production")


class Environments:
    """A repository with two stack files, and the commands of a team in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = publish(folder)
        # Where the language host looks for the program's environment.
        (folder / ".cache").mkdir()
        (folder / ".cache" / "venv").symlink_to(ROOT / ".cache" / "venv")
        for stack in STACKS:
            self.write(stack)
        for words in (("user.name", "Operations"), ("user.email", "ops@example.com")):
            self.git("config", *words)
        self.commit("Two environments")

    def file(self, stack: str) -> Path:
        return self.folder / "stacks" / f"Pulumi.{stack}.yaml"

    def write(self, stack: str) -> None:
        config = yaml.safe_load(SANDBOX.read_text())["config"]
        for key in ("slipway:projects", "slipway:runners"):
            del config[key]
        # One zone, which the first of them creates.
        zone = "create" if stack == STACKS[0] else "existing"
        config |= {"slipway:domain": "acme.test", "slipway:hostname": stack, "slipway:dns": {"zone": zone}}
        config |= {"slipway:registry": {"storage": "filesystem"}}
        self.file(stack).write_text(f"# The {stack} environment.\n{yaml.safe_dump({'config': config})}")

    def add(self, stack: str, **settings: object) -> None:
        """Change settings in a stack file, and commit it."""
        content = yaml.safe_load(self.file(stack).read_text())
        content["config"] |= {f"slipway:{key}": value for key, value in settings.items()}
        self.file(stack).write_text(yaml.safe_dump(content))
        self.commit(f"Change {stack}")

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "stacks")
        self.git("commit", "--quiet", "--message", message)

    def tools(self, *words: str) -> subprocess.CompletedProcess[str]:
        return try_run("python", "-m", "tools", *words, timeout=900, cwd=self.folder)

    def outputs(self, stack: str) -> Outputs:
        words = ("stack", "output", "--json", "--show-secrets", "--stack", stack)
        return Outputs(json.loads(succeeded(self.pulumi(*words))))

    def pulumi(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return try_run("pulumi", *words, "--non-interactive", timeout=900, cwd=self.folder, stdin=stdin)


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environments]:
    """Two stacks with nothing in them; destroyed at the end."""
    made = Environments(tmp_path_factory.mktemp("environments"))
    for stack in STACKS:
        assert made.pulumi("stack", "init", stack).returncode == 0
    made.commit("The salts of both")
    yield made
    for stack in reversed(STACKS):
        made.pulumi("destroy", "--stack", stack, "--yes", "--skip-preview")
        made.pulumi("stack", "rm", stack, "--yes")


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def test_an_update_of_an_environment_shows_a_plan_and_applies_it(environments: Environments) -> None:
    for stack in STACKS:
        output = succeeded(environments.tools("up", "--stack", stack, "--yes"))
        assert f"{stack}: applying the plan" in output
    assert list((environments.folder / ".cache" / "plans").iterdir()) == []


def test_a_source_that_is_not_as_its_file_says_is_not_promoted(environments: Environments) -> None:
    succeeded(environments.pulumi("config", "set", "--stack", "staging", "--path", "registry.keepUntagged", "48h"))
    environments.commit("Keep images for longer in staging")
    before = environments.file("production").read_bytes()
    done = environments.tools("promote", "--yes", *STACKS)
    assert done.returncode == 1
    assert "staging is not up to date with its stack file" in done.stderr
    assert environments.file("production").read_bytes() == before


def test_a_promotion_shows_changed_lines_applies_them_and_is_recorded(environments: Environments) -> None:
    succeeded(environments.tools("up", "--stack", "staging", "--yes"))
    done = environments.tools("diff", *STACKS)
    assert (done.returncode, done.stdout) == (1, "registry.keepUntagged: 24h in production, 48h in staging\n")
    output = succeeded(environments.tools("promote", "--yes", *STACKS))
    assert "+ registry['gc'] = { 'reviewafter' => '48h'" in output
    assert environments.file("production").read_text().startswith("# The production environment.\n")
    config = yaml.safe_load(environments.file("production").read_text())["config"]
    assert config["slipway:registry"]["keepUntagged"] == "48h"
    assert config["slipway:hostname"] == "production"
    assert environments.git("log", "-1", "--format=%an %s") == "Operations Promote staging to production"
    succeeded(environments.pulumi("preview", "--stack", "production", "--expect-no-changes"))
    assert environments.tools("diff", *STACKS).returncode == 0


def test_the_way_back_restores_the_settings_from_before(environments: Environments) -> None:
    output = succeeded(environments.tools("revert", "--yes", "production"))
    assert "- registry['gc'] = { 'reviewafter' => '48h'" in output
    succeeded(environments.pulumi("preview", "--stack", "production", "--expect-no-changes"))
    assert environments.tools("diff", *STACKS).returncode == 1


def test_a_released_image_keeps_its_digest_in_the_next_registry(environments: Environments) -> None:
    both = {stack: environments.outputs(stack) for stack in STACKS}
    for one in both.values():
        one.gitlab().projects.create({"name": "hello"})
    source = f"{both['staging'].registry}/root/hello"
    with Docker.session() as docker:
        docker.login(both["staging"].registry, both["staging"].user, both["staging"].password)
        parts = [f"{source}:{part}" for part in ("first", "second")]
        for part in parts:
            docker.make_image(part)
            docker.push(part)
        # An index of several images, as of several platforms, or of an image and its provenance.
        run("docker", "--config", docker.folder, "buildx", "imagetools", "create", "--tag", f"{source}:v1", *parts)
        released = docker.digest_of(f"{source}:v1")
        succeeded(environments.tools("image", *STACKS, "root/hello:v1"))
        docker.login(both["production"].registry, both["production"].user, both["production"].password)
        copy = f"{both['production'].registry}/root/hello"
        assert docker.digest_of(f"{copy}:v1") == released
        assert docker.contents(f"{copy}@{released}") == docker.contents(f"{source}@{released}")
    done = environments.tools("image", *STACKS, "root/nothing:v1")
    assert done.returncode == 1
    assert "root/nothing:v1 was not copied from staging to production" in done.stderr


def test_a_pipeline_releases_to_the_next_environment_with_a_token_for_that_project_alone(
    environments: Environments,
) -> None:
    environments.add("production", projects=[{"path": "app", "pipeline": False, "runners": [], "receiveImages": True}])
    succeeded(environments.tools("up", "--stack", "production", "--yes"))
    receiver = environments.outputs("production").projects[0]
    page = (ROOT / "docs/environments.md").read_text()
    script = [line.replace("gitlab.example.com:5555/root/hello", receiver["image"]) for line in documented_stage(page)]
    script = [line.replace("gitlab.example.com:5555", receiver["image"].partition("/")[0]) for line in script]
    # What others may see is in the stack file as it is; the token is encrypted.
    user = {"value": receiver["push_username"], "masked": False}
    project = {"path": "app", "runners": [RUNNER["name"]], "variables": {"PRODUCTION_USER": user}}
    project["extraStages"] = [{"name": "deploy", "script": script}]
    environments.add("staging", projects=[project], runners=[RUNNER])
    secret = (
        "config",
        "set",
        "--stack",
        "staging",
        "--secret",
        "--path",
        "projects[0].variables.PRODUCTION_TOKEN.value",
    )
    succeeded(environments.pulumi(*secret, stdin=receiver["push_token"]))
    succeeded(environments.tools("up", "--stack", "staging", "--yes"))

    source = environments.outputs("staging")
    pipeline = last_pipeline(project_of(source))
    assert jobs_of(pipeline) == dict.fromkeys(("build", "test", "release", "deploy"), "success")
    with Docker.session() as docker:
        for outputs, one in ((source, source.projects[0]), (environments.outputs("production"), receiver)):
            docker.login(outputs.registry, one["deploy_username"], one["deploy_token"])
        released = docker.digest_of(f"{source.projects[0]['image']}:latest")
        assert docker.digest_of(f"{receiver['image']}:latest") == released
        # The token can push to that project and nowhere else.
        other = receiver["image"].replace("/root/app", "/root/hello")
        docker.login(environments.outputs("production").registry, receiver["push_username"], receiver["push_token"])
        docker.make_image(f"{other}:foreign")
        with pytest.raises(CheckError, match=r"denied|unauthorized"):
            docker.push(f"{other}:foreign")


def documented_stage(page: str) -> list[str]:
    """The script of the stage `deploy` on the page about environments."""
    [block] = [found for found in re.findall(r"(?s)```yaml\n(.*?)```", page) if "name: deploy" in found]
    return list(yaml.safe_load(block)["slipway:projects"][0]["extraStages"][0]["script"])


def test_a_plan_that_no_longer_matches_is_refused_without_a_secret(environments: Environments) -> None:
    plan = environments.folder / ".cache" / "plans" / "old.json"
    succeeded(environments.pulumi("preview", "--stack", "production", "--save-plan", str(plan)))
    succeeded(environments.pulumi("config", "set", "--stack", "production", "--path", "registry.keepUntagged", "72h"))
    password = succeeded(
        environments.pulumi("stack", "output", "gitlab_admin_password", "--show-secrets", "--stack", "production")
    ).strip()
    code = f"from tools import plans; from pathlib import Path; plans.apply('production', Path({str(plan)!r}))"
    done = try_run("python", "-c", code, timeout=900, cwd=environments.folder, environment=dict(os.environ))
    output = done.stdout + done.stderr
    assert "is not as in the plan that was shown" in output
    assert password not in output
    plan.unlink()
    environments.git("checkout", "--", "stacks")
    succeeded(environments.pulumi("preview", "--stack", "production", "--expect-no-changes"))


def test_an_environment_cannot_be_removed_while_others_have_records_in_its_zone(environments: Environments) -> None:
    done = environments.tools("down", "--stack", "staging", "--yes")
    assert done.returncode == 1
    assert "the zone acme.test would be deleted with records that are not in this stack: " in done.stderr
    assert "production A " in done.stderr
    assert "staging A " not in done.stderr
    assert environments.outputs("staging").gitlab().version()[0].startswith("19.")
