"""What the stack's pipeline builds from, on which branch. The build job runs here, with tools that take notes."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from components.build_pipeline import pipeline
from components.settings import Builder
from tests.unit.delivered import delivered

IMAGE = "registry.test:5555/root/hello"
SHARED, PROTECTED = f"{IMAGE}/cache", f"{IMAGE}/cache-protected"
PUSHED, MOVED = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
TOOL = f"""#!/bin/sh
printf '%s\\n' "$*" >>"$NOTES"
case "$*" in
  "push "*) echo "0123: digest: {PUSHED} size: 1609" ;;
  *inspect*) echo '{MOVED}' ;;
  *--digestfile*) echo '{PUSHED}' >digest.txt ;;
esac
"""


class Build:
    """The build job of a ref: its exit code and output, what its tools were asked for, and the image it hands on."""

    def __init__(
        self, folder: Path, builder: Builder, *, protected: bool, branch: str = "", tag: str = "", slug: str = ""
    ):
        tools = folder / "tools"
        tools.mkdir()
        for name in ("docker", "buildah"):
            (tools / name).write_text(TOOL)
            (tools / name).chmod(0o755)
        environment = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "NOTES": str(folder / "notes"),
            "CI_REGISTRY_IMAGE": IMAGE,
            "CI_COMMIT_SHA": "1" * 40,
            "CI_COMMIT_REF_NAME": tag or branch,
            "CI_COMMIT_REF_SLUG": slug or (tag or branch).lower().replace("/", "-"),
            "CI_COMMIT_REF_PROTECTED": str(protected).lower(),
            "CI_COMMIT_BRANCH": branch,
            "CI_DEFAULT_BRANCH": "main",
            "CI_JOB_ID": "7",
        }
        script = "\n".join(["set -e", *yaml.safe_load(pipeline(builder, (), None))["build"]["script"]])
        ran = subprocess.run(
            ["sh", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        self.code, self.output = ran.returncode, ran.stdout + ran.stderr
        notes = folder / "notes"
        self.calls = notes.read_text().splitlines() if notes.exists() else []
        self.image = (folder / "image.txt").read_text().strip() if (folder / "image.txt").exists() else ""

    def options(self, name: str) -> list[str]:
        """The values of an option of the build command."""
        [words] = [call.split() for call in self.calls if call.startswith("build ")]
        return [value for option, value in pairwise(words) if option == name]


@pytest.mark.parametrize(
    ("ref", "protected", "reads", "writes"),
    [
        ({"branch": "main"}, True, [PROTECTED], [PROTECTED]),
        ({"branch": "release/1"}, True, [PROTECTED], []),
        ({"tag": "v1.0"}, True, [PROTECTED], []),
        ({"branch": "feature"}, False, [PROTECTED, SHARED], [SHARED]),
        ({"tag": "v1.0"}, False, [PROTECTED, SHARED], [SHARED]),
        # A default branch that nobody has protected.
        ({"branch": "main"}, False, [PROTECTED, SHARED], [SHARED]),
    ],
)
def test_with_buildah_a_protected_ref_builds_from_nothing_that_a_developer_can_push(
    tmp_path: Path, ref: dict[str, str], protected: bool, reads: list[str], writes: list[str]
) -> None:
    build = Build(tmp_path, Builder.BUILDAH, **ref, protected=protected)
    assert (build.code, build.image) == (0, f"{IMAGE}@{PUSHED}"), build.output
    assert build.options("--cache-from") == reads
    assert build.options("--cache-to") == writes


@pytest.mark.parametrize(
    ("branch", "protected", "reads"),
    [
        ("main", True, [f"{IMAGE}:latest"]),
        ("release", True, [f"{IMAGE}:latest"]),
        ("feature", False, [f"{IMAGE}:latest", f"{IMAGE}:feature"]),
    ],
)
def test_with_docker_a_protected_ref_builds_from_the_released_image_alone(
    tmp_path: Path, branch: str, protected: bool, reads: list[str]
) -> None:
    assert Build(tmp_path, Builder.DOCKER, branch=branch, protected=protected).options("--cache-from") == reads


@pytest.mark.parametrize("builder", list(Builder))
def test_what_is_tested_and_released_is_what_was_pushed_even_if_somebody_moves_the_tag(
    tmp_path: Path, builder: Builder
) -> None:
    build = Build(tmp_path, builder, branch="main", protected=True)
    assert build.image == f"{IMAGE}@{PUSHED}", build.output
    assert MOVED not in build.output


@pytest.mark.parametrize("builder", list(Builder))
@pytest.mark.parametrize(("branch", "tag", "slug"), [("Main", "", "main"), ("", "main", "main"), ("latest", "", "")])
def test_a_ref_whose_image_would_replace_a_protected_one_is_refused_before_anything_is_built(
    tmp_path: Path, builder: Builder, branch: str, tag: str, slug: str
) -> None:
    build = Build(tmp_path, builder, branch=branch, tag=tag, slug=slug, protected=False)
    assert (build.code, build.calls) == (1, [])
    assert "would replace" in build.output


@pytest.mark.parametrize("builder", list(Builder))
def test_only_maintainers_push_what_the_protected_default_branch_is_built_from(builder: Builder) -> None:
    engine = delivered(runner={"builder": builder.value})
    rule = engine.named("delivery-hello-cache-protection").inputs
    assert rule["repositoryPathPattern"] == "root/hello/cache-protected"
    assert {rule["minimumAccessLevelForPush"], rule["minimumAccessLevelForDelete"]} == {"maintainer"}
    assert not [one for one in delivered({"protectDefaultBranch": False}).registrations if "cache-prot" in one.urn]
