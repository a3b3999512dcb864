"""Scripts and templates: what a machine is sent, what it contains, and how its language reads it."""

from __future__ import annotations

import hashlib
import re
import shlex
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pytest

from components import versions
from components.rendering import render, ruby_string, script
from tests.unit.delivered import delivered
from tests.unit.golden import image_program
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


#: Settings with which every script is sent.
FULL: dict[str, Any] = {
    "backup": {"enabled": True},
    "alerts": {"email": ["ops@example.test"]},
    "objectStorage": {"storage": "spaces"},
    "databases": {"postgresql": {"kind": "managed"}, "valkey": {"kind": "managed"}},
}


@pytest.fixture(scope="module")
def steps() -> dict[str, Step]:
    """Every script that the program sends, by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        project = {"deploy": [{"name": "demo", "droplet": {}, "healthCheck": {"command": "true"}}]}
        engine = delivered(project, **FULL)
        images = [image_program(kind) for kind in ("server", "docker-builder")]
    found = [step(one.inputs["stdin"]) for run in (engine, *images) for one in run.of_type(":Command")]
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


def test_a_step_begins_once_the_machine_has_booted(tmp_path: Path) -> None:
    booting = tmp_path / "systemctl"
    booting.write_text('#!/bin/sh\necho "$*"; touch booted; exit 1\n')
    booting.chmod(0o755)
    stdin, environment = f"{script(PRELUDE)}\ncat booted && echo written\n", {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-s"], input=stdin, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "written\n", "")


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
    return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False, timeout=60)


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
    log = f"PACKAGES_LOG={tmp_path}/log"
    done = shell(f"{log}; sleep() {{ :; }}; fetch() {{ {locked}; }}; with_apt_lock fetch; echo after")
    assert (done.returncode, done.stdout) == (0, "after\n")
    failing = shell(
        f"{log}; fetch() {{ echo Reading; echo 'E: no such host' >&2; false; }}; with_apt_lock fetch; echo after"
    )
    assert failing.returncode == 1
    assert failing.stderr.splitlines()[0] == "E: no such host"
    assert "after" not in failing.stdout
    assert (tmp_path / "log").read_text() == "E: Could not get lock /x\nReading\nE: no such host\n"


def test_why_a_package_refuses_is_shown_although_its_script_says_so_on_standard_output(tmp_path: Path) -> None:
    said = "Unpacking gitlab-ce\\ngitlab preinstall: It is required to upgrade to the latest 19.5.x version first\\n"
    done = shell(
        f"PACKAGES_LOG={tmp_path}/log; "
        f"refuse() {{ printf '{said}'; echo 'E: Sub-process returned 1' >&2; return 1; }}; "
        "with_apt_lock refuse"
    )
    assert done.stderr.startswith(
        "gitlab preinstall: It is required to upgrade to the latest 19.5.x version first\nE: Sub-process returned 1\n"
    )


def test_an_installation_goes_on_if_a_half_installed_package_cannot_be_completed(tmp_path: Path) -> None:
    programs = 'dpkg() { echo "dpkg: error processing" >&2; return 1; }; apt-get() { :; }; '
    done = shell(f"PACKAGES_LOG={tmp_path}/log; {programs} install_packages gitlab-ce=19.6.1-ce.0; echo after")
    assert (done.returncode, done.stdout) == (0, "after\n")
    assert "an interrupted installation could not be completed; continuing" in done.stderr


def test_a_long_step_reports_that_it_is_still_running_and_returns_its_status() -> None:
    beats = shell(
        "sleep() { command sleep 0.05; }; work() { command sleep 0.5; return 3; }; with_heartbeat fetching work"
    )
    assert "failed with status 3" in beats.stderr
    assert "fetching: still running after" in beats.stderr


@pytest.mark.parametrize(("killer", "status"), [("", 0), ("{ command sleep 0.2; kill -KILL $$; } &", -signal.SIGKILL)])
def test_what_reports_on_a_long_step_ends_with_it_even_if_it_never_hears_of_the_end(killer: str, status: int) -> None:
    """It keeps the step's connection open, and a shell that has just been forked can lose a signal."""
    deaf = "sleep() { trap '' TERM; command sleep 0.05; }; work() { command sleep 0.5; }"
    done = shell(f"{killer}\n{deaf}; with_heartbeat fetching work")
    assert done.returncode == status
    assert "fetching: still running after" in done.stderr


