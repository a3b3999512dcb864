"""Pulumi's CLI and plugins: found, downloaded, verified, and installed once."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import sys
import tarfile
import time
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.unit.source import tree
from tools import cli, progress, pulumi, releases
from tools.environment import ROOT

NOWHERE = "http://127.0.0.1:9"
PROVIDERS = dict(pulumi.required_plugins())
#: A CLI that installs a plugin from an archive as Pulumi's does, and notes how it was called.
CLI = f"""#!/bin/sh
if [ "$1" = version ]; then echo v{pulumi.VERSION}; exit; fi
echo "$*" >> "$PULUMI_HOME/calls"
folder="$PULUMI_HOME/plugins/resource-$4-v$5"
mkdir -p "$folder" && tar -xzf "$7" -C "$folder"
""".encode()
RELEASE = {"pulumi/pulumi": CLI, "pulumi/pulumi-language-python-exec": b"#!/bin/sh\n"}


def install(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


class Handler(SimpleHTTPRequestHandler):
    """Serves files after a redirect, as GitHub does, and logs nothing."""

    delay = 0.0

    def do_GET(self) -> None:
        """Redirect to the same path below `/storage`, then send the file."""
        if not self.path.startswith("/storage"):
            self.send_response(302)
            self.send_header("Location", f"/storage{self.path}")
            self.end_headers()
            return
        time.sleep(self.delay)
        self.path = self.path.removeprefix("/storage")
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Not to the output of a test."""


