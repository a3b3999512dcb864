"""Promotion by a plan: what is refused, what is applied, what is recorded, and what nobody else may read."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import versions
from tests.unit.engine import REQUIRED, ROOT
from tests.unit.makefile import run_make
from tools import plans, promote, stack_files
from tools.progress import ToolError

OLDER = "19.2.1-ce.0"


class Repository:
    """A repository with two stack files, and a `pulumi` that edits and records instead of deploying."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "stacks").mkdir()
        (folder / "answers").mkdir()
        self.answer("history", json.dumps([{"version": 3, "result": "succeeded"}]))
        for stack in ("staging", "production"):
            self.write(stack)
        self.git("init", "--quiet")
        self.git("config", "user.name", "Operations")
        self.git("config", "user.email", "ops@example.com")
        self.commit("Both environments")

    def file(self, stack: str) -> Path:
        return self.folder / "stacks" / f"Pulumi.{stack}.yaml"

    def write(self, stack: str, **changes: Any) -> None:
        config = {f"slipway:{key}": value for key, value in {**REQUIRED, **changes}.items()}
        self.file(stack).write_text("# Ours.\n" + yaml.safe_dump({"config": config}))

    def answer(self, command: str, output: str, status: int = 0) -> None:
        (self.folder / "answers" / command).write_text(output)
        (self.folder / "answers" / f"{command}.status").write_text(str(status))

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "stacks")
        self.git("commit", "--quiet", "--message", message)

    @property
    def calls(self) -> list[list[str]]:
        return [line.split() for line in (self.folder / "calls").read_text().splitlines()]


