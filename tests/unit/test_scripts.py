"""Scripts and templates: what a machine is sent, what it contains, and how its language reads it."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pytest

from components import versions
from components.rendering import render, ruby_string, script
from tests.unit.delivered import delivered
from tests.unit.test_shell_files import findings

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "components" / "files"
PRELUDE = "prelude.sh"
SHELL = sorted(path.name for path in FILES.glob("*.sh") if path.name != PRELUDE)
SCRIPTS = [name for name in SHELL if "\nmain() {\n" in script(name)]


@dataclass(frozen=True)
class Step:
    """One script as a command gets it: its name, its libraries, and the names of its values."""

    script: str
    libraries: tuple[str, ...]
    values: frozenset[str]


def step(stdin: str) -> Step:
    """Take the standard input of a command apart."""
    assert stdin.startswith(script(PRELUDE))
    *libraries, last = sorted(
        (name for name in SHELL if script(name) in stdin), key=lambda name: stdin.index(script(name))
    )
    first = (*libraries, last)[0]
    assigned = stdin.removeprefix(script(PRELUDE)).split(script(first))[0]
    names = {word.split("=", 1)[0] for word in shlex.split(assigned, comments=True)}
    return Step(last, tuple(libraries), frozenset(names - {"LIMIT_SECONDS", "STEP"}))


@pytest.fixture(scope="module")
def steps() -> dict[str, Step]:
    """Every script that the program sends, by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        engine = delivered(backup={"enabled": True})
    found = [step(command.inputs["stdin"]) for command in engine.of_type(":Command")]
    return {one.script: one for one in found}


def named_values(name: str) -> set[str]:
    """The values that the header comment of a script names."""
    header = re.match(r"(#.*\n)+", script(name))
    assert header
    [*_, inputs] = header[0].replace("\n# ", " ").split("Input: ")
    return set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", re.sub(r"\([^)]*\)", "", inputs)))


def test_every_script_and_every_library_is_sent_to_a_machine(steps: dict[str, Step]) -> None:
    assert len(SCRIPTS) >= 10
    assert sorted(steps) == SCRIPTS
    assert {library for one in steps.values() for library in one.libraries} == set(SHELL) - set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing_in_a_script_as_it_is_sent(steps: dict[str, Step], name: str) -> None:
    one = steps[name]
    values = [f"{value}=x" for value in ("LIMIT_SECONDS", "STEP", *sorted(one.values))]
    bodies = [script(file) for file in (*one.libraries, name)]
    whole = "\n".join(["#!/bin/bash", script(PRELUDE), *values, *bodies, "main </dev/null", ""])
    # 2317, 2329: a script need not use every function of a library. Variables in capitals must be values that are sent.
    assert findings(whole, "--enable=check-unassigned-uppercase", "--exclude=2317,2329") == ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_names_exactly_the_values_that_it_gets(steps: dict[str, Step], name: str) -> None:
    assert named_values(name) == steps[name].values


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_uses_every_value_that_it_gets(steps: dict[str, Step], name: str) -> None:
    code = "\n".join(script(file) for file in (*steps[name].libraries, name))
    assert [value for value in steps[name].values if not re.search(rf"\$\{{?{value}\b", code)] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_sent_with_the_libraries_that_it_calls_and_no_others(steps: dict[str, Step], name: str) -> None:
    libraries = set(SHELL) - set(SCRIPTS)
    defined = {file: set(re.findall(r"^(\w+)\(\)", script(file), re.MULTILINE)) for file in libraries}
    words = {file: words_of_code(script(file)) for file in (name, *steps[name].libraries)}
    called = {
        library
        for library, functions in defined.items()
        for file in words
        if file != library and functions & words[file]
    }
    assert called == set(steps[name].libraries)


def words_of_code(text: str) -> set[str]:
    """All words outside of comments and of the definitions of functions."""
    code = "\n".join(line.split("# ")[0] for line in text.splitlines())
    return set(re.findall(r"\b\w+\b(?!\(\))", code))


