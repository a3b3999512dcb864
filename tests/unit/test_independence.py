"""What runs in a user's real environment, `components/` and `tools/`, does without `tests/`."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.makefile import run_make
from tests.unit.source import tree

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("components", "tools")
#: The package in a path or in the name of a module, and alone; not the word in a sentence.
NAMED = re.compile(r"^tests$|(?<![\w./-])tests[./]\w")
#: Targets of the Makefile that are for the sandbox and for developers.
NOT_FOR_REAL_STACKS = {"help", "test", "nightly", "faults", "test-scale", "docs", "lock", "bench", "screenshots"}


def references(text: str) -> Iterator[str]:
    """The places where Python code imports the tests, at its top or later, or has them in a string."""
    for node in ast.walk(tree(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        else:
            continue
        yield from (f"line {node.lineno}: {name}" for name in names if NAMED.search(name))


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_refers_to_the_tests(package: str) -> None:
    files = [file for file in (ROOT / package).rglob("*.py") if "__pycache__" not in file.parts]
    assert len(files) > 5
    found = [f"{file.relative_to(ROOT)} {place}" for file in files for place in references(file.read_text())]
    assert found == []


def test_the_program_and_its_shell_scripts_do_not_refer_to_the_tests() -> None:
    assert list(references((ROOT / "__main__.py").read_text())) == []
    scripts = [file for package in PACKAGES for file in (ROOT / package).rglob("*.sh")]
    assert ROOT / "tools/bootstrap.sh" in scripts
    assert [file.name for file in scripts if re.search(r"\btests[./]", file.read_text())] == []


@pytest.mark.parametrize(
    "code",
    [
        "import tests.sandbox.layout",
        "from tests import sandbox",
        "def late():\n    from tests.sandbox.cloud import lifecycle",
        "import importlib\nimportlib.import_module('tests.sandbox.cli')",
        "__import__('tests')",
        "import subprocess\nsubprocess.run(['python', '-m', 'tests.sandbox', 'start'])",
        "import os\nos.system('python -m tests.sandbox start')",
        "from pathlib import Path\nPath('tests/sandbox/versions.py').read_text()",
    ],
)
def test_a_reference_to_the_tests_would_be_found(code: str) -> None:
    assert len(list(references(code))) == 1


def targets() -> list[str]:
    lines = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:")]
    return [target for line in lines for target in line.removeprefix(".PHONY:").split()]


@pytest.mark.parametrize("target", sorted({*targets()} - NOT_FOR_REAL_STACKS))
def test_no_command_for_a_real_stack_names_the_tests(target: str) -> None:
    done = run_make("--dry-run", target, "STACK=production", check=False)
    assert done.returncode == 0, done.stderr
    assert "tools/bootstrap.sh" in done.stdout
    assert "tests" not in done.stdout


#: Targets that need nothing but Python.
WITHOUT_TOOLS = {"env", "new", "prepared"}


@pytest.mark.parametrize("target", sorted({*targets()} - NOT_FOR_REAL_STACKS - WITHOUT_TOOLS))
def test_a_command_for_a_real_stack_prepares_the_tools_and_runs_with_them(target: str) -> None:
    lines = run_make("--dry-run", target, "STACK=production", check=False).stdout.splitlines()
    prepare = lines.index(".cache/venv/bin/python -m tools prepare")
    [first, *_] = [number for number, line in enumerate(lines) if "-m tools exec --" in line]
    assert prepare < first


@pytest.mark.parametrize("target", ["bench", "screenshots"])
def test_what_is_for_the_sandbox_alone_refuses_other_stacks(target: str) -> None:
    done = run_make(target, "STACK=production", check=False)
    assert done.returncode == 2
    assert f"error: make {target} works in the sandbox only: leave STACK out" in done.stderr


def test_every_phony_target_has_a_rule_and_every_rule_is_a_phony_target() -> None:
    heads = re.findall(r"^([a-z][a-z -]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {name for head in heads for name in head.split()} == {*targets()}


@pytest.fixture(scope="module")
def without_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout from which the tests were removed."""
    copy = tmp_path_factory.mktemp("checkout") / "slipway"
    ignored = shutil.ignore_patterns("tests", ".*", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_without_the_tests_every_module_can_be_imported(without_tests: Path) -> None:
    files = [file for package in PACKAGES for file in (without_tests / package).rglob("*.py")]
    names = [".".join(file.relative_to(without_tests).with_suffix("").parts) for file in files]
    modules = sorted(name.removesuffix(".__init__") for name in names if not name.endswith(".__main__"))
    assert {"tools.verify", "tools.bench", "components.gitlab"} <= {*modules}
    lines = ["import importlib, tools", *(f"importlib.import_module({name!r})" for name in modules)]
    done = python(without_tests, "-c", "\n".join([*lines, "print(tools.__file__)"]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(without_tests / "tools/__init__.py")


def test_without_the_tests_the_command_line_lists_its_commands(without_tests: Path) -> None:
    done = python(without_tests, "-m", "tools", "--help")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("prepare", "exec", "verify", "demo", "bench"))
