"""Deployments with a Compose file: its services run the released digest, or those of before are put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.deploy_target import ENVIRONMENT, NEW, OLD, Target

PLAIN: dict[str, Any] = {**ENVIRONMENT, "publish": ["80:3000"]}
COMPOSED = {**ENVIRONMENT, "publish": [], "compose": "deploy/compose.yaml"}
PROXIED = {**PLAIN, "zeroDowntime": True, "healthCheck": {"path": "/", "timeoutSeconds": 1}}
FILE = "services:\n  web:\n    image: ${IMAGE}\n    environment: [GREETING]\n"
SERVICE = "hello-staging-web-1"


class Composed(Target):
    """A machine, and a repository with a Compose file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = COMPOSED
        self.commit(FILE)

    def commit(self, text: str) -> None:
        file = self.folder / "work" / "deploy" / "compose.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    @property
    def kept(self) -> Path:
        """Where files are kept on the machine."""
        return self.folder / ".local" / "state" / "slipway" / "hello-staging"


@pytest.fixture
def target(tmp_path: Path) -> Composed:
    return Composed(tmp_path)


def deployed(target: Target, image: str) -> None:
    code, output = target.deploy(image)
    assert code == 0, output


def test_the_services_of_the_file_get_the_released_digest_and_the_variables(target: Composed) -> None:
    deployed(target, OLD)
    assert target.running == {SERVICE: OLD}
    assert target.state["containers"][SERVICE]["environment"] == {"GREETING": "it's\n$HOME"}
    deployed(target, NEW)
    assert target.running == {SERVICE: NEW}
    assert target.handed_on == NEW


def test_what_is_kept_on_the_machine_is_for_the_user_of_the_job_alone(target: Composed) -> None:
    deployed(target, OLD)
    deployed(target, NEW)
    assert {path.name for path in target.kept.iterdir()} == {"current", "previous"}
    for path in (target.kept.parent, *target.kept.parent.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    assert "HOME" not in (target.folder / "calls").read_text()


@pytest.mark.parametrize("kind", ["broken", "sick"])
def test_a_broken_release_is_taken_back_with_the_file_and_the_digest_of_before(target: Composed, kind: str) -> None:
    deployed(target, OLD)
    target.commit(f"# new\n{FILE}")
    code, output = target.deploy(NEW.replace("hello", kind))
    assert code == 1
    assert f"what ran before was put back: {OLD} is as before" in output
    assert target.running == {SERVICE: OLD}
    assert (target.kept / "current" / "compose.yaml").read_text() == FILE
    assert target.handed_on is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"invalid: 1\n{FILE}", "Docker Compose rejects deploy/compose.yaml, so nothing was changed"),
        (f"{FILE}# and: registry.test:5050/root/hello:latest\n", "names registry.test:5050/root/hello:latest beside"),
        (FILE.replace("${IMAGE}", "nginx:1"), "no service of deploy/compose.yaml has the released image"),
    ],
)
def test_a_file_that_could_not_work_changes_nothing(target: Composed, text: str, message: str) -> None:
    deployed(target, OLD)
    (target.folder / "calls").unlink()
    target.commit(text)
    code, output = target.deploy(NEW)
    assert code == 1
    assert message in output
    assert target.running == {SERVICE: OLD}
    assert " up " not in (target.folder / "calls").read_text()


def test_what_is_missing_is_named_before_anything_is_done(target: Composed) -> None:
    target.write({**target.state, "compose": False})
    code, output = target.deploy(OLD)
    assert code == 1
    assert "has no Docker Compose, so nothing was deployed" in output
    (target.folder / "work" / "deploy" / "compose.yaml").unlink()
    code, output = target.deploy(OLD)
    assert code == 1
    assert "this commit has no file deploy/compose.yaml, so nothing was deployed" in output


@pytest.mark.parametrize("other", [PLAIN, PROXIED])
def test_each_way_takes_over_from_the_others_and_gives_back_what_it_took(
    target: Composed, other: dict[str, Any]
) -> None:
    target.settings = other
    deployed(target, OLD)
    before = target.running
    target.settings = COMPOSED
    assert target.deploy(NEW.replace("hello", "sick"))[0] == 1
    assert target.running == before
    deployed(target, NEW)
    assert target.running == {SERVICE: NEW}
    assert set(target.state["containers"]) == {SERVICE}
    target.settings = other
    assert target.deploy(OLD.replace("hello", "held-deaf"))[0] == 1
    assert target.running == {SERVICE: NEW}
    deployed(target, OLD)
    assert target.running == before
    assert not target.kept.exists()


@pytest.mark.parametrize(("before", "moment"), [(COMPOSED, "compose"), (PLAIN, "stop ")])
def test_a_job_that_was_killed_is_settled_by_the_next_one(
    target: Composed, before: dict[str, Any], moment: str
) -> None:
    target.settings = before
    deployed(target, OLD)
    running, target.settings = target.running, COMPOSED
    if before is COMPOSED:
        # As if it were killed while the services start.
        next_one = target.kept / "next"
        next_one.mkdir()
        for name in ("compose.yaml", "variables"):
            text = (target.kept / "current" / name).read_text()
            (next_one / name).write_text(text.replace(OLD, NEW))
        (next_one / "started").touch()
    else:
        target.killed(moment, NEW)
    target.settings = before
    assert target.deploy(NEW.replace("hello", "broken"))[0] == 1
    assert target.running == running
    target.settings = COMPOSED
    deployed(target, NEW)
    assert target.running == {SERVICE: NEW}