def test_every_message_that_the_manual_explains_is_one_that_a_script_prints() -> None:
    table = (ROOT / "docs" / "troubleshooting.md").read_text().split("## Messages of `pulumi up`")[1].split("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(messages) >= 5
    everything = "\n".join(script(name) for name in (PRELUDE, *SHELL))
    for message in messages:
        missing = [part for part in re.split(r" ?…|: | \(curl", message) if part.strip(" )") not in everything]
        assert missing == [], message


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("gitlab-configuration", versions.GITLAB),
        ("registry-login", "stdout of registry-storage"),
        ("delivery-docker-builder-1-registration", versions.GITLAB_RUNNER),
        ("delivery-docker-builder-online", "stdout of delivery-docker-builder-1-registration"),
    ],
)
def test_what_a_script_must_follow_without_using_it_is_a_comment_so_that_a_change_updates_it(
    name: str, cause: str
) -> None:
    command = delivered().named(name).inputs
    lines = [line for line in command["stdin"].splitlines() if cause in line]
    assert lines
    assert [line for line in lines if not line.startswith("# ")] == []
    # A change of these would replace the step instead.
    assert command["triggers"] == ["4711"]


@pytest.mark.parametrize("name", SHELL)
def test_a_script_does_nothing_until_it_is_complete(name: str) -> None:
    done = subprocess.run(["bash", "-s"], input=script(name), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def shell(body: str) -> subprocess.CompletedProcess[str]:
    """Run `body` after the prelude that every script starts with, and what installs packages."""
    text = f"{script('prelude.sh')}\n{script('apt.sh')}\nLIMIT_SECONDS=7\n{body}"
    return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)


def test_a_file_is_written_completely_with_its_mode_and_owner_and_only_if_it_differs(tmp_path: Path) -> None:
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


def test_a_file_that_cannot_be_written_completely_is_left_unchanged(tmp_path: Path) -> None:
    target = tmp_path / "some.conf"
    target.write_text("before")
    # The limit is one block of 1024 bytes, which acts like a full disk.
    done = shell(f"ulimit -f 1; trap '' XFSZ; head -c 5000 /dev/zero | write_file {target} 600; echo on")
    assert done.returncode == 1
    assert "could not be written; is the disk full?" in done.stderr
    assert "on" not in done.stdout.split()
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["some.conf"]


def test_a_script_waits_for_a_locked_apt_and_reports_any_other_failure(tmp_path: Path) -> None:
    once = tmp_path / "once"
    locked = f"if [ -e {once} ]; then true; else touch {once}; echo 'E: Could not get lock /x' >&2; false; fi"
    done = shell(f"sleep() {{ :; }}; fetch() {{ {locked}; }}; with_apt_lock fetch; echo after")
    assert (done.returncode, done.stdout) == (0, "after\n")
    failing = shell("fetch() { echo 'E: no such host' >&2; false; }; with_apt_lock fetch; echo after")
    assert failing.returncode == 1
    assert "E: no such host" in failing.stderr
    assert "after" not in failing.stdout


def test_a_long_step_reports_that_it_is_still_running_and_returns_its_status() -> None:
    beats = shell(
        "sleep() { command sleep 0.05; }; work() { command sleep 0.5; return 3; }; with_heartbeat fetching work"
    )
    assert beats.returncode == 3
    assert "fetching: still running after" in beats.stderr


def test_a_step_that_exceeds_its_time_limit_says_so() -> None:
    done = shell("kill -TERM $$; sleep 5")
    assert done.returncode == 1
    assert "exceeded its limit of 7 seconds" in done.stderr


def test_gitlab_is_called_with_a_token_that_is_in_no_command_line(tmp_path: Path) -> None:
    seen = tmp_path / "arguments"
    curl = f'curl() {{ printf \'%s\\n\' "$@" >{seen}; cat "$5" >&2; printf 200; }}'
    values = "GITLAB_URL=https://g.test API_TOKEN=glpat-the-token"
    done = shell(f"{script('gitlab.sh')}\n{curl}\n{values}\ngitlab_api runners/7 /dev/null --max-time 9")
    assert (done.stdout, done.stderr) == ("200", 'header = "PRIVATE-TOKEN: glpat-the-token"\n')
    arguments = seen.read_text().splitlines()
    assert arguments[-3:] == ["--max-time", "9", "https://g.test/api/v4/runners/7"]
    assert "g.test:443:127.0.0.1" in arguments
    assert "the-token" not in str(arguments)


