"""A whole sandbox of its own, in a checkout of its own, beside whatever else runs on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.moments import in_real_time
from tests.sandbox import versions
from tests.sandbox.cloud import lifecycle, namespaces
from tests.sandbox.layout import INSTANCE_VARIABLE, Layout, current
from tests.sandbox.machines.network import WORKSTATION_NAMESPACE
from tests.sandbox_tests.support.waiting import eventually

HOST_FILES = [Path(name) for name in ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/etc/docker")]
PATIENCE = 60


class Checkout:
    """A copy of the sandbox's sources with this checkout's tools."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        for sources in ("components", "tests", "tools"):
            shutil.copytree(current().root / sources, root / sources, ignore=shutil.ignore_patterns("__pycache__"))
        self.layout.cache.mkdir()
        for shared in ("venv", "bin", "containers", "mirror"):
            (self.layout.cache / shared).symlink_to(current().cache / shared)

    def run(self, *words: str, instance: str = "") -> subprocess.CompletedProcess[str]:
        """`python -m tests.sandbox …` in the copy."""
        command = [sys.executable, "-m", "tests.sandbox", *words]
        # The ACME server is written in Go, and commands at the workstation inherit nothing: all use the real time.
        environment = in_real_time() | {INSTANCE_VARIABLE: instance}
        return subprocess.run(
            command,
            cwd=self.layout.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    def init(self) -> namespaces.Init:
        """The running sandbox."""
        init = namespaces.find(self.layout)
        assert init is not None
        return init


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = Checkout(tmp_path_factory.mktemp("checkout") / "slipway")
    started = made.run("start")
    assert started.returncode == 0, started.stderr
    yield made
    made.run("stop")


def host_picture() -> dict[str, str]:
    """What must not change on the machine: files, trust, links, addresses, packet filter, mounts."""
    commands = {
        "links": ["ip", "-brief", "link"],
        "routes": ["ip", "route", "show", "table", "all"],
        "filter": ["nft", "list", "ruleset"],
        "trust": ["ls", "-lR", "--time-style=full-iso", "/etc/ssl/certs"],
        "mounts": ["findmnt", "--raw", "--noheadings", "--output", "TARGET,FSTYPE"],
    }
    picture = {
        name: subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for name, command in commands.items()
    }
    for file in HOST_FILES:
        for found in [file] if file.is_file() else sorted(file.rglob("*")):
            picture[str(found)] = hashlib.sha256(found.read_bytes()).hexdigest() if found.is_file() else "folder"
    return picture


def test_a_sandbox_leaves_the_host_unchanged_while_it_runs_and_afterwards(tmp_path: Path) -> None:
    before = host_picture()
    other = Checkout(tmp_path / "slipway")
    try:
        assert other.run("start").returncode == 0
        assert host_picture() == before
    finally:
        assert other.run("stop").returncode == 0
    assert host_picture() == before
    assert not other.layout.state.exists()
    assert lifecycle.control_groups(other.layout) == []


def test_starting_again_leaves_a_healthy_sandbox_alone(checkout: Checkout) -> None:
    init = checkout.init()
    assert checkout.run("start").returncode == 0
    assert checkout.init() == init


def test_a_port_for_a_browser_needs_a_sandbox_a_free_port_and_a_stack(checkout: Checkout) -> None:
    none = checkout.run("open", instance="none")
    assert (none.returncode, none.stderr) == (1, "error: no sandbox is running: start one with make up\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = checkout.run("open", "--port", str(port))
    assert busy.returncode == 1
    assert busy.stderr == f"error: port {port} of 127.0.0.1 cannot be used: Address already in use\n"
    empty = checkout.run("open")
    assert (empty.returncode, empty.stdout) == (1, "")
    assert re.fullmatch(r"error: .*stack.*\n", empty.stderr), empty.stderr


def test_two_starts_at_once_make_one_sandbox(tmp_path: Path) -> None:
    other = Checkout(tmp_path / "slipway")
    command = [sys.executable, "-m", "tests.sandbox", "start"]
    try:
        both = [subprocess.Popen(command, cwd=other.layout.root, stdout=subprocess.DEVNULL) for _ in range(2)]
        assert [process.wait(timeout=120) for process in both] == [0, 0]
        processes = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert processes.count(f"--configuration {other.layout.state}") == 1
    finally:
        other.run("stop")


def test_two_instances_of_one_checkout_share_nothing_but_the_cache(checkout: Checkout) -> None:
    default, second = checkout.layout, Layout(checkout.layout.root, "second")
    init = checkout.init()
    assert checkout.run("start", instance="second").returncode == 0
    try:
        other = namespaces.find(second)
        assert other is not None
        assert other.alive
        for command in (("printenv", "DIGITALOCEAN_TOKEN"), ("printenv", "PULUMI_BACKEND_URL"), ("printenv", "HOME")):
            answers = [checkout.run("exec", "--", *command, instance=instance) for instance in ("", "second")]
            assert [answer.returncode for answer in answers] == [0, 0]
            assert answers[0].stdout != answers[1].stdout
        seen = checkout.run("exec", "--", "ps", "-ww", "-eo", "args", instance="second").stdout
        assert f"--configuration {second.state}/" in seen
        assert f"--configuration {default.state}/" not in seen
    finally:
        stopped = checkout.run("stop", instance="second")
    assert stopped.returncode == 0
    assert not other.alive
    assert not second.state.exists()
    assert lifecycle.control_groups(second) == []
    assert checkout.init() == init
    assert checkout.run("status").returncode == 0


def test_ending_what_no_record_names_leaves_other_instances_running(tmp_path: Path) -> None:
    other = Checkout(tmp_path / "slipway")
    second = Layout(other.layout.root, "second")
    try:
        assert [other.run("start", instance=name).returncode for name in ("", "second")] == [0, 0]
        default, init = other.init(), namespaces.find(second)
        namespaces.record_file(other.layout).unlink()
        assert other.run("stop").returncode == 0
        assert not default.alive
        assert init is not None
        assert init.alive
        assert other.run("status", instance="second").returncode == 0
    finally:
        for name in ("", "second"):
            other.run("stop", instance=name)


def test_control_groups_are_found_although_others_vanish_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    for path in ("cpu/other-sandbox/engine", f"cpu/{layout.name}/engine", f"memory/{layout.name}"):
        (tmp_path / path).mkdir(parents=True)
    read = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "other-sandbox":
            raise FileNotFoundError(path)
        return read(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = lifecycle.control_groups(layout, tmp_path)
    assert sorted(found) == [tmp_path / "cpu" / layout.name, tmp_path / "memory" / layout.name]


@pytest.mark.parametrize("name", ["../up", "Second", "a b", "-x", "a" * 21])
def test_a_name_that_cannot_be_part_of_a_path_is_refused_without_a_traceback(checkout: Checkout, name: str) -> None:
    refused = checkout.run("status", instance=name)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: SLIPWAY_SANDBOX: {name!r} is not a name for a sandbox.")
    assert "Traceback" not in refused.stderr


def test_a_start_waits_for_another_one_in_progress(checkout: Checkout) -> None:
    with checkout.layout.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "tests.sandbox", "start"]
        process = subprocess.Popen(command, cwd=checkout.layout.root, stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert process.wait(timeout=30) == 0


def test_a_command_at_the_workstation_sees_the_sandbox_and_not_the_host(checkout: Checkout) -> None:
    def said(*command: str) -> str:
        return checkout.run("exec", "--", *command).stdout

    assert said("hostname") == "workstation\n"
    assert said("cat", "/etc/resolv.conf").startswith("nameserver 100.64.0.1\n")
    assert "192.0.2.10/24" in said("ip", "-brief", "address", "show", "eth0")
    assert said("ip", "route", "show", "default").startswith("default via 192.0.2.1 ")
    assert str(os.getpid()) not in said("ps", "-eo", "pid").split()
    assert said("sh", "-c", "echo $HOME") == f"{checkout.layout.state}/home\n"


def test_client_engine_and_buildx_of_the_workstation_are_of_the_version_that_jobs_have(checkout: Checkout) -> None:
    asked = checkout.run("exec", "--", "docker", "version", "--format", "{{.Client.Version}} {{.Server.Version}}")
    assert asked.stdout == f"{versions.DOCKER} {versions.DOCKER}\n", asked.stderr
    assert f" v{versions.BUILDX} " in checkout.run("exec", "--", "docker", "buildx", "version").stdout


def test_files_written_to_etc_at_the_workstation_do_not_reach_the_host(checkout: Checkout) -> None:
    assert checkout.run("exec", "--", "touch", "/etc/slipway-was-here").returncode == 0
    assert checkout.run("exec", "--", "test", "-e", "/etc/slipway-was-here").returncode == 0
    assert not Path("/etc/slipway-was-here").exists()


def test_the_exit_code_of_a_command_is_passed_on(checkout: Checkout) -> None:
    assert checkout.run("exec", "--", "true").returncode == 0
    assert checkout.run("exec", "--", "sh", "-c", "exit 7").returncode == 7
    assert checkout.run("exec", "--", "sh", "-c", "kill -9 $$").returncode == 137
    assert checkout.run("exec", "--", "no-such-command").returncode == 127


def test_a_signal_reaches_the_command(checkout: Checkout) -> None:
    script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    command = [sys.executable, "-m", "tests.sandbox", "exec", "--", "bash", "-c", script]
    with subprocess.Popen(command, cwd=checkout.layout.root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "told\n"
    assert process.returncode == 3


def test_the_token_is_in_the_environment_of_a_command_and_in_no_command_line(checkout: Checkout) -> None:
    token = checkout.layout.token_file.read_text().strip()
    assert checkout.run("exec", "--", "printenv", "DIGITALOCEAN_TOKEN").stdout == f"{token}\n"
    arguments = checkout.run("exec", "--", "ps", "-ww", "-eo", "args").stdout
    assert "supervisord" in arguments
    assert token not in arguments
    assert checkout.layout.state.stat().st_mode & 0o077 == 0


def test_services_answer_under_their_real_names_over_trusted_tls(checkout: Checkout) -> None:
    for url in ("https://acme-v02.api.letsencrypt.org/directory", "https://nyc3.digitaloceanspaces.com/"):
        answer = checkout.run("exec", "--", "curl", "--silent", "--show-error", "--output", "/dev/null", url)
        assert (answer.returncode, answer.stderr) == (0, "")


def certbot(folder: Path, name: str) -> list[str]:
    """Ask Let's Encrypt, as the sandbox plays it, for a certificate of a name that leads to the workstation."""
    where = [word for kind in ("config", "work", "logs") for word in (f"--{kind}-dir", f"{folder}/{kind}")]
    who = ["--non-interactive", "--agree-tos", "--email", "admin@example.com"]
    return ["certbot", "certonly", "--standalone", *who, "--domain", name, *where]


def test_a_client_gets_a_certificate_that_the_workstation_trusts_also_after_a_restart(
    checkout: Checkout, tmp_path: Path
) -> None:
    domain = {"name": "site.test", "ip_address": "192.0.2.10"}
    script = f"import os, pydo; pydo.Client(os.environ['DIGITALOCEAN_TOKEN']).domains.create({domain})"
    assert checkout.run("exec", "--", "python", "-c", script).returncode == 0
    asked = checkout.run("exec", "--", *certbot(tmp_path, "site.test"))
    assert asked.returncode == 0, asked.stdout + asked.stderr
    chain = tmp_path / "config/live/site.test/fullchain.pem"
    trusted = ["openssl", "verify", "-verify_hostname", "site.test", "-untrusted", str(chain), str(chain)]
    assert checkout.run("exec", "--", *trusted).returncode == 0
    assert subprocess.run(trusted, capture_output=True, check=False).returncode != 0
    assert checkout.run("exec", "--", "pkill", "-x", "pebble").returncode == 0
    assert checkout.run("start").returncode == 0
    assert checkout.run("exec", "--", *trusted).returncode == 0


def test_a_name_that_resolves_elsewhere_gets_no_certificate(checkout: Checkout, tmp_path: Path) -> None:
    asked = checkout.run("exec", "--", *certbot(tmp_path, "nobody.example.net"))
    assert asked.returncode != 0
    assert not (tmp_path / "config/live").exists()


def test_the_internet_cannot_be_reached(checkout: Checkout) -> None:
    route = checkout.run("exec", "--cloud", "--", "ip", "route", "show", "default")
    assert (route.returncode, route.stdout) == (0, "")


def test_a_service_that_dies_is_restarted(checkout: Checkout) -> None:
    find = ("exec", "--", "pgrep", "-f", "tests.sandbox.cloud.main")
    first = checkout.run(*find).stdout.split()
    assert len(first) == 1
    assert checkout.run("exec", "--", "kill", "-9", *first).returncode == 0
    assert checkout.run("start").returncode == 0
    eventually(lambda: checkout.run(*find).stdout.split() not in ([], first), PATIENCE)
    assert checkout.run("start").returncode == 0


def test_a_start_after_a_source_change_restarts_the_services(checkout: Checkout) -> None:
    find = ("exec", "--", "pgrep", "-f", "tests.sandbox.cloud.main")
    first, init = checkout.run(*find).stdout, checkout.init()
    assert checkout.run("start").returncode == 0
    assert checkout.run(*find).stdout == first
    with (checkout.layout.root / "tests/sandbox/cloud/main.py").open("a") as source:
        source.write("\n# changed\n")
    assert checkout.run("start").returncode == 0
    assert checkout.run(*find).stdout not in ("", first)
    assert checkout.init() == init


def test_a_killed_sandbox_starts_again_with_its_state(checkout: Checkout) -> None:
    token, init = checkout.layout.token_file.read_text(), checkout.init()
    os.kill(init.pid, signal.SIGKILL)
    eventually(lambda: not init.alive, PATIENCE)
    assert checkout.run("status").returncode == 1
    assert checkout.run("start").returncode == 0
    assert checkout.init() != init
    assert checkout.layout.token_file.read_text() == token


def test_without_a_sandbox_commands_say_what_to_do_and_stop_succeeds(tmp_path: Path) -> None:
    other = Checkout(tmp_path / "slipway")
    refused = other.run("exec", "--", "true")
    assert refused.returncode == 1
    assert "make up" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert other.run("running").returncode == 1
    assert other.run("stop").returncode == 0
    assert other.run("stop").returncode == 0


def test_a_sandbox_whose_record_was_removed_is_found_and_stopped(tmp_path: Path) -> None:
    other = Checkout(tmp_path / "slipway")
    assert other.run("start").returncode == 0
    init = other.init()
    namespaces.record_file(other.layout).unlink()
    assert other.run("stop").returncode == 0
    assert not init.alive


def test_the_network_of_the_workstation_has_one_name() -> None:
    assert namespaces.WORKSTATION == WORKSTATION_NAMESPACE