def test_a_file_that_is_not_accepted_gives_way_to_the_previous_one(tmp_path: Path) -> None:
    for before in (None, "before"):
        target = tmp_path / "some.conf"
        if before:
            target.write_text(before)
            target.chmod(0o640)
        check = f"grep -q good {target}"
        done = shell(f"write_checked {target} 600 {check} <<<bad || echo refused; write_checked {target} 600 true <<<x")
        assert done.stdout == "refused\n"
        done = shell(
            f"rm -f {target}; [ -z '{before or ''}' ] || install -m 640 /dev/null {target}; "
            f"write_checked {target} 600 {check} <<<bad || stat -c %a {target}"
        )
        assert done.stdout == ("640\n" if before else "")
        target.unlink(missing_ok=True)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("last", "lines"),
    [
        ("true", []),
        ("die because", ["error: because"]),
        ("found=$(die because); echo on", ["error: because"]),
        ("with_heartbeat x die because", ["error: because"]),
        ("ls /missing 2>/dev/null; echo on", ["error: step some-step failed with status 2; the lines above say why"]),
    ],
)
def test_a_step_ends_with_one_line_that_says_error_however_it_fails(last: str, lines: list[str]) -> None:
    done = shell(f'STEP=some-step\nat_exit say second\nat_exit say "it\'s first"\n{last}')
    assert (done.returncode, done.stdout) == (1 if lines else 0, "")
    named = [line for line in lines if "because" in line]
    assert done.stderr.splitlines() == [*named, "it's first", "second", *(line for line in lines if line not in named)]


def test_a_step_that_fails_on_a_full_disk_says_so_and_where() -> None:
    rows = ("Mounted Avail Inodes IFree", "/ 9000 900 800", "/var/opt/gitlab 3 900 800", "/var 9000 900 7")
    full = f"df() {{ printf '%s\\n' {shlex.join(rows)}; }}"
    done = shell(f"hostname() {{ echo box; }}; {full}; false")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: the disk of box is full: /var has 9000 MB left, /var/opt/gitlab has 3 MB left. ")
    apt = 'apt-get() { echo "E: You don\'t have enough free space in /var/cache/apt/archives/." >&2; return 100; }'
    done = shell(f"df() {{ :; }}; {apt}; with_apt_lock apt-get install x")
    assert "error: the disk of " in done.stderr


def test_what_a_step_has_begun_is_brought_to_its_end_if_nobody_listens_any_more(tmp_path: Path) -> None:
    text = f"{script('prelude.sh')}\nsay one; say two; touch {tmp_path}/done\n"
    process = subprocess.Popen(["bash", "-s"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stderr
    process.stderr.close()
    process.stdin.write(text)
    process.stdin.close()
    assert process.wait(20) == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"message":"400 Bad request"}', '{"message":"400 Bad request"}'),
        ("<!DOCTYPE html>\n<html><head>\n<title>GitLab is not responding (502)</title></head>", None),
        ("<html>\n<h1>Oops</h1>" + "x" * 5000, "an error page"),
    ],
)
def test_an_error_page_of_gitlab_is_not_shown(tmp_path: Path, answer: str, said: str | None) -> None:
    (tmp_path / "body").write_text(answer)
    done = shell(f"{script('gitlab.sh')}\ngitlab_says {tmp_path}/body")
    assert done.stdout == (said or 'an error page with the title "GitLab is not responding (502)"')


@pytest.mark.parametrize("name", ["commit-pipeline.sh", "seed-project.sh"])
def test_no_script_prints_an_answer_of_gitlab_as_it_is(name: str) -> None:
    assert "head -c" not in script(name)
    assert "gitlab_says" in script(name)


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
