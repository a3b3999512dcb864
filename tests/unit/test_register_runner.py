"""The step that registers a runner, on a machine whose commands are played."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from components.rendering import script
from tests.unit.test_scripts import shell


def test_a_runner_that_does_not_keep_running_gets_its_former_configuration_back(tmp_path: Path) -> None:
    text = script("register-runner.sh").replace("/etc/gitlab-runner", str(tmp_path))
    (tmp_path / "config.toml").write_text("former\n")
    world = """
        systemctl() { [ "$1" != show ] || echo 0; say "systemctl $*"; }; docker() { :; }; sleep() { :; }
        require_disk_space() { :; }; trust_ca_certificate() { :; }; await_gitlab() { :; }; verify_token() { :; }
    """
    done = shell(f"{text}\n{world}\nCONFIGURATION=new\nmain")
    assert done.returncode == 1
    assert "error: gitlab-runner does not keep running; its former configuration is in effect again" in done.stderr
    assert "systemctl restart gitlab-runner" in done.stderr
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("config.toml", "former\n")]


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
def test_a_runner_is_registered_only_if_gitlab_accepts_its_token(
    tmp_path: Path, answer: str, error: str | None
) -> None:
    # It is asked about the new configuration, and not about the one that the service uses.
    ask = f"[ \"$1 $2\" = 'verify --config' ] && grep -qx new \"$3\" && printf '%s\\n' {shlex.quote(answer)}"
    text = script("register-runner.sh").replace("/etc/gitlab-runner", str(tmp_path))
    done = shell(
        f"{text}\nGITLAB_URL=https://g.test CONFIGURATION=new\ngitlab-runner() {{ {ask}; }}\nverify_token; echo after"
    )
    assert list(tmp_path.iterdir()) == []
    assert (done.stdout == "after\n") is (error is None)
    assert done.returncode == (1 if error else 0)
    assert (error or "") in done.stderr


EMPTIED = ["systemctl stop gitlab-runner", "rm -rf --one-file-system /none/data/* /none/containerd/*"]


@pytest.mark.parametrize(
    ("before", "after", "removing"),
    [
        (None, 'token = "a"', []),
        ('token = "a"\nconcurrent = 1', 'token = "a"\nconcurrent = 2', []),
        ('token = "a"', 'token = "b"', EMPTIED),
        (
            'token = "a"\nallowed_pull_policies = ["always"]',
            'token = "a"\nallowed_pull_policies = ["never"]',
            ["docker image prune --all --force"],
        ),
    ],
)
def test_nothing_of_former_projects_is_left_when_a_runner_may_serve_others(
    tmp_path: Path, before: str | None, after: str, removing: list[str]
) -> None:
    file = tmp_path / "config.toml"
    if before is not None:
        file.write_text(f"{before}\n")
    text = script("register-runner.sh").replace("/etc/gitlab-runner", str(tmp_path)).replace("/var/lib", "/none")
    world = """
        docker() { say "docker $*"; echo /none/data; }
        systemctl() { say "systemctl $*"; }
        rm() { say "rm $*"; }
    """
    done = shell(f"{text}\n{world}\nCONFIGURATION={shlex.quote(after)}\nwrite_configuration")
    assert file.read_text() == f"{after}\n"
    said = done.stderr.splitlines()
    assert [line for line in said if line in removing] == removing
    assert bool(removing) is any(line.startswith(("rm ", "docker image")) for line in said)
    assert said[-1:] == (["systemctl start docker"] if removing == EMPTIED else removing)
