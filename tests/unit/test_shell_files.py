"""Every shell file of the repository, wherever it is: ShellCheck finds nothing in it."""

from __future__ import annotations

import re
import string
import subprocess
from pathlib import Path

import pytest
import yaml

from components.build_pipeline import pipeline, pipeline_of
from components.settings import Builder, ProjectSettings, SupplyChain
from tests.unit.stack_file_corpus import PUBLIC_KEY

ROOT = Path(__file__).resolve().parents[2]
SHEBANG = re.compile(rb"#! ?/\S*?(?:\benv +)?\b(ba|da)?sh\b")

#: Linted in test_scripts.py in the form in which they are sent to a machine.
SENT = re.compile(r"components/files/[^/]+\.sh")


def is_shell(path: Path) -> bool:
    """Whether a file is a shell script, by its name or by its first line."""
    if path.suffix in {".sh", ".bash"} or path.name.endswith(".sh.template"):
        return True
    with path.open("rb") as file:
        return SHEBANG.match(file.readline(100)) is not None


def shell_files(root: Path) -> list[str]:
    """Shell files that Git knows in the checkout `root`, and new ones that it does not ignore; no links to them."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = {name: root / name for name in names if name}
    return sorted(name for name, path in paths.items() if path.is_file() and not path.is_symlink() and is_shell(path))


def rendered(path: Path) -> str:
    """The text of a script; a template with placeholders filled in."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".template":
        names = string.Template(text).get_identifiers()
        return string.Template(text).substitute({name: f"a-{name}" for name in names})
    if path.suffix == ".erb":
        text = re.sub(r"^<%-?(?!=).*?-%>\n", "", text, flags=re.MULTILINE)
        return re.sub(r"<%.*?%>", "", re.sub(r"<%=.*?%>", "value", text))
    return text


def findings(text: str, *options: str) -> str:
    """What ShellCheck reports about a script; nothing if it is clean."""
    done = subprocess.run(["shellcheck", *options, "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


FILES = shell_files(ROOT)


@pytest.mark.parametrize("name", [name for name in FILES if not SENT.fullmatch(name)])
def test_shellcheck_finds_nothing_in_a_shell_file(name: str) -> None:
    assert findings(rendered(ROOT / name)) == ""


@pytest.mark.parametrize("builder", Builder)
def test_shellcheck_finds_nothing_in_the_jobs_of_the_generated_pipeline(builder: Builder) -> None:
    text = yaml.safe_load(pipeline(builder, [], "https://mirror.example.test"))
    for job in ("build", "test", "release"):
        lines = ["#!/bin/sh", *text["default"]["before_script"], *text[job]["script"]]
        assert findings("\n".join(lines)) == "", job


def test_shellcheck_finds_nothing_in_a_deploy_job() -> None:
    environment = {"name": "staging", "host": "203.0.113.7", "user": "deploy", "hostKey": PUBLIC_KEY}
    deploy = [{**environment, "healthCheck": {"command": "it's"}, "variables": ["A", "B"]}]
    settings = ProjectSettings.model_validate({"path": "hello", "deploy": deploy})
    job = yaml.safe_load(pipeline_of(settings, Builder.DOCKER, None, None, SupplyChain()))["deploy:staging"]
    assert findings("\n".join(["#!/bin/sh", *job["before_script"], *job["script"]])) == ""


def test_shell_files_are_found_in_every_part_of_the_repository_whatever_their_names() -> None:
    parts = {name.split("/")[0] for name in FILES}
    assert {".ci", "components", "tests", "tools"} <= parts
    assert {"components/files/prelude.sh", "components/files/runner/prune.sh", ".ci/run"} <= set(FILES)
    assert {"postinst", "post-receive"} <= {Path(name).name for name in FILES}
    assert {".sh", ".erb", ".template", ""} <= {Path(name).suffix for name in FILES}


def test_a_new_shell_file_is_linted_before_it_is_committed(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("ignored.sh\n")
    for name, text in {
        "hook": "#!/bin/sh\nrm $1\n",
        "env": "#!/usr/bin/env bash\n",
        "fragment.sh": "main() { :; }\n",
        "ignored.sh": "",
        "program": "#!/usr/bin/python3\n",
        "notes": "sh\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert shell_files(tmp_path) == ["env", "fragment.sh", "hook"]
    assert "SC2086" in findings(rendered(tmp_path / "hook"))
