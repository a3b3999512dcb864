"""How a machine gets Docker and a mirror of Docker Hub: the script with programs that only answer."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from components.rendering import script

MIRROR = "https://mirror.example.test"
#: An engine of a current version, which accepts what it is given, and a registry that wants a token.
WORLD = """
    dockerd() { case $1 in --help) echo " --validate" ;; *) true ;; esac; }
    systemctl() { say "systemctl $*"; }
    curl() { printf 401; }
    docker() { jq '[."registry-mirrors"[]? + "/"]' "$SETTINGS"; }
    sleep() { SECONDS=$((SECONDS + 10)); }
"""


def run(
    folder: Path, body: str, world: str = "", mirror: str = MIRROR, cache: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `body` on a machine whose settings of Docker are in `folder`."""
    libraries = "\n".join(
        script(name) for name in ("prelude.sh", "apt.sh", "docker-hub-cache.sh", "docker.sh", "docker-mirror.sh")
    )
    values = f"LIMIT_SECONDS=7 CACHE_URL={cache} REGISTRY_MIRROR={shlex.quote(mirror)} SETTINGS={folder}/daemon.json"
    text = f"{libraries.replace('/etc/docker', str(folder))}\n{values}\n{WORLD}\n{world}\n{body}\n"
    return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)


def settings(folder: Path) -> object:
    return json.loads((folder / "daemon.json").read_text())


def test_a_mirror_is_added_beside_other_settings_and_the_engine_reloads_once(tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text('{"log-driver": "local"}\n')
    done = run(tmp_path, "configure_mirror; configure_mirror")
    assert done.returncode == 0, done.stderr
    assert settings(tmp_path) == {"log-driver": "local", "registry-mirrors": [MIRROR]}
    assert done.stderr.count("systemctl reload-or-restart docker") == 1
    assert run(tmp_path, "configure_mirror", mirror="").returncode == 0
    assert settings(tmp_path) == {"log-driver": "local", "registry-mirrors": []}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["daemon.json"]


@pytest.mark.parametrize(
    ("world", "message"),
    [
        ("curl() { printf 000; return 6; }", f"{MIRROR}/v2/ does not answer like a registry (status 000)"),
        ("curl() { printf 404; }", "does not answer like a registry (status 404)"),
        (
            "dockerd() { [ $1 != --help ] || { echo --validate; return; }; say 'invalid mirror: no'; return 1; }",
            "Docker rejects these settings: invalid mirror: no. Nothing was changed",
        ),
    ],
)
def test_a_mirror_that_docker_rejects_or_that_is_none_changes_nothing(tmp_path: Path, world: str, message: str) -> None:
    (tmp_path / "daemon.json").write_text('{"log-driver": "local"}\n')
    done = run(tmp_path, "configure_mirror", world)
    assert done.returncode == 1
    assert message in done.stderr
    assert "systemctl" not in done.stderr
    assert (tmp_path / "daemon.json").read_text() == '{"log-driver": "local"}\n'


@pytest.mark.parametrize("world", ["docker() { echo '[]'; }", 'systemctl() { say "systemctl $*"; return 1; }'])
def test_the_former_settings_are_restored_if_the_engine_does_not_take_the_mirror(tmp_path: Path, world: str) -> None:
    (tmp_path / "daemon.json").write_text('{"log-driver": "local"}\n')
    done = run(tmp_path, "configure_mirror", world)
    assert done.returncode == 1
    assert "did not accept the mirror" in done.stderr
    assert (tmp_path / "daemon.json").read_text() == '{"log-driver": "local"}\n'
    assert done.stderr.splitlines()[:-1].count("systemctl reload-or-restart docker") == 2, "once more with the former"


def test_the_cache_of_the_machine_is_used_at_its_address_whether_it_answers_or_not(tmp_path: Path) -> None:
    world = """
        ip() { echo '4: docker0    inet 172.18.0.1/16 brd 172.18.255.255 scope global docker0'; }
        curl() { return 7; }
    """
    done = run(tmp_path, "configure_mirror", world, mirror="", cache="https://cache.example.internal:5000")
    assert done.returncode == 0, done.stderr
    assert settings(tmp_path) == {"registry-mirrors": ["https://172.18.0.1:5000"]}


def test_settings_that_are_no_json_are_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text("{oops\n")
    done = run(tmp_path, "configure_mirror")
    assert f"{tmp_path}/daemon.json is not a JSON object" in done.stderr
    assert (tmp_path / "daemon.json").read_text() == "{oops\n"


def test_an_engine_too_old_to_check_its_settings_is_asked_afterwards(tmp_path: Path) -> None:
    done = run(tmp_path, "configure_mirror", "dockerd() { echo 'Usage: dockerd'; }")
    assert done.returncode == 0, done.stderr
    assert settings(tmp_path) == {"registry-mirrors": [MIRROR]}


#: A machine with the packages of one vendor, on which apt only says what it would install.
MACHINE = """
    command() {{ case " {commands} " in *" $2 "*) ;; *) return 1 ;; esac; }}
    apt-cache() {{ echo "docker-cli | 26.1.5 | http://mirror.example.net"; }}
    apt-get() {{ case "$*" in *" install "*) printf '%s\\n' "$*" >{log} ;; esac; }}
    dpkg() {{ :; }}
    is_installed() {{ case " {packages} " in *" $1 "*) ;; *) false ;; esac; }}
    apt-mark() {{ say "$*"; }}
"""


@pytest.mark.parametrize(
    ("commands", "packages", "installed"),
    [
        ("curl iptables jq", "docker.io docker-cli", "docker.io docker-cli"),
        ("curl dockerd docker", "docker-ce docker-ce-cli containerd.io", "iptables jq"),
        ("curl iptables jq dockerd docker", "docker-ce docker-ce-cli containerd.io", ""),
    ],
)
def test_docker_of_whatever_vendor_that_is_there_stays_and_is_held(
    tmp_path: Path, commands: str, packages: str, installed: str
) -> None:
    log = tmp_path / "apt"
    done = run(tmp_path, "install_docker", MACHINE.format(commands=commands, packages=packages, log=log))
    assert done.returncode == 0, done.stderr
    asked = log.read_text().split("--allow-change-held-packages")[1].split() if log.exists() else []
    assert asked == installed.split()
    held = [line for line in done.stderr.splitlines() if line.startswith("hold")]
    assert held == [f"hold {package}" for package in packages.split()]
