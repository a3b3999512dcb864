"""Scripts and templates: that they are what their language takes them for."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import jinja2
import pytest

from components.rendering import render, ruby_string, script

FILES = Path(__file__).resolve().parents[2] / "components" / "files"
SHELL = sorted(path.name for path in FILES.glob("*.sh"))


@pytest.mark.parametrize("name", SHELL)
def test_a_script_is_clean_to_the_shell_checker(name: str, tmp_path: Path) -> None:
    whole = tmp_path / name
    whole.write_text(f"#!/bin/bash\n{script('prelude.sh')}\n{script(name) if name != 'prelude.sh' else ''}")
    # 2154 and 2034: values come from outside. 2317 and 2329: `main` is called by the line that is added on the way.
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "--exclude=2154,2034,2317,2329", str(whole)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [name for name in SHELL if name != "prelude.sh"])
def test_a_script_does_nothing_until_it_is_whole(name: str) -> None:
    done = subprocess.run(["bash", "-s"], input=script(name), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", [name for name in SHELL if name != "prelude.sh"])
def test_a_script_names_every_value_that_it_takes(name: str) -> None:
    head = script(name).split("main()")[0]
    assert "Input:" in head


def test_a_file_is_written_whole_with_its_mode_and_only_when_it_differs(tmp_path: Path) -> None:
    target = tmp_path / "some.conf"
    functions = script("prelude.sh").split("# A run that was killed")[0] + _function("write_file")

    def write(text: str) -> int:
        body = f"{functions}\nwrite_file {shlex.quote(str(target))} 600 <<<{shlex.quote(text)}"
        return subprocess.run(["bash", "-c", body], check=False).returncode

    assert write("one") == 0
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("one\n", 0o600)
    assert write("one") == 1
    target.chmod(0o644)
    assert write("one") == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["some.conf"]


@pytest.mark.parametrize("value", ["plain", "it's", "back\\slash", "#{1 + 1}", 'say "hello"', "\\'"])
def test_ruby_reads_a_quoted_string_as_it_was(value: str) -> None:
    done = subprocess.run(["ruby", "-e", f"print {ruby_string(value)}"], capture_output=True, text=True, check=True)
    assert done.stdout == value


def test_a_template_refuses_to_be_rendered_without_its_values() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("registry.rb.j2")


def _function(name: str) -> str:
    text = script("prelude.sh")
    start = text.index(f"{name}() {{")
    return text[start : text.index("\n}\n", start) + 3]