class Server:
    """Pulumi's download servers, on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, release: releases.Release, files: dict[str, bytes], listed: str | None = None) -> None:
        """Offer a release with these files; `listed` is its list of checksums instead of the right one."""
        content = archive(files)
        install(self._path(release.url), content)
        right = f"{'0' * 64}  another.zip\n{hashlib.sha256(content).hexdigest()}  {release.name}\n"
        install(self._path(release.checksums_url), (right if listed is None else listed).encode())

    def publish_plugins(self) -> None:
        """Offer all plugins, with lists as `shasum ./*` writes them."""
        for name, version in PROVIDERS.items():
            release = releases.plugin(name, version)
            files = {f"pulumi-resource-{name}": f"{name} {version}".encode()}
            listed = f"{hashlib.sha1(archive(files), usedforsecurity=False).hexdigest()}  ./{release.name}\n"
            self.publish(release, files, listed)

    def withdraw(self, url: str) -> None:
        """Offer this file no longer."""
        self._path(url).unlink()

    def _path(self, url: str) -> Path:
        return self.folder / url.split("/", 3)[3]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = Thread(target=running.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{running.server_address[1]}"
    monkeypatch.setattr(releases, "CLI_SERVER", f"{url}/releases/sdk")
    monkeypatch.setattr(releases, "GITHUB", f"{url}/pulumi")
    monkeypatch.setattr(Handler, "delay", 0.0)
    yield Server(folder)
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(autouse=True)
def _no_pulumi_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Pulumi nor its servers, unless a test provides them."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(releases, "CLI_SERVER", NOWHERE)
    monkeypatch.setattr(releases, "GITHUB", NOWHERE)


def quiet(_: str) -> None:
    pass


def plugin_file(folder: Path, name: str) -> Path:
    return pulumi.plugin_program(folder / "pulumi-home", name, PROVIDERS[name])


def with_cli(folder: Path) -> Path:
    for name, content in RELEASE.items():
        install(folder / "bin" / Path(name).name, content)
    return folder


def test_the_providers_are_the_pulumi_packages_of_the_project_in_the_versions_of_the_lock_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # The second is one that some stacks need; here, it is installed.
    dependencies = [*project["dependencies"], *project["optional-dependencies"]["kubernetes"]]
    pinned = dict(line.removeprefix("pulumi-").split("==") for line in dependencies if line.startswith("pulumi-"))
    # The library of policies is no provider.
    assert pinned.pop("policy")
    assert sorted(pulumi.required_plugins()) == sorted(pinned.items())
    assert {"command", "digitalocean", "gitlab", "random", "tls"} <= PROVIDERS.keys()
    assert f"\npulumi=={pulumi.VERSION} " in (ROOT / "requirements.txt").read_text()


@pytest.mark.parametrize(
    ("system", "machine", "cli_target", "plugin_target"),
    [
        ("Linux", "x86_64", "linux-x64", "linux-amd64"),
        ("Linux", "aarch64", "linux-arm64", "linux-arm64"),
        ("Darwin", "arm64", "darwin-arm64", "darwin-arm64"),
        ("Darwin", "x86_64", "darwin-x64", "darwin-amd64"),
    ],
)
def test_a_release_is_the_one_for_this_operating_system_and_processor(
    system: str, machine: str, cli_target: str, plugin_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "CLI_SERVER", "https://get.pulumi.com/releases/sdk")
    monkeypatch.setattr(releases, "GITHUB", "https://github.com/pulumi")
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    found = releases.cli("3.1.0")
    assert found.url == f"https://get.pulumi.com/releases/sdk/pulumi-v3.1.0-{cli_target}.tar.gz"
    assert found.checksums == "pulumi-3.1.0-checksums.txt"
    found = releases.plugin("tls", "5.0.0")
    folder = "https://github.com/pulumi/pulumi-tls/releases/download/v5.0.0"
    assert found.url == f"{folder}/pulumi-resource-tls-v5.0.0-{plugin_target}.tar.gz"
    assert found.checksums_url == f"{folder}/pulumi-tls_5.0.0_checksums.txt"


@pytest.mark.parametrize(("system", "machine"), [("Windows", "AMD64"), ("Linux", "riscv64"), ("FreeBSD", "amd64")])
def test_a_machine_without_releases_is_sent_to_plain_pulumi(
    system: str, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(releases.UnavailableError, match=rf"not on {system} {machine.lower()}: use plain Pulumi"):
        releases.cli("3.1.0")


def test_a_complete_pulumi_of_the_right_version_on_path_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = with_cli(tmp_path / "own") / "bin/pulumi"
    monkeypatch.setenv("PATH", str(own.parent), prepend=os.pathsep)
    pulumi.install_cli(tmp_path / "tools", quiet)
    assert (tmp_path / "tools/bin/pulumi").resolve() == own


@pytest.mark.parametrize(
    "on_path",
    [{"pulumi": b"#!/bin/sh\necho v3.1.0\n", "pulumi-language-python-exec": b""}, {"pulumi": CLI}],
    ids=["another version", "no language host"],
)
def test_another_pulumi_on_path_is_left_alone_and_the_release_is_downloaded(
    on_path: dict[str, bytes], tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in on_path.items():
        install(tmp_path / "own" / name, content)
    monkeypatch.setenv("PATH", str(tmp_path / "own"), prepend=os.pathsep)
    (tmp_path / "tools/bin").mkdir(parents=True)
    (tmp_path / "tools/bin/pulumi").symlink_to(tmp_path / "own/pulumi")
    server.publish(releases.cli(pulumi.VERSION), RELEASE)
    pulumi.install_cli(tmp_path / "tools", quiet)
    assert not (tmp_path / "tools/bin/pulumi").is_symlink()
    assert {file.name for file in (tmp_path / "tools/bin").iterdir()} == {"pulumi", "pulumi-language-python-exec"}
    assert (tmp_path / "own/pulumi").read_bytes() == on_path["pulumi"]


def test_a_release_is_downloaded_once(tmp_path: Path, server: Server) -> None:
    release = releases.cli(pulumi.VERSION)
    server.publish(release, RELEASE)
    pulumi.install_cli(tmp_path / "tools", quiet)
    server.withdraw(release.url)
    lines: list[str] = []
    pulumi.install_cli(tmp_path / "tools", lines.append)
    assert lines == [f"pulumi {pulumi.VERSION}: cached"]


def test_a_server_that_answers_late_is_used(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "delay", 4.5)
    server.publish(releases.cli(pulumi.VERSION), RELEASE)
    pulumi.install_cli(tmp_path / "tools", quiet)
    assert (tmp_path / "tools/bin/pulumi").exists()


def test_without_pulumi_and_without_its_servers_the_error_says_what_to_do(tmp_path: Path) -> None:
    release = releases.cli(pulumi.VERSION)
    with pytest.raises(releases.UnavailableError) as caught:
        pulumi.install_cli(tmp_path, quiet)
    assert re.fullmatch(
        rf"{NOWHERE}/pulumi/\S+ cannot be downloaded \(.*refused\): allow this machine to reach get.pulumi.com and "
        rf"github.com, or put the complete release of Pulumi {pulumi.VERSION} on PATH, or copy {release.name} and "
        rf"{release.checksums} from the release into {tmp_path}/downloads",
        str(caught.value),
    )


def test_files_that_somebody_has_copied_here_are_used_verified_and_kept(tmp_path: Path) -> None:
    release, content = releases.cli(pulumi.VERSION), archive(RELEASE)
    given = install(tmp_path / "downloads" / release.name, content)
    sums = install(
        tmp_path / "downloads" / release.checksums, f"{hashlib.sha256(content).hexdigest()}  {release.name}".encode()
    )
    pulumi.install_cli(tmp_path, quiet)
    assert (tmp_path / "bin/pulumi").exists()
    assert given.exists()
    (tmp_path / "bin/pulumi").unlink()
    sums.write_text(f"{'0' * 64}  {release.name}\n")
    with pytest.raises(releases.UnavailableError, match="does not match its checksum"):
        pulumi.install_cli(tmp_path, quiet)


def wrong_lists() -> Iterator[tuple[str, str]]:
    name = releases.cli(pulumi.VERSION).name
    yield f"{'f' * 64}  {name}\n", f"does not match its checksum: pulumi-.*-checksums.txt has {'f' * 64}, the file "
    yield f"{'0' * 64}  another-{name}\n", f"has no checksum for {name}: nothing was installed"
    yield f"{'f' * 32}  {name}\n", "the file another kind"
    yield "<html>not found</html>", "has no checksum for"


@pytest.mark.parametrize(("listed", "message"), [*wrong_lists()])
def test_a_release_that_is_not_what_was_published_is_refused_and_leaves_nothing(
    listed: str, message: str, tmp_path: Path, server: Server
) -> None:
    server.publish(releases.cli(pulumi.VERSION), RELEASE, listed)
    with pytest.raises(releases.UnavailableError, match=message):
        pulumi.install_cli(tmp_path / "tools", quiet)
    assert [file for file in (tmp_path / "tools").rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("missing", ["url", "checksums_url"])
def test_a_file_that_the_server_does_not_have_is_named(missing: str, tmp_path: Path, server: Server) -> None:
    release = releases.cli(pulumi.VERSION)
    server.publish(release, RELEASE)
    server.withdraw(getattr(release, missing))
    with pytest.raises(releases.UnavailableError, match=rf"{getattr(release, missing)} answers 404 .*: allow"):
        pulumi.install_cli(tmp_path / "tools", quiet)


def test_a_release_that_does_not_run_here_is_refused(tmp_path: Path, server: Server) -> None:
    server.publish(releases.cli(pulumi.VERSION), {"pulumi/pulumi": b"\x7fELF"})
    with pytest.raises(releases.UnavailableError, match="does not run on this machine"):
        pulumi.install_cli(tmp_path / "tools", quiet)


def test_every_plugin_is_installed_from_its_verified_archive_once(tmp_path: Path, server: Server) -> None:
    folder = with_cli(tmp_path / "tools")
    server.publish_plugins()
    pulumi.install_plugins(folder, quiet)
    assert {name: plugin_file(folder, name).read_text() for name in PROVIDERS} == {
        name: f"{name} {version}" for name, version in PROVIDERS.items()
    }
    calls = (folder / "pulumi-home/calls").read_text().splitlines()
    assert [call.split()[3] for call in calls] == [*PROVIDERS]
    assert all(call.startswith("plugin install resource ") and call.endswith(" --reinstall") for call in calls)
    lines: list[str] = []
    pulumi.install_plugins(folder, lines.append)
    assert lines == ["plugins: cached"]


@pytest.mark.parametrize("content", [b"#!/bin/sh\n", b"\x7fELF"], ids=["script", "program"])
def test_a_plugin_that_somebody_else_has_put_there_or_changed_is_replaced(
    content: bytes, tmp_path: Path, server: Server
) -> None:
    folder = with_cli(tmp_path / "tools")
    install(plugin_file(folder, "tls"), content)
    server.publish_plugins()
    pulumi.install_plugins(folder, quiet)
    install(plugin_file(folder, "gitlab"), content)
    pulumi.install_plugins(folder, quiet)
    assert plugin_file(folder, "tls").read_text() == f"tls {PROVIDERS['tls']}"
    assert plugin_file(folder, "gitlab").read_text() == f"gitlab {PROVIDERS['gitlab']}"


def test_a_plugin_that_does_not_match_its_checksum_is_not_installed(tmp_path: Path, server: Server) -> None:
    folder = with_cli(tmp_path / "tools")
    server.publish_plugins()
    release = releases.plugin("gitlab", PROVIDERS["gitlab"])
    server.publish(release, {"pulumi-resource-gitlab": b"changed"}, f"{'0' * 40}  ./{release.name}\n")
    with pytest.raises(releases.UnavailableError, match=rf"{release.name} does not match its checksum"):
        pulumi.install_plugins(folder, quiet)
    assert not plugin_file(folder, "gitlab").exists()


def test_without_the_plugins_and_their_servers_one_message_names_them_all(tmp_path: Path) -> None:
    with pytest.raises(releases.UnavailableError) as caught:
        pulumi.install_plugins(with_cli(tmp_path), quiet)
    names = ", ".join(f"{name} {version}" for name, version in PROVIDERS.items())
    assert str(caught.value).startswith(f"the official plugins for {names} are missing, and {NOWHERE}/")
    assert "allow this machine to reach get.pulumi.com and github.com" in str(caught.value)
    assert str(caught.value).endswith("/downloads. Only the sandbox works without them")


def test_a_plugin_that_pulumi_cannot_unpack_is_an_error_with_its_output(tmp_path: Path, server: Server) -> None:
    folder = with_cli(tmp_path / "tools")
    server.publish_plugins()
    install(folder / "bin/pulumi", b"#!/bin/sh\necho 'no space left on device'\nexit 1\n")
    with pytest.raises(progress.ToolError, match=r"(?s)plugin .* failed .*no space left on device"):
        pulumi.install_plugins(folder, quiet)


def test_tools_that_cannot_be_installed_end_the_command_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "TOOLS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["tools", "prepare"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert str(caught.value).startswith(f"error: {NOWHERE}/pulumi/")
    assert "\n" not in str(caught.value)


def test_of_two_installations_at_the_same_time_the_second_waits(tmp_path: Path, server: Server) -> None:
    server.publish(releases.cli(pulumi.VERSION), RELEASE)
    server.publish_plugins()
    folder = tmp_path / "tools"
    folder.mkdir()
    lines: list[str] = []
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = Thread(target=pulumi.install, args=(folder, lines.append))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert not (folder / "bin/pulumi").exists()
    second.join()
    assert lines[0] == "waiting for another process that installs the tools"
    assert json.loads((folder / "plugins.json").read_text()).keys() == {f"{n} {v}" for n, v in PROVIDERS.items()}


def lock_files() -> dict[str, dict[str, str]]:
    files = {path.name: path.read_text() for path in ROOT.glob("requirements*.txt")}
    return {
        name: dict(line.split(" ")[0].split("==") for line in text.splitlines() if "==" in line)
        for name, text in files.items()
    }


def test_each_lock_file_has_all_of_the_smaller_one_in_the_same_versions() -> None:
    found = lock_files()
    names = ("requirements.txt", "requirements-tools.txt", "requirements-sandbox.txt", "requirements-kubernetes.txt")
    assert found.keys() == set(names)
    assert found["requirements.txt"].items() < found["requirements-kubernetes.txt"].items()
    assert found["requirements-kubernetes.txt"].items() < found["requirements-sandbox.txt"].items()
    assert found["requirements.txt"].items() < found["requirements-tools.txt"].items()
    assert found["requirements-tools.txt"].items() < found["requirements-sandbox.txt"].items()


def test_the_lock_files_have_hashes_for_everything_and_no_address_of_a_registry() -> None:
    for path in ROOT.glob("requirements*.txt"):
        text = path.read_text()
        assert re.findall(r"^(\S+==\S+)(?! ).*(?<!\\)$", text, re.MULTILINE) == [], path.name
        assert not re.search(r"https?://|^--|^-i", text, re.MULTILINE), path.name


def imported(file: Path) -> Iterator[str]:
    """The packages that a module imports, at its top or later."""
    for node in ast.walk(tree(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_what_the_program_imports_is_in_its_own_lock_file() -> None:
    """So that it runs in the environment that `pulumi install` makes."""
    locked, owners = lock_files(), importlib.metadata.packages_distributions()
    of_clusters = [ROOT / "components" / f"kubernetes_{name}.py" for name in ("cluster", "runner")]
    program = {ROOT / "__main__.py", *(ROOT / "components").rglob("*.py")} - set(of_clusters)
    seen = set[str]()
    for files, lock in ((program, "requirements.txt"), (of_clusters, "requirements-kubernetes.txt")):
        names = {name for file in files for name in imported(file)} - {*sys.stdlib_module_names, "components"}
        seen |= names
        known = locked[lock].keys()
        assert [one for one in names if not {name.lower().replace("_", "-") for name in owners[one]} & known] == []
    assert {"pulumi", "pulumi_gitlab", "pulumi_kubernetes", "pydantic"} <= seen
