"""Tags of images that only maintainers push: the rules, and how the pipeline copes with them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.settings import SettingsError
from tests.unit.delivered import delivered, pipeline
from tests.unit.engine import RecordingEngine, run_program

RULE = "gitlab:index/projectContainerTagProtection:ProjectContainerTagProtection"
PUSHED = f"sha256:{'a' * 64}"
IMAGE = "registry.example.test:5555/root/hello"
#: Tools that push everything but the tag in REFUSED.
TOOL = f"""#!/bin/sh
case "$*" in
  "build "*) ;;
  *":$REFUSED") echo "unauthorized: insufficient permissions to push or delete protected tag" >&2; exit 1 ;;
  *":$REFUSED "*) echo "unauthorized: insufficient permissions to push or delete protected tag" >&2; exit 1 ;;
  push*) echo "tag: digest: {PUSHED} size: 856" ;;
  *--digestfile*) printf '%s' "{PUSHED}" >digest.txt ;;
esac
"""


def rules(engine: RecordingEngine) -> dict[str, dict[str, Any]]:
    return {one.name: one.inputs for one in engine.custom if one.type == RULE}


def pattern_of(engine: RecordingEngine, name: str = "released-tags") -> str:
    return str(rules(engine)[f"delivery-hello-{name}"]["tagNameRegex"])


def run_job(folder: Path, builder: str, job: str, refused: str = "nothing") -> subprocess.CompletedProcess[str]:
    """Run the script of a job as GitLab Runner does, with stand-ins for the builders."""
    (folder / "bin").mkdir()
    for name in ("docker", "buildah"):
        tool = folder / "bin" / name
        tool.write_text(TOOL)
        tool.chmod(0o755)
    if job != "build":
        (folder / "image.txt").write_text(f"{IMAGE}@{PUSHED}\n")
    text = pipeline(delivered(runner={"builder": builder}))
    preparation = [line for line in text["default"]["before_script"] if line.startswith("not_pushed()")]
    lines = preparation + text[job]["script"]
    variables = {
        "CI_REGISTRY_IMAGE": IMAGE,
        "CI_COMMIT_BRANCH": "main",
        "CI_COMMIT_REF_NAME": "main",
        "CI_COMMIT_REF_PROTECTED": "true",
        "CI_COMMIT_REF_SLUG": "main",
        "CI_DEFAULT_BRANCH": "main",
        "CI_COMMIT_SHA": "c" * 40,
        "CI_JOB_ID": "7",
        "GITLAB_USER_LOGIN": "dana",
        "REFUSED": refused,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["sh", "-e"], input="\n".join(lines), env=variables, cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("tag", "guarded"), [("latest", True), ("release-1-0", True), ("latest-2", False), ("my-release-1-0", False)]
)
def test_what_the_default_branch_releases_is_pushed_and_deleted_by_maintainers_alone(
    tag: str, *, guarded: bool
) -> None:
    engine = delivered({"defaultBranch": "release/1.0"})
    assert bool(re.search(pattern_of(engine), tag)) is guarded
    inputs = rules(engine)["delivery-hello-released-tags"]
    assert inputs["minimumAccessLevelForPush"] == inputs["minimumAccessLevelForDelete"] == "MAINTAINER"


def test_more_tags_can_be_protected_and_their_rule_matches_them_as_a_whole() -> None:
    engine = delivered({"protectedTags": r"v\d+|stable"})
    assert list(rules(engine)) == ["delivery-hello-released-tags", "delivery-hello-protected-tags"]
    found = {
        tag for tag in ("v1", "stable", "v1-rc", "unstable") if re.search(pattern_of(engine, "protected-tags"), tag)
    }
    assert found == {"v1", "stable"}


@pytest.mark.parametrize(
    ("settings", "protected"),
    [
        ({}, True),
        ({"protectTags": False}, False),
        # Where developers may push to the default branch, their release jobs have to push its tags.
        ({"protectDefaultBranch": False}, False),
        ({"protectDefaultBranch": False, "protectTags": True}, True),
        ({"importId": "17"}, False),
        ({"importId": "17", "protectTags": True}, True),
        ({"importId": "17", "protectDefaultBranch": True}, True),
    ],
)
def test_tags_are_protected_by_default_where_the_default_branch_is(
    settings: dict[str, Any], *, protected: bool
) -> None:
    assert bool(rules(delivered(settings))) is protected


def test_a_protected_default_branch_of_an_imported_project_is_read_from_gitlab() -> None:
    engine = delivered({"importId": "17", "protectTags": True})
    assert pattern_of(engine) == "^(?:latest|master)$"


def test_a_rule_is_replaced_by_deleting_it_first_and_stays_on_kept_data() -> None:
    for removal, owner in (("everything", "delivery-hello-project"), ("keep-data", "server-droplet")):
        [rule] = [one for one in delivered(removal=removal).custom if one.type == RULE]
        assert rule.request.deleteBeforeReplace, "created first, it would be the old rule, which is then deleted"
        assert rule.deleted_with == owner
        assert list(rule.request.hooks.before_create) == ["delivery-hello-released-tags-before-create"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"protectedTags": "v("}, r"projects\[0\]\.protectedTags: v\( is not a regular expression"),
        ({"protectedTags": "(?!dev).*"}, "looks around or back"),
        ({"protectedTags": "v" * 95}, "has 95 characters; GitLab would reject it. Use at most 94"),
        ({"protectedTags": "v.*", "protectTags": False}, "has protectedTags, but the stack does not protect its tags"),
        ({"protectedTags": "v.*", "importId": "17"}, "has protectedTags, but the stack does not protect its tags"),
    ],
)
def test_protected_tags_that_gitlab_would_reject_or_ignore_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        delivered(settings)


def test_several_projects_have_rules_of_their_own() -> None:
    projects = [{"path": "hello"}, {"path": "other", "protectTags": False}, {"path": "third"}]
    engine = run_program(projects=projects, runners=[{"name": "docker-builder"}])
    assert set(rules(engine)) == {"delivery-hello-released-tags", "delivery-third-released-tags"}


@pytest.mark.parametrize("builder", ["docker", "buildah"])
@pytest.mark.parametrize(("job", "tag"), [("build", "main"), ("release", "latest")])
def test_a_job_that_may_not_push_a_protected_tag_fails_and_says_who_can(
    tmp_path: Path, builder: str, job: str, tag: str
) -> None:
    done = run_job(tmp_path, builder, job, refused=tag)
    assert done.returncode == 1, done.stderr
    assert "insufficient permissions to push or delete protected tag" in done.stderr
    said = (
        f"error: the tag {tag} was not pushed. If it is protected, that takes a maintainer, and dana started this job"
    )
    assert said in done.stdout
    assert "ask a maintainer to start the pipeline" in done.stdout


@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_a_release_that_may_push_its_tag_says_nothing_of_protection(tmp_path: Path, builder: str) -> None:
    done = run_job(tmp_path, builder, "release")
    assert (done.returncode, done.stdout) == (0, "")
