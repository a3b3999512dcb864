"""Plain Pulumi, without make: what the README says, typed line by line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.sandbox.cloud.tools import python_packages
from tests.sandbox.layout import WORKSTATION, current
from tools.environment import ROOT


def lines() -> list[str]:
    """The commands of the README's section."""
    section = (ROOT / "README.md").read_text().partition("### Plain Pulumi")[2]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def publish(folder: Path) -> Path:
    """A repository with the files of this checkout as they are now, committed or not."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    # Stacks of tests keep no data, and the sandbox signs its packages with a key of its own: no policy is mandatory.
    pack = folder / "policies" / "pack.py"
    pack.write_text(pack.read_text().replace('frozenset({"production"})', "frozenset[str]()"))
    git = ["git", "-C", str(folder), "-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "All files"]):
        subprocess.run([*git, *words], check=True, stdin=subprocess.DEVNULL)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The workstation's own, where git finds the repository, and pip the packages, in files."""
    wheels = python_packages.folder(current().cache)
    assert wheels.exists(), "run `python -m tests.sandbox prepare --tests`"
    url = lines()[0].split()[-1]
    return os.environ | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{publish(tmp_path / 'published')}.insteadOf",
        "GIT_CONFIG_VALUE_0": url,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }


#: What differs from the account that the README has in mind: where the reader is, the one image that every sandbox has,
#: whose key signs the packages, and that nothing is to outlive the test.
DIFFERENCES = (
    "pulumi config set --path server.image debian-13-x64",
    "pulumi config set --path gitlab.packages.keyFingerprint unpinned",
    "pulumi config set removal everything",
)
READER, HERE = "203.0.113.7/32", f"{WORKSTATION.ip}/32"


def test_the_lines_of_the_readme_lead_from_a_clone_to_a_running_gitlab(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    *typed, preview, up = lines()
    assert (preview, up) == ("pulumi preview", "pulumi up")
    assert any(READER in line for line in typed)
    here, checkout = tmp_path / "here", tmp_path / "here" / "slipway"
    here.mkdir()
    settings = [line.replace(READER, HERE) for line in typed]

    def enter(*words: str, cwd: Path = checkout) -> str:
        script = "\n".join(words)
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=cwd, env=environment, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "Finished installing dependencies" in enter(*settings, cwd=here)
    assert yaml.safe_load((checkout / "stacks/Pulumi.mine.yaml").read_text())["config"] == {
        "slipway:domain": "example.com",
        "slipway:adminCidrs": [HERE],
    }
    assert re.search(r"\+ \d+ to create", enter(*DIFFERENCES, preview))
    assert installed(checkout) == locked()
    try:
        enter(f"{up} --yes --skip-preview")
        page = enter('curl --fail --silent --show-error "$(pulumi stack output gitlab_url)/users/sign_in"')
        assert "Sign in" in page
    finally:
        enter("pulumi destroy --yes --skip-preview", "pulumi stack rm --yes --stack mine")


def installed(checkout: Path) -> set[str]:
    """The packages in the environment of a checkout, without those that Pulumi's tool chain adds."""
    command = [str(checkout / ".cache/venv/bin/python"), "-m", "pip", "--disable-pip-version-check", "list"]
    done = subprocess.run([*command, "--format=freeze"], check=True, capture_output=True, text=True)
    found = done.stdout.splitlines()
    return {line.lower().replace("_", "-") for line in found if not is_installer(line)}


def locked() -> set[str]:
    """What the program's lock file pins on this machine, without the same."""
    lines = [line for line in python_packages.REQUIREMENTS.read_text().splitlines() if "==" in line]
    return {line.split()[0] for line in lines if not is_installer(line)}


def is_installer(line: str) -> bool:
    """Whether a line is of a package that the tool chain brings along; a library may need one of them, too."""
    return line.partition("==")[0] in python_packages.INSTALLERS
