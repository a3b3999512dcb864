"""The bot that keeps pins fresh: Renovate itself says how it reads `renovate.json`, and which pins it sees."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.cloud.tools import nodejs
from tests.sandbox.layout import current
from tools.environment import ROOT

CONFIG: dict[str, Any] = json.loads((ROOT / "renovate.json").read_text())
TAGS = {"DOCKER_TAGS", "NODE_TAGS", "DEBIAN_TAGS", "BUILDAH_TAGS", "REGISTRY_TAGS", "KAMAL_PROXY_TAGS"}
TAGS |= {"PYTHON_TAGS", "GOLANG_TAGS", "NGINX_TAGS", "TRIVY_TAGS", "COSIGN_TAGS"}
#: Constants that look like versions and are none to keep fresh: facts, or names that follow from the pins beside them.
FACTS = {
    "components/versions.py": {
        "GITLAB_OLDEST",
        "GITLAB_REQUIRED_STOPS",
        "GITLAB_LAST_KNOWN_MAJOR",
        "POSTGRESQL",
        "VALKEY",
    },
    "tests/sandbox/versions.py": {"GO_MINIMUM", *TAGS},
}
#: Why a pin is skipped although it is seen: the bot has a token for GitHub, and the tests have none.
SEEN = (None, "github-token-required")
#: A file, and a version that is pinned there.
Pin = tuple[str, str]


def renovate(folder: Path, script: str, *words: str, **variables: str) -> None:
    """Run one of Renovate's programs on this checkout; it must succeed."""
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "RENOVATE_BASE_DIR": str(folder), **variables}
    command = [*nodejs.command(current().cache, "renovate", f"dist/{script}.js"), *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> set[Pin]:
    """What Renovate finds in the files of this checkout, without asking anybody for newer versions."""
    folder = tmp_path_factory.mktemp("renovate")
    report = folder / "report.json"
    words = ("--platform=local", "--dry-run=extract", "--report-type=file", f"--report-path={report}")
    renovate(folder, "renovate", *words)
    [repository] = json.loads(report.read_text())["repositories"].values()
    files = [file for found in repository["packageFiles"].values() for file in found]
    return {
        (file["packageFile"], str(one["currentValue"]).removeprefix("=="))
        for file in files
        for one in file["deps"]
        if one.get("currentValue") and one.get("skipReason") in SEEN
    }


def constants(name: str) -> Iterator[Pin]:
    """The versions in a module of versions, but for those that are facts."""
    for node in ast.parse((ROOT / name).read_text()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or target.id in FACTS[name]:
            continue
        for one in ast.walk(node):
            if isinstance(one, ast.Constant) and isinstance(one.value, str) and (value := version_in(one.value)):
                yield name, value


def version_in(text: str) -> str:
    """The version that a constant holds, alone or in the name of an image; nothing if it holds none."""
    found = re.fullmatch(r"(?:[\w./-]+:)?(v?\d+(?:[.-][\w.-]+)?)|ubuntu-(\d+-\d+)-x64", text)
    return (found[1] or found[2]) if found else ""


def requirements(name: str) -> Iterator[Pin]:
    """The exact versions in a file of requirements, or in `pyproject.toml`."""
    for version in re.findall(r"^\s*\"?[\w.\[\]-]+==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE):
        yield name, version


def images(name: str) -> Iterator[Pin]:
    """The images in a file of a pipeline or of Docker."""
    for version in re.findall(r"^\s*(?:FROM|JOB_IMAGE:) \S+:(\S+)$", (ROOT / name).read_text(), re.MULTILINE):
        yield name, version


def pins() -> set[Pin]:
    """Every pin of the project, found without Renovate."""
    found = {pin for name in FACTS for pin in constants(name)}
    for name in ("pyproject.toml", *(path.name for path in ROOT.glob("requirements*.txt"))):
        found |= {*requirements(name)}
    for name in (".gitlab-ci.yml", "tools/Dockerfile"):
        found |= {*images(name)}
    npm = "tests/npm/package.json"
    return found | {(npm, version) for version in json.loads((ROOT / npm).read_text())["dependencies"].values()}


def test_no_pin_is_out_of_the_bots_sight(seen: set[Pin]) -> None:
    expected = pins()
    assert {name for name, _ in expected} >= {*FACTS, "pyproject.toml", "requirements.txt", ".gitlab-ci.yml"}
    assert len(expected) > 200
    assert expected - seen == set()


def test_what_is_a_fact_or_follows_from_a_pin_is_not_offered(seen: set[Pin]) -> None:
    assert {version for name, version in seen if name == "components/versions.py"} == {
        version for _, version in constants("components/versions.py")
    }


def test_the_links_of_the_template_and_the_application_of_users_are_left_alone(seen: set[Pin]) -> None:
    assert [name for name, _ in seen if name.startswith(("template/", "components/application/"))] == []


def test_renovate_understands_its_configuration(tmp_path: Path) -> None:
    renovate(tmp_path, "config-validator", "--strict", "--no-global", "renovate.json")


def test_a_mistake_in_the_configuration_would_be_found(tmp_path: Path) -> None:
    wrong = tmp_path / "renovate.json"
    wrong.write_text(json.dumps({**CONFIG, "packageRule": []}))
    with pytest.raises(AssertionError, match="Invalid configuration option: packageRule"):
        renovate(tmp_path, "config-validator", "--strict", "--no-global", str(wrong))


def test_every_rule_that_holds_a_pin_back_says_why() -> None:
    held = [rule for rule in CONFIG["packageRules"] if {"enabled", "allowedVersions"} & rule.keys()]
    held += [rule for rule in CONFIG["packageRules"] if rule.get("dependencyDashboardApproval")]
    assert len(held) > 5
    assert [rule for rule in held if not rule["description"].startswith("Held back: ")] == []


def test_every_comment_that_names_a_source_stands_above_a_pin_that_is_seen(seen: set[Pin]) -> None:
    for name in FACTS:
        lines = (ROOT / name).read_text().splitlines()
        below = [line for before, line in pairwise(lines) if before.startswith("# renovate: ")]
        assert len(below) > 5
        for line in below:
            value = version_in(line.partition('"')[2].rstrip('"'))
            assert (name, value) in seen, line
