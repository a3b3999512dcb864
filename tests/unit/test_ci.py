"""The jobs of the pipeline: the plan that is kept is the one that is applied, to the stack that it was made for."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tools import ci, ci_note, plans
from tools.environment import ROOT
from tools.progress import ToolError

RUNNER = "urn:pulumi:staging::slipway::slipway:index:Delivery$slipway:index:Runner::delivery-operations"
OTHER = RUNNER.replace("operations", "docker-builder")
#: What a runner consists of: type, name, ID.
PARTS = (
    ("gitlab:index/userRunner:UserRunner", "registration", "7"),
    ("digitalocean:index/droplet:Droplet", "1-droplet", "100"),
    ("command:remote:Command", "1-registration", "cmd"),
)
PULUMI = """#!/bin/bash
# Records its command line; saves the plan and answers with the texts of this folder.
here=HERE
echo "$*" >>"$here/calls"
case "$*" in
  *--save-plan*) plan="$*"; plan=${plan##*--save-plan }; cat "$here/plan.json" >"${plan%% *}"; what=preview ;;
  preview*) what=preview ;;
  up*) what=up ;;
  "stack export"*) what=export ;;
  "stack output"*) what=output ;;
esac
cat "$here/$what" 2>/dev/null
exit "$(cat "$here/$what.status" 2>/dev/null || echo 0)"
"""


def resources(component: str) -> list[dict[str, Any]]:
    parts = [
        {"urn": f"{component}-{name}", "type": kind, "custom": True, "id": identity, "parent": component}
        for kind, name, identity in PARTS
    ]
    return [{"urn": component, "type": "slipway:index:Runner", "custom": False}, *parts]


class Fake:
    """A `pulumi` that answers with files, and a stack with two runners, of which #7 is the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        others = [{**one, "id": "8" if one.get("id") == "7" else one.get("id")} for one in resources(OTHER)]
        self.answer("export", json.dumps({"deployment": {"resources": [*resources(RUNNER), *others]}}))
        self.answer("output", json.dumps({"gitlab_url": "https://gitlab.example.com"}))
        self.plan()

    def answer(self, what: str, text: str, status: int = 0) -> None:
        (self.folder / what).write_text(text)
        (self.folder / f"{what}.status").write_text(str(status))

    def plan(self, **steps: list[str]) -> None:
        """What the next plan changes, by the URN's end."""
        known = {one["urn"]: ["same"] for component in (RUNNER, OTHER) for one in resources(component)}
        changed = {f"{RUNNER}-{name.replace('_', '-')}": words for name, words in steps.items()}
        planned = {urn: {"steps": words} for urn, words in {**known, **changed}.items()}
        (self.folder / "plan.json").write_text(json.dumps({"resourcePlans": planned}))

    @property
    def updates(self) -> list[str]:
        calls = (self.folder / "calls").read_text().splitlines()
        return [line for line in calls if line.startswith("up ")]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    program = tmp_path / "pulumi"
    program.write_text(PULUMI.replace("HERE", str(tmp_path), 1))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(plans, "FOLDER", tmp_path / "plans")
    monkeypatch.setattr(ci, "FOLDER", tmp_path / "ci")
    for name in ("CI_RUNNER_ID", "CI_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    return Fake(tmp_path)


def test_the_plan_that_is_kept_is_applied_and_gone_afterwards(fake: Fake) -> None:
    ci.plan("staging")
    kept = ci.FOLDER / "staging" / "plan.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert list(plans.FOLDER.iterdir()) == []
    ci.apply("staging")
    assert fake.updates == [f"up --stack staging --yes --skip-preview --non-interactive --plan {kept}"]
    assert not kept.exists()


def test_a_plan_for_another_state_is_refused_before_anything_is_touched(fake: Fake) -> None:
    ci.plan("staging")
    fake.answer("export", json.dumps({"deployment": {"resources": []}}))
    with pytest.raises(ToolError, match=r"staging was changed after this plan was made.*changed nothing.*New pipeline"):
        ci.apply("staging")
    assert fake.updates == []


def test_a_preview_that_is_refused_leaves_no_plan(fake: Fake) -> None:
    ci.plan("staging")
    fake.answer("preview", "error: refused", status=255)
    with pytest.raises(ToolError, match="the preview of staging failed"):
        ci.plan("staging")
    assert not (ci.FOLDER / "staging").exists()


@pytest.mark.usefixtures("fake")
def test_a_job_without_its_plan_says_how_to_get_one() -> None:
    with pytest.raises(ToolError, match=r"the plan of staging is not here.*New pipeline"):
        ci.apply("staging")


def test_an_update_that_leaves_its_plan_points_to_a_new_pipeline(fake: Fake) -> None:
    ci.plan("staging")
    fake.answer("up", "error: resource urn:pulumi:s::p::t::server violates plan: the-secret\n", status=255)
    with pytest.raises(ToolError, match=r"server is not as in the plan.*New pipeline") as caught:
        ci.apply("staging")
    assert "make up" not in str(caught.value)


@pytest.mark.parametrize("part", ["registration", "1_droplet", "1_registration"])
@pytest.mark.parametrize("steps", [["update"], ["create-replacement", "replace", "delete-replaced"], ["delete"]])
def test_a_plan_that_changes_the_runner_of_the_job_is_refused(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, part: str, steps: list[str]
) -> None:
    fake.plan(**{part: steps})
    ci.plan("staging")
    monkeypatch.setenv("CI_SERVER_URL", "https://gitlab.example.com")
    monkeypatch.setenv("CI_RUNNER_ID", "7")
    message = rf"changes runner #7, which runs this job.*{part.replace('_', '-')}.*nothing was changed.*make up"
    with pytest.raises(ToolError, match=message):
        ci.apply("staging")
    with pytest.raises(ToolError, match=message):
        ci.plan("staging")
    assert fake.updates == []


def test_a_runner_of_another_gitlab_or_of_other_jobs_may_change(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.plan(**{"1_droplet": ["delete"]})
    for server, runner in (("https://gitlab.com", "7"), ("https://gitlab.example.com", "8"), ("", "")):
        monkeypatch.setenv("CI_SERVER_URL", server)
        monkeypatch.setenv("CI_RUNNER_ID", runner)
        ci.plan("staging")
        ci.apply("staging")
    assert len(fake.updates) == 3


def test_a_preview_is_posted_whatever_its_end_and_fails_the_job_if_it_is_refused(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    job = ci_note.Job("https://gitlab.example.com/api/v4", "1", "2", 3, "abc", "https://job", "token")
    monkeypatch.setattr(ci_note.Job, "here", lambda: job)
    posted: list[str] = []
    monkeypatch.setattr(ci_note, "publish", lambda _job, _stack, text: posted.append(text))
    for status in (0, 255):
        fake.answer("preview", "Resources:\n    + 1 to create\n", status=status)
        assert ci.preview("staging") == (1 if status else 0)
        assert "1 to create" in capfd.readouterr().out
    assert [text.splitlines()[1] for text in posted] == ["### staging: 1 to create", "### staging: refused"]
    [shown, _] = [line for line in (fake.folder / "calls").read_text().splitlines() if line.startswith("preview")]
    policies = f"--policy-pack {ROOT / 'policies'}"
    assert shown == f"preview --stack staging --diff {policies} --non-interactive --color never"


@pytest.mark.parametrize(
    ("ends", "makes", "expected"),
    [((0, 0), 72, 0), ((2, 0), 72, 2), ((0, 1), 72, 1), ((2, 1), 72, 1), ((0, 1), 0, 0)],
)
def test_the_nightly_check_looks_at_both_and_fails_for_either(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, ends: tuple[int, int], makes: int, expected: int
) -> None:
    outputs = {"gitlab_url": "https://gitlab.example.com", "backup": {"max_age_hours": makes}}
    fake.answer("output", json.dumps(outputs))
    seen: list[str] = []

    def ended(what: str, status: int) -> int:
        seen.append(what)
        return status

    monkeypatch.setattr("tools.drift.drift", lambda stack, **_: ended(f"drift {stack}", ends[0]))
    monkeypatch.setattr("tools.backup.show", lambda stack: ended(f"backups {stack}", ends[1]))
    assert ci.nightly("staging") == expected
    assert seen == ["drift staging", *(["backups staging"] if makes else [])]