def test_a_gitlab_that_does_not_respond_has_status_000() -> None:
    values = "GITLAB_URL=https://g.test API_TOKEN=t"
    done = shell(f"{script('gitlab.sh')}\ncurl() {{ printf 000; return 7; }}\n{values}\ngitlab_api user /dev/null")
    assert (done.returncode, done.stdout) == (0, "000")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("Verifying runner... is valid  runner=abc", None),
        ("Verifying runner... is not valid  runner=abc\nFATAL: Failed to verify runners", "rejects the runner's token"),
        ("ERROR: Verifying runner... is removed  runner=abc", "rejects the runner's token"),
        # The real program exits with 0 here.
        ("ERROR: Verifying runner... failed  status=502 Bad Gateway", "could not verify the runner's token"),
        ("", "could not verify the runner's token"),
    ],
)
def test_a_runner_is_registered_only_if_gitlab_accepts_its_token(answer: str, error: str | None) -> None:
    program = f"gitlab-runner() {{ printf '%s\\n' {shlex.quote(answer)}; }}"
    done = shell(f"{script('register-runner.sh')}\nGITLAB_URL=https://g.test\n{program}\nverify_token; echo after")
    assert (done.stdout == "after\n") is (error is None)
    assert done.returncode == (1 if error else 0)
    assert (error or "") in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "is_pruned"),
    [
        (None, 'token = "a"', False),
        ('token = "a"\nconcurrent = 1', 'token = "a"\nconcurrent = 2', False),
        ('token = "a"', 'token = "b"', True),
        ('token = "a"\nallowed_pull_policies = ["always"]', 'token = "a"\nallowed_pull_policies = ["never"]', True),
    ],
)
def test_images_of_former_projects_are_removed_when_a_runner_may_serve_others(
    tmp_path: Path, before: str | None, after: str, is_pruned: bool
) -> None:
    file = tmp_path / "config.toml"
    if before is not None:
        file.write_text(f"{before}\n")
    text = script("register-runner.sh").replace("/etc/gitlab-runner", str(tmp_path))
    done = shell(f'{text}\ndocker() {{ say "docker $*"; }}\nCONFIGURATION={shlex.quote(after)}\nwrite_configuration')
    assert file.read_text() == f"{after}\n"
    assert ("docker image prune --all" in done.stderr) is is_pruned


@pytest.mark.parametrize(
    ("before", "after", "message"), [(5000, 5000, ""), (9, 5000, "removing"), (9, 9, "disk of box")]
)
def test_a_full_disk_is_cleaned_up_first_and_reported_if_that_does_not_help(
    before: int, after: int, message: str
) -> None:
    world = f"""
        HOSTNAME=box; left={before}
        docker() {{ echo /; }}; systemctl() {{ left={after}; }}; df() {{ printf 'Avail\\n%s\\n' "$left"; }}
    """
    done = shell(f"{script('disk-space.sh')}\n{world}\nrequire_disk_space; echo after")
    assert (done.stdout == "after\n") is (after > 1024)
    assert message in done.stderr


@pytest.mark.parametrize("value", ["plain", "it's", "back\\slash", "#{1 + 1}", 'say "hello"', "\\'"])
def test_ruby_reads_a_quoted_string_unchanged(value: str) -> None:
    done = subprocess.run(["ruby", "-e", f"print {ruby_string(value)}"], capture_output=True, text=True, check=True)
    assert done.stdout == value


def test_the_first_boot_never_changes_because_that_would_replace_every_existing_droplet() -> None:
    names = ("admin_user", "admin_key", "host_private_key", "host_public_key")
    text = render("cloud-config.yaml.j2", **{name: name for name in names})
    assert text.startswith("#cloud-config\n")
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "403c39319ea87d2660382ae12d56b4f3d2e4ce185c8b793ad868dc3664fbd3f4"


def test_a_template_cannot_be_rendered_without_its_values() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("registry.rb.j2")
