"""Tools of the sandbox: what is found, what is installed, and what is left alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.cloud.namespaces import Init
from tests.sandbox.cloud.services import Program
from tests.sandbox.cloud.stacks import backend, remove_stale_locks
from tests.sandbox.cloud.tools import debian, engine, golang, nodejs
from tests.sandbox.cloud.workstation import command_environment, prepare_folders
from tests.sandbox.layout import PLUGINS_VARIABLE, Layout, current
from tests.sandbox.plugins.install import _HERE as PLUGINS_FOLDER
from tests.sandbox_tests.support.waiting import eventually
from tools import progress, pulumi, releases


def fake_program(path: Path, output: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _no_download_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "CLI_SERVER", "http://127.0.0.1:9")
    monkeypatch.setattr(releases, "GITHUB", "http://127.0.0.1:9")


def test_another_version_of_pulumi_is_not_used_and_the_right_one_is_built_if_it_cannot_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = fake_program(tmp_path / "own" / "pulumi", "v3.1.0")
    monkeypatch.setenv("PATH", str(own.parent), prepend=os.pathsep)
    built: list[Path] = []
    monkeypatch.setattr(engine, "build_pulumi", lambda cache, _: built.append(cache))
    lines: list[str] = []
    engine.install_cli(tmp_path / "cache", lines.append)
    assert built == [tmp_path / "cache"]
    assert not (tmp_path / "cache/bin/pulumi").exists()
    assert lines[0] == f"pulumi {pulumi.VERSION}: downloading"
    assert "cannot be downloaded" in lines[1]


def sandbox_tools(folder: Path, *, official: bool = False) -> Layout:
    """The tools of a sandbox on a machine that has the complete release of Pulumi on PATH."""
    layout = Layout(folder, official_plugins=official)
    engine.install(layout, Path(sys.executable), lambda _: None)
    return layout


def complete_release(folder: Path) -> Path:
    fake_program(folder / "pulumi-language-python-exec", "")
    fake_program(folder / "pulumi-language-python", "the official one")
    return fake_program(folder / "pulumi", f"v{pulumi.VERSION}")


def test_the_sandbox_uses_its_own_plugins_also_where_the_official_ones_could_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = complete_release(tmp_path / "own")
    monkeypatch.setenv("PATH", str(own.parent), prepend=os.pathsep)
    cache = sandbox_tools(tmp_path).cache
    # Beside the CLI, where the engine looks for its language host.
    assert not (cache / "bin/pulumi").is_symlink()
    assert "tests.sandbox.plugins" in (cache / "bin/pulumi-language-python").read_text()
    for name, version in pulumi.required_plugins():
        launcher = pulumi.plugin_program(cache / "pulumi-home", name, version)
        assert f"tests.sandbox.plugins.provider_{name}" in launcher.read_text()
    assert not (cache / "tools").exists()


def test_a_sandbox_for_the_official_plugins_takes_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = complete_release(tmp_path / "own")
    monkeypatch.setenv("PATH", str(own.parent), prepend=os.pathsep)
    with pytest.raises(releases.UnavailableError, match=r"the official plugins for .* are missing"):
        sandbox_tools(tmp_path, official=True)
    assert not (tmp_path / ".cache/pulumi-home").exists()


def test_each_kind_of_plugins_has_a_home_and_a_language_host_of_its_own(tmp_path: Path) -> None:
    seen = []
    for official in (False, True):
        layout = Layout(tmp_path, official_plugins=official)
        layout.token_file.parent.mkdir(parents=True, exist_ok=True)
        layout.token_file.write_text("dop_v1_sandbox\n")
        prepare_folders(layout)
        environment = command_environment(layout)
        home = Path(environment["PULUMI_HOME"])
        seen.append((home.name, (home / "plugins").resolve(), environment["PATH"].split(":")[0]))
    cache = tmp_path / ".cache"
    assert seen == [
        ("pulumi-home", cache / "pulumi-home/plugins", f"{cache}/bin"),
        ("pulumi-home-official", cache / "tools/pulumi-home/plugins", f"{cache}/tools/bin"),
    ]


@pytest.mark.parametrize(("value", "official"), [("", False), ("own", False), ("official", True)])
def test_the_environment_names_the_plugins(value: str, official: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS_VARIABLE, value)
    assert current().official_plugins is official


def test_plugins_that_there_are_not_are_refused_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sandbox", "running"],
        env={**os.environ, PLUGINS_VARIABLE: "latest"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error: PLUGINS: 'latest' is not a valid choice. Use own or official\n",
    )


def test_the_sandbox_has_a_plugin_for_each_provider_of_the_program_and_no_other() -> None:
    modules = {path.stem.removeprefix("provider_") for path in PLUGINS_FOLDER.glob("provider_*.py")}
    assert modules == {name for name, _ in pulumi.required_plugins()}


def test_a_go_that_is_new_enough_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = fake_program(tmp_path / "go", "go version go1.99.1 linux/amd64")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert golang.find_go(tmp_path / "cache", lambda _: None) == own


def test_packages_for_tests_are_installed_only_for_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[list[str]] = []

    def run(what: str, command: list[str], *_: object) -> None:
        if what == "apt: packages":
            installed.append(command)

    monkeypatch.setattr(debian, "_there", lambda _: bool(installed))
    monkeypatch.setattr(debian, "nothing_starts", contextlib.nullcontext)
    monkeypatch.setattr(debian, "_keep_docker_off", lambda: None)
    monkeypatch.setattr(debian, "run", run)
    debian.install(tmp_path, lambda _: None)
    assert "docker.io" in installed[0]
    assert not {"chromium", "chromium-driver", "certbot", "shellcheck", "ruby"} & {*installed[0]}
    installed.clear()
    debian.install(tmp_path, lambda _: None, tests=True)
    assert {"docker.io", "chromium", "chromium-driver", "certbot", "shellcheck", "ruby"} <= {*installed[0]}


def test_a_missing_npm_program_is_reported_with_the_command_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(progress.ToolError, match="prepare --tests"):
        nodejs.command(tmp_path, "gitlab-ci-local", "dist/index.js")


def test_the_npm_lock_names_no_registry() -> None:
    lock = (nodejs.PACKAGE / "package-lock.json").read_text()
    assert "sha512-" in lock
    # Other addresses are those of the authors, who ask for donations.
    assert '"resolved"' not in lock
    assert "://" not in re.sub(r'"funding": (\{[^}]*\}|\[[^]]*\]|"[^"]*")', "", lock)


def test_services_are_prevented_from_starting_only_while_packages_are_installed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with debian.nothing_starts(policy):
        assert subprocess.run([policy, "docker", "start"], check=False).returncode == 101
    assert not policy.exists()


def test_an_existing_policy_of_the_host_is_kept(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    with debian.nothing_starts(policy):
        assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_a_policy_that_a_killed_installation_left_is_removed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with debian.nothing_starts(policy):
        left = policy.read_text()
    policy.write_text(left)
    with debian.nothing_starts(policy):
        pass
    assert not policy.exists()


def test_the_workstation_inherits_nothing_that_could_be_a_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    layout.token_file.parent.mkdir(parents=True)
    layout.token_file.write_text("dop_v1_sandbox\n")
    for name in ("SSH_AUTH_SOCK", "AWS_SECRET_ACCESS_KEY", "PULUMI_ACCESS_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"):
        monkeypatch.setenv(name, "of the caller")
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "of the caller")
    monkeypatch.setenv("TERM", "vt100")
    environment = command_environment(layout)
    assert "of the caller" not in environment.values()
    assert environment["DIGITALOCEAN_TOKEN"] == "dop_v1_sandbox"  # noqa: S105
    assert environment["TERM"] == "vt100"
    assert environment["HOME"].startswith(str(tmp_path))


def make_lock(layout: Layout, stack: str, pid: int) -> Path:
    lock = backend(layout) / ".pulumi/locks/organization/slipway" / stack / "one.json"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"pid": pid, "username": "root", "hostname": "workstation"}))
    return lock


def test_the_lock_of_an_engine_that_has_ended_is_removed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    lock = make_lock(layout, "sandbox", 2**22 + 1)
    assert remove_stale_locks(layout, Init.of(os.getpid())) == ["sandbox"]
    assert not lock.exists()
    assert remove_stale_locks(layout, None) == []


def test_the_lock_of_a_running_engine_is_kept(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    running = tmp_path / "pulumi"
    running.symlink_to("/bin/sleep")
    with subprocess.Popen([running, "60"]) as process:
        # The kernel sets the name a moment after `Popen` has seen the program start.
        eventually(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "pulumi\n")
        lock = make_lock(layout, "sandbox", process.pid)
        try:
            assert remove_stale_locks(layout, Init.of(os.getpid())) == []
            assert lock.exists()
        finally:
            process.kill()


def test_a_value_that_the_supervisor_would_misread_is_refused() -> None:
    assert Program("a", ["echo", "50%", "a b"], {"KEY": "100%"}).command_line == "echo 50%% 'a b'"
    assert Program("a", ["x"], {"KEY": "100%"}).environment_line == 'KEY="100%%"'
    with pytest.raises(ValueError, match="KEY"):
        _ = Program("a", ["x"], {"KEY": 'a"b'}).environment_line
