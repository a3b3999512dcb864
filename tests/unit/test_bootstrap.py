"""The Python environment of a checkout: made once, by one process at a time, with what every Unix has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.makefile import run_make

ROOT = Path(__file__).resolve().parents[2]
#: What POSIX has. Commands such as flock, sha256sum, GNU's sed, apt-get and sudo are missing.
POSIX = ("cat", "cmp", "cp", "dirname", "env", "id", "ls", "mkdir", "rm", "sh", "uname")
#: Of GNU make after 3.81, bash after 3.2 and GNU's sed: macOS has none of it.
LATER = (
    r"^\.ONESHELL",
    r"^\w+ *(!=|::=)",
    r"^ *undefine ",
    r"\$\((file|guile|let|intcmp) ",
    r"declare -A|mapfile|readarray|\$\{\w+(,,|\^\^)|&>>|\|&",
    r"\bsed\b.*(-u|-i |\\t|\\n)",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose lock files ask for nothing, and a PATH with little more than Python."""
    folder = tmp_path / "slipway"
    (folder / "tools").mkdir(parents=True)
    for name in ("bootstrap.sh", "locked.py"):
        shutil.copy(ROOT / "tools" / name, folder / "tools")
    for name in ("tools", "sandbox"):
        (folder / f"requirements-{name}.txt").write_text(f"# {name}\n")
    (tmp_path / "bin").mkdir()
    for command in POSIX:
        (tmp_path / "bin" / command).symlink_to(shutil.which(command) or "missing")
    (tmp_path / "bin/python3").symlink_to(sys._base_executable)  # type: ignore[attr-defined]
    return folder


def start(checkout: Path, *arguments: str, shell: str = "sh") -> subprocess.Popen[str]:
    path = str(checkout.parent / "bin")
    return subprocess.Popen(
        [shutil.which(shell) or shell, checkout / "tools/bootstrap.sh", *arguments],
        env={"PATH": path, "HOME": str(checkout.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def bootstrap(checkout: Path, *arguments: str, shell: str = "sh") -> tuple[int, str]:
    process = start(checkout, *arguments, shell=shell)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_the_environment_is_made_once_with_nothing_that_is_not_on_every_unix(checkout: Path) -> None:
    code, output = bootstrap(checkout, "tools")
    assert (code, output.splitlines()[-1]) == (0, "[  env ] done")
    assert subprocess.run([checkout / ".cache/venv/bin/python", "-m", "pip", "--version"], check=True).returncode == 0
    assert bootstrap(checkout, "tools") == (0, "")


def test_the_larger_environment_serves_for_the_smaller_one_but_not_the_other_way(checkout: Path) -> None:
    assert bootstrap(checkout, "tools")[0] == 0
    assert "requirements-sandbox.txt" in bootstrap(checkout)[1]
    assert bootstrap(checkout, "tools") == (0, "")


def test_a_changed_lock_file_makes_it_again(checkout: Path) -> None:
    assert bootstrap(checkout, "tools")[0] == 0
    (checkout / "requirements-tools.txt").write_text("# changed\n")
    assert "requirements-tools.txt" in bootstrap(checkout, "tools")[1]


def test_of_two_at_the_same_time_one_makes_it_and_the_other_waits(checkout: Path) -> None:
    processes = [start(checkout, "tools") for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum("installing the Python packages" in output for output in outputs) == 1
    assert sum("waiting for another process" in output for output in outputs) == 1
    assert bootstrap(checkout, "tools") == (0, "")


def test_an_environment_that_was_left_half_made_is_made_again(checkout: Path) -> None:
    assert bootstrap(checkout, "tools")[0] == 0
    (checkout / ".cache/venv/.requirements.txt").unlink()
    assert "installing the Python packages" in bootstrap(checkout, "tools")[1]


def test_an_older_python_is_passed_over_and_without_another_the_error_says_what_to_do(checkout: Path) -> None:
    old = checkout.parent / "bin/python3"
    old.unlink()
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    assert bootstrap(checkout, "tools") == (1, "error: no Python 3.11 or newer on PATH: install one\n")
    (checkout.parent / "bin/python3.12").symlink_to(sys._base_executable)  # type: ignore[attr-defined]
    assert bootstrap(checkout, "tools")[0] == 0


def test_a_python_without_venv_is_an_error_where_there_is_no_apt(checkout: Path) -> None:
    broken = checkout.parent / "bin/python3"
    real = broken.resolve()
    broken.unlink()
    broken.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\nexec {real} "$@"\n')
    broken.chmod(0o755)
    code, output = bootstrap(checkout, "tools")
    assert code == 1
    assert "python3 has no modules venv and ensurepip: install them" in output


def test_a_set_of_packages_that_there_is_not_is_refused(checkout: Path) -> None:
    assert bootstrap(checkout, "all") == (
        1,
        "error: bootstrap.sh: all is not a valid choice; use tools or sandbox\n",
    )


@pytest.mark.parametrize("file", ["Makefile", "tools/bootstrap.sh"])
def test_nothing_needs_a_newer_make_or_bash_than_macos_has(file: str) -> None:
    text = (ROOT / file).read_text()
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert [pattern for pattern in LATER if re.search(pattern, code, re.MULTILINE)] == []


def environment_of(target: str, *variables: str) -> str:
    """The packages that a target of the Makefile asks for."""
    done = run_make("--dry-run", target, *variables)
    [line] = {line for line in done.stdout.splitlines() if line.startswith("tools/bootstrap.sh")}
    return line.removeprefix("tools/bootstrap.sh ")


def test_a_real_stack_needs_the_tools_alone_and_developers_need_everything() -> None:
    assert environment_of("preview", "STACK=production") == "tools"
    assert environment_of("preview") == "sandbox"
    assert environment_of("test", "STACK=production") == "sandbox"