PULUMI = """#!/bin/bash
# Records its command line; answers with a file, or sets one value in a stack file.
here=HERE
echo "$*" >>"$here/calls"
case "$*" in
  *--save-plan*)
    what=preview; plan="$*"; plan=${plan##*--save-plan }; plan=${plan%% *}
    echo "{}" >"$plan"; stat -c %a "$plan" >"$here/mode" ;;
  *--expect-no-changes*) what=expect ;;
  up*) what=up ;;
  "stack history"*) what=history ;;
  "config set-all"*)
    stack=$4; value=${7##*=}
    sed -i '/gitlab/d;/version/d' "$here/stacks/Pulumi.$stack.yaml"
    printf '  slipway:gitlab:\\n    version: %s\\n' "$value" >>"$here/stacks/Pulumi.$stack.yaml"
    exit 0 ;;
esac
cat "$here/answers/$what" 2>/dev/null
exit "$(cat "$here/answers/$what.status" 2>/dev/null || echo 0)"
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """The repository that the tools work in."""
    made = Repository(tmp_path)
    program = tmp_path / "pulumi"
    program.write_text(PULUMI.replace("HERE", str(tmp_path), 1))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(promote, "ROOT", tmp_path)
    monkeypatch.setattr(promote, "stack_file", made.file)
    monkeypatch.setattr(stack_files, "stack_file", made.file)
    monkeypatch.setattr(stack_files, "ROOT", tmp_path)
    monkeypatch.setattr(plans, "FOLDER", tmp_path / "plans")
    monkeypatch.setattr(promote, "verify", lambda _: 0)
    monkeypatch.setattr(promote, "_git", _git_in(tmp_path))
    return made


def _git_in(folder: Path) -> Callable[..., str]:
    original = promote._git
    return lambda *words: original(*words, cwd=folder)


def run(**options: Any) -> int:
    """Promote staging to production, without a question."""
    return promote.promote("staging", "production", **{"keep_secrets": False, "confirmed": True, **options})


def test_a_promotion_applies_the_plan_that_was_shown_and_is_recorded_as_a_commit(repository: Repository) -> None:
    repository.write("staging", gitlab={"version": OLDER}, domain="staging.example.com")
    repository.commit("An older GitLab for staging")
    promoted = repository.git("rev-parse", "HEAD")
    assert run() == 0
    content = repository.file("production").read_text()
    assert content.startswith("# Ours.\n")
    assert yaml.safe_load(content)["config"]["slipway:gitlab"] == {"version": OLDER}
    assert "staging.example.com" not in content
    saved = next(one[one.index("--save-plan") + 1] for one in repository.calls if "--save-plan" in one)
    [applied] = [one for one in repository.calls if one[0] == "up"]
    assert applied[applied.index("--plan") + 1] == saved
    assert repository.git("show", "--stat", "--format=%an: %B", "HEAD").split("\n")[0] == (
        "Operations: Promote staging to production"
    )
    assert f"Promoted-Commit: {promoted}\nPromoted-Update: staging 3" in repository.git("log", "-1", "--format=%B")
    assert repository.git("status", "--porcelain", "--", "stacks") == ""


def test_a_plan_is_readable_by_its_owner_alone_and_deleted_afterwards(repository: Repository) -> None:
    repository.write("staging", gitlab={"version": OLDER})
    repository.commit("An older GitLab")
    run()
    assert (repository.folder / "mode").read_text() == "600\n"
    assert stat.S_IMODE(plans.FOLDER.stat().st_mode) == 0o700
    assert list(plans.FOLDER.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda it: it.answer("expect", "~ 1 to update", 255), "staging is not up to date with its stack file"),
        (lambda it: it.answer("history", json.dumps([{"version": 3, "result": "failed"}])), "last update of staging f"),
        (lambda it: it.answer("history", "[]"), "stack staging has not been deployed"),
        (lambda it: it.write("staging", gitlab={"version": "19.2.2-ce.0"}), "not everything is committed"),
        (lambda it: it.answer("preview", "error: refused", 255), "the preview of production failed"),
    ],
    ids=["changed file", "failed update", "no update", "uncommitted", "refused preview"],
)
def test_a_promotion_that_is_refused_changes_nothing(
    repository: Repository, spoil: Callable[[Repository], None], message: str
) -> None:
    repository.write("staging", gitlab={"version": OLDER})
    repository.commit("An older GitLab")
    before, commit = repository.file("production").read_bytes(), repository.git("rev-parse", "HEAD")
    spoil(repository)
    with pytest.raises(ToolError, match=message):
        run()
    assert repository.file("production").read_bytes() == before
    assert repository.git("rev-parse", "HEAD") == commit
    calls = repository.calls if (repository.folder / "calls").exists() else []
    assert [one for one in calls if one[0] == "up"] == []


def test_an_unhealthy_source_is_not_promoted(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.write("staging", gitlab={"version": OLDER})
    repository.commit("An older GitLab")
    monkeypatch.setattr(promote, "verify", lambda _: 1)
    with pytest.raises(ToolError, match="staging is not healthy"):
        run()


def test_a_source_that_is_updated_meanwhile_is_not_promoted(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("staging", gitlab={"version": OLDER})
    repository.commit("An older GitLab")

    def updated(_: str) -> bool:
        repository.answer("history", json.dumps([{"version": 4, "result": "succeeded"}]))
        return True

    before = repository.file("production").read_bytes()
    monkeypatch.setattr(plans, "confirm", updated)
    with pytest.raises(ToolError, match="staging was updated after it was verified"):
        run(confirmed=False)
    assert repository.file("production").read_bytes() == before


def test_the_way_back_gives_the_settings_from_before_the_last_promotion(repository: Repository) -> None:
    with pytest.raises(ToolError, match="is a promotion; there is nothing to go back to"):
        promote.revert("production", confirmed=True)
    repository.write("staging", gitlab={"version": OLDER})
    repository.write("production", gitlab={"version": "19.2.2-ce.0"})
    repository.commit("Two versions of GitLab")
    run()
    assert promote.revert("production", confirmed=True) == 0
    config = yaml.safe_load(repository.file("production").read_text())["config"]
    assert config["slipway:gitlab"] == {"version": "19.2.2-ce.0"}
    assert repository.git("log", "-1", "--format=%s") == "Take back the last promotion to production"
    assert len([one for one in repository.calls if one[0] == "up" and "--plan" in one]) == 2


def test_secrets_that_differ_are_refused_by_name_unless_the_target_keeps_its_own(repository: Repository) -> None:
    def project(value: str) -> list[dict[str, Any]]:
        return [{"path": "hello", "variables": {"API_KEY": {"value": value}}}]

    repository.write("staging", projects=project("value-of-staging"), gitlab={"version": OLDER})
    repository.write("production", projects=project("value-of-production"))
    repository.commit("Each with its own key")
    with pytest.raises(ToolError, match=r"\n  - projects\[0\].variables.API_KEY.value$") as refused:
        run()
    assert "value-of-" not in str(refused.value)
    assert run(keep_secrets=True) == 0
    assert "value-of-production" in repository.file("production").read_text()
    assert not [one for one in repository.calls if "--secret" in one]


def test_a_plan_that_no_longer_matches_is_refused_in_one_message_without_its_values(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    urn = "urn:pulumi:production::slipway::command:remote:Command::gitlab-api-token"
    # As Pulumi prints it: the value is the whole of a step's input, over many lines.
    repository.answer(
        "up",
        f"Updating (production):\nerror: resource {urn} violates plan: properties changed: "
        "~~stdin[{&{{set -e\nAPI_TOKEN=glpat-0123456789}}}!={&{{…\n\nDiagnostics:\n glpat-0123456789\n",
        255,
    )
    with plans.plan_file("production") as plan:
        plan.write_text("{}")
        with pytest.raises(ToolError) as refused:
            plans.apply("production", plan)
    assert str(refused.value).startswith("gitlab-api-token is not as in the plan that was shown")
    assert capsys.readouterr().out == "Updating (production):\n"


def test_an_update_of_a_real_stack_shows_a_plan_and_applies_that_plan(repository: Repository) -> None:
    plans.update("production", ["--target", "urn"], confirmed=True)
    preview, up = repository.calls
    assert preview[:3] == ["preview", "--stack", "production"]
    assert up[up.index("--plan") + 1] == preview[preview.index("--save-plan") + 1]
    assert preview[-2:] == ["--target", "urn"]
    assert preview[preview.index("--policy-pack") + 1] == str(ROOT / "policies")
    assert "--target" in up


def test_an_update_with_a_provider_that_is_not_known_yet_is_not_held_to_its_plan(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
    known = {"goal": {"inputDiff": {"adds": {"version": "1.2.1"}}}, "steps": ["create"]}
    late = {"goal": {"inputDiff": {"adds": {"token": unknown}}}, "steps": ["create"]}
    # Other resources have inputs that are not known; Pulumi allows them to become anything.
    other = {"goal": {"inputDiff": {"adds": {"stdin": unknown}}}, "steps": ["create"]}
    providers = "urn:pulumi:production::slipway::pulumi:providers"
    plan = tmp_path / "plan.json"
    for resources, held in (
        (
            {
                f"{providers}:command::command": known,
                "urn:pulumi:production::slipway::command:remote:Command::x": other,
            },
            True,
        ),
        ({f"{providers}:command::command": known, f"{providers}:gitlab::gitlab": late}, False),
    ):
        plan.write_text(json.dumps({"resourcePlans": resources}))
        plans.apply("production", plan)
        assert (repository.calls[-1].count("--plan") == 1) is held
    assert "production: gitlab can check inputs only during the update" in capsys.readouterr().out


def test_an_update_that_is_declined_changes_nothing(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "confirm", lambda _: False)
    with pytest.raises(ToolError, match="nothing was changed"):
        plans.update("production", [], confirmed=False)
    assert [one[0] for one in repository.calls] == ["preview"]


def test_without_a_terminal_nothing_is_applied_unless_it_was_confirmed(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(ToolError, match="no terminal to ask"):
        plans.update("production", [], confirmed=False)
    assert [one[0] for one in repository.calls] == ["preview"]


def test_the_version_of_both_is_the_default_until_a_file_says_otherwise(repository: Repository) -> None:
    repository.write("production", gitlab={"version": versions.GITLAB})
    repository.commit("The default, by name")
    assert run() == 0
    assert not (repository.folder / "calls").exists()


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["up", "STACK=production"], "exec -- python -m tools up --stack production"),
        (["diff", "FROM=staging", "TO=production"], "exec -- python -m tools diff staging production"),
        (["promote", "FROM=staging", "TO=production"], "exec -- python -m tools promote staging production"),
        (
            ["promote", "FROM=staging", "TO=production", "KEEP_SECRETS=yes"],
            "exec -- python -m tools promote --keep-secrets staging production",
        ),
        (["revert", "STACK=production"], "exec -- python -m tools revert production"),
        (
            ["image", "FROM=staging", "TO=production", "IMAGE=root/hello:latest"],
            "exec -- python -m tools image staging production root/hello:latest",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_commands_of_the_manual_use_the_account_and_never_apply_without_a_plan(
    words: list[str], command: str
) -> None:
    done = run_make("--dry-run", *words)
    assert command in re.sub(r" +", " ", done.stdout)
    assert "tests.sandbox" not in done.stdout
    assert "pulumi up" not in done.stdout.replace("'pulumi up: stack production'", "")
