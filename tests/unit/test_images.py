"""Images that move from one environment to the next: by which commands, and what is refused."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

import pytest
import yaml

from tests.unit.delivered import delivered, pipeline
from tests.unit.engine import ROOT
from tools import images
from tools.clients import Docker, Outputs
from tools.progress import ToolError

INDEX = '{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
DIGEST = f"sha256:{hashlib.sha256(INDEX.encode()).hexdigest()}"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that records its commands, and whose registries send what is in `source` and `copy`."""
    program = tmp_path / "docker"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ncase "$*" in\n'
        f"  *inspect*production*) cat {tmp_path}/copy ;;\n  *inspect*) cat {tmp_path}/source ;;\nesac\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "source").write_text(INDEX)
    (tmp_path / "copy").write_text(INDEX)

    def outputs(stack: str) -> Outputs:
        registry, password = f"gitlab.{stack}.test:5555", f"password of {stack}"
        return Outputs({"registry": registry, "gitlab_admin_user": "root", "gitlab_admin_password": password})

    monkeypatch.setattr(Outputs, "of_stack", outputs)
    return tmp_path / "calls"


def test_an_image_is_copied_by_its_digest_with_everything_in_its_index(calls: Path) -> None:
    assert images.copy_image("staging", "production", "root/hello:latest") == DIGEST
    copied = f"gitlab.production.test:5555/root/hello:latest gitlab.staging.test:5555/root/hello@{DIGEST}"
    assert f"buildx imagetools create --prefer-index=false --tag {copied}" in calls.read_text().splitlines()
    assert "password of" not in calls.read_text()


def test_a_password_that_was_changed_in_gitlab_is_no_obstacle(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the stack's API token logs in."""
    program = tmp_path / "docker"
    text = program.read_text().replace("#!/bin/sh\n", '#!/bin/sh\n[ "$1" != login ] || exec grep -q ^glpat-\n', 1)
    program.write_text(text)
    given = Outputs.of_stack
    monkeypatch.setattr(
        Outputs, "of_stack", lambda stack: Outputs({**given(stack).values, "gitlab_api_token": f"glpat-{stack}"})
    )
    assert images.copy_image("staging", "production", "root/hello:latest") == DIGEST
    assert calls.exists()


def test_a_copy_with_another_digest_is_reported(calls: Path) -> None:
    calls.with_name("copy").write_text(INDEX + "\n")
    with pytest.raises(ToolError, match=f"not {DIGEST}; do not deploy it"):
        images.copy_image("staging", "production", "root/hello:latest")


@pytest.mark.parametrize("image", ["root/hello", "", "root/hello:a b", "root/hello@sha256:12"])
def test_an_image_without_tag_and_digest_is_refused(calls: Path, image: str) -> None:
    with pytest.raises(ToolError, match="is not an image of a project"):
        images.copy_image("staging", "production", image)
    assert not calls.exists()


def test_the_stage_in_the_manual_is_valid_and_deploys_the_tested_image_by_its_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.unit.engine.ENCRYPTED", ["slipway:projects"])
    section = (ROOT / "docs/environments.md").read_text().partition("### Images")[2].partition("\n## ")[0]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None
    [project] = yaml.safe_load(found[1])["slipway:projects"]
    names = re.findall(r"\$(PRODUCTION_\w+)", found[1])
    project["variables"] = {name: {"value": "of-production"} for name in names}
    jobs = pipeline(delivered(project))
    assert jobs["stages"] == ["build", "test", "release", "deploy"]
    login, copy = jobs["deploy"]["script"]
    assert "--password-stdin" in login
    assert copy.startswith("docker buildx imagetools create --prefer-index=false")
    assert copy.endswith('"$(cat image.txt)"')
    # It runs for what was released: of the default branch, after its tests.
    assert jobs["deploy"]["rules"] == jobs["release"]["rules"]


def test_a_session_without_logins_still_has_the_plugins_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cli-plugins").mkdir()
    (tmp_path / "cli-plugins" / "docker-buildx").touch()
    (tmp_path / "config.json").write_text('{"auths": {"registry.example.com": {}}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with Docker.session() as docker:
        assert {path.name for path in Path(docker.folder).iterdir()} == {"cli-plugins"}
        assert (Path(docker.folder) / "cli-plugins" / "docker-buildx").exists()
    assert (tmp_path / "cli-plugins" / "docker-buildx").exists()
