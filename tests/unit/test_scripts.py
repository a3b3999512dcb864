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


def shell(body: str) -> subprocess.CompletedProcess[str]:
    """Run `body` after the common beginning of all scripts."""
    text = f"{script('prelude.sh')}\nLIMIT_SECONDS=7\n{body}"
    return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)


def test_a_file_is_written_whole_with_its_mode_and_owner_and_only_when_it_differs(tmp_path: Path) -> None:
    target = tmp_path / "some.conf"

    def write(text: str) -> str:
        return shell(f"write_file {shlex.quote(str(target))} 600 <<<{shlex.quote(text)}; echo $changed").stdout.strip()

    assert write("one") == "yes"
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("one\n", 0o600)
    assert write("one") == "no"
    target.chmod(0o644)
    assert write("one") == "yes"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["some.conf"]


def test_a_file_that_cannot_be_written_whole_is_left_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "some.conf"
    target.write_text("before")
    # Files may have one block of 1024 bytes, as on a disk that is full.
    done = shell(f"ulimit -f 1; trap '' XFSZ; head -c 5000 /dev/zero | write_file {target} 600; echo on")
    assert done.returncode == 1
    assert "could not be written; is the disk full?" in done.stderr
    assert "on" not in done.stdout.split()
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["some.conf"]


def test_a_locked_apt_is_waited_for_and_any_other_failure_is_told(tmp_path: Path) -> None:
    once = tmp_path / "once"
    locked = f"if [ -e {once} ]; then true; else touch {once}; echo 'E: Could not get lock /x' >&2; false; fi"
    done = shell(f"sleep() {{ :; }}; fetch() {{ {locked}; }}; unlocked fetch; echo after")
    assert (done.returncode, done.stdout) == (0, "after\n")
    failing = shell("fetch() { echo 'E: no such host' >&2; false; }; unlocked fetch; echo after")
    assert failing.returncode == 1
    assert "E: no such host" in failing.stderr
    assert "after" not in failing.stdout


def test_a_long_step_says_that_it_still_runs_and_hands_on_its_status() -> None:
    beats = shell("sleep() { command sleep 0.05; }; work() { command sleep 0.5; return 3; }; patiently fetching work")
    assert beats.returncode == 3
    assert "fetching: still at it after" in beats.stderr


def test_a_step_that_runs_out_of_time_says_so() -> None:
    done = shell("kill -TERM $$; sleep 5")
    assert done.returncode == 1
    assert "did not end within its limit of 7 seconds" in done.stderr


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("Verifying runner... is valid  runner=abc", None),
        ("Verifying runner... is not valid  runner=abc\nFATAL: Failed to verify runners", "refuses the runner's token"),
        ("ERROR: Verifying runner... is removed  runner=abc", "refuses the runner's token"),
        # The real program ends with 0 here.
        ("ERROR: Verifying runner... failed  status=502 Bad Gateway", "could not be asked whether it knows the runner"),
        ("", "could not be asked whether it knows the runner"),
    ],
)
def test_a_runner_is_registered_only_when_gitlab_takes_its_token(answer: str, told: str | None) -> None:
    program = f"gitlab-runner() {{ printf '%s\\n' {shlex.quote(answer)}; }}"
    done = shell(f"{script('register-runner.sh')}\nGITLAB_URL=https://g.test\n{program}\nsee_token; echo after")
    assert (done.stdout == "after\n") is (told is None)
    assert done.returncode == (1 if told else 0)
    assert (told or "") in done.stderr


@pytest.mark.parametrize(("before", "after", "told"), [(5000, 5000, ""), (9, 5000, "removing"), (9, 9, "disk of box")])
def test_a_disk_without_room_is_cleared_first_and_named_if_that_does_not_help(
    before: int, after: int, told: str
) -> None:
    world = f"""
        HOSTNAME=box; left={before}
        docker() {{ echo /; }}; systemctl() {{ left={after}; }}; df() {{ printf 'Avail\\n%s\\n' "$left"; }}
    """
    done = shell(f"{script('disk-space.sh')}\n{world}\nsee_room; echo after")
    assert (done.stdout == "after\n") is (after > 1024)
    assert told in done.stderr


@pytest.mark.parametrize("value", ["plain", "it's", "back\\slash", "#{1 + 1}", 'say "hello"', "\\'"])
def test_ruby_reads_a_quoted_string_as_it_was(value: str) -> None:
    done = subprocess.run(["ruby", "-e", f"print {ruby_string(value)}"], capture_output=True, text=True, check=True)
    assert done.stdout == value


def test_a_template_refuses_to_be_rendered_without_its_values() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("registry.rb.j2")
