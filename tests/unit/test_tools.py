"""`python -m tools`: finding Pulumi, and commands with the tools on PATH."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.sandbox_tests.support.waiting import eventually
from tools import cli, clients, demo, environment, processes, progress, pulumi, verify

NOWHERE = "http://127.0.0.1:9"
ELF = b"\x7fELF"


def program(output: str) -> bytes:
    return f"#!/bin/sh\necho '{output}'\n".encode()


RELEASE = {"pulumi/pulumi": program(f"v{pulumi.VERSION}"), "pulumi/pulumi-language-python-exec": b"#!/bin/sh\n"}


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


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_: object) -> None:
        """Not to the output of a test."""


class Releases:
    """Pulumi's two download servers, on loopback: the archive, and the list of checksums."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, files: dict[str, bytes], *, checksum: str | None = None) -> None:
        """Offer a release with these files; `checksum` is listed instead of the right one."""
        kind = {"x86_64": "x64", "aarch64": "arm64"}[os.uname().machine]
        name = f"pulumi-v{pulumi.VERSION}-linux-{kind}.tar.gz"
        content = archive(files)
        install(self.folder / "releases/sdk" / name, content)
        listed = checksum or hashlib.sha256(content).hexdigest()
        (self.folder / "checksums.txt").write_text(f"{'0' * 64}  pulumi-windows.zip\n{listed}  {name}\n")


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(pulumi, "DOWNLOADS", url)
    monkeypatch.setattr(pulumi, "CHECKSUMS", f"{url}/checksums.txt")
    yield Releases(folder)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_pulumi_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Pulumi nor its servers, unless a test provides them."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(pulumi, "DOWNLOADS", NOWHERE)


def quiet(_: str) -> None:
    pass


def test_the_cli_has_the_version_of_the_sdk_in_the_lock() -> None:
    assert f"\npulumi=={pulumi.VERSION} " in (environment.ROOT / "requirements.lock").read_text()


def test_every_provider_of_the_lock_gets_its_plugin() -> None:
    lock = (environment.ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split()[0].removeprefix("pulumi-").split("==") for line in lock if line.startswith("pulumi-")]
    assert sorted(pulumi.required_plugins()) == sorted((name, version) for name, version in pins)
    assert "gitlab" in dict(pulumi.required_plugins())


def test_a_pulumi_of_the_right_version_on_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = install(tmp_path / "own/pulumi", program(f"v{pulumi.VERSION}"))
    monkeypatch.setenv("PATH", str(own.parent), prepend=os.pathsep)
    pulumi.install_cli(tmp_path / "tools", quiet)
    assert (tmp_path / "tools/bin/pulumi").resolve() == own


def test_without_the_right_pulumi_and_without_its_servers_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = install(tmp_path / "own/pulumi", program("v3.1.0"))
    monkeypatch.setenv("PATH", str(own.parent), prepend=os.pathsep)
    with pytest.raises(pulumi.UnavailableError) as caught:
        pulumi.install_cli(tmp_path / "tools", quiet)
    assert str(caught.value) == (
        f"no Pulumi {pulumi.VERSION} on PATH, and {NOWHERE} does not answer: "
        f"allow this machine to reach get.pulumi.com and github.com, or put Pulumi {pulumi.VERSION} on PATH"
    )


def test_a_release_is_downloaded_once_and_unpacked_with_its_language_hosts(tmp_path: Path, releases: Releases) -> None:
    releases.publish(RELEASE)
    pulumi.install_cli(tmp_path / "tools", quiet)
    assert {file.name for file in (tmp_path / "tools/bin").iterdir()} == {"pulumi", "pulumi-language-python-exec"}
    releases.publish({"pulumi/pulumi": b"another"})
    lines: list[str] = []
    pulumi.install_cli(tmp_path / "tools", lines.append)
    assert lines == [f"pulumi {pulumi.VERSION}: cached"]


def test_a_release_that_does_not_match_its_checksum_is_not_used(tmp_path: Path, releases: Releases) -> None:
    releases.publish(RELEASE, checksum="f" * 64)
    with pytest.raises(pulumi.UnavailableError, match="does not match its checksum"):
        pulumi.install_cli(tmp_path / "tools", quiet)
    assert [file for file in (tmp_path / "tools").rglob("*") if file.is_file()] == []


def test_a_release_that_the_list_of_checksums_does_not_name_is_not_used(tmp_path: Path, releases: Releases) -> None:
    releases.publish(RELEASE)
    (releases.folder / "checksums.txt").write_text(f"{'0' * 64}  something-else.tar.gz\n")
    with pytest.raises(pulumi.UnavailableError, match="does not match its checksum"):
        pulumi.install_cli(tmp_path / "tools", quiet)


def test_a_release_that_the_server_does_not_have_is_an_error_with_the_cause(tmp_path: Path, releases: Releases) -> None:
    releases.publish(RELEASE)
    (releases.folder / "checksums.txt").unlink()
    with pytest.raises(pulumi.UnavailableError, match=r"cannot be downloaded \(.*404.*\): allow this machine"):
        pulumi.install_cli(tmp_path / "tools", quiet)


def test_a_release_for_another_kind_of_machine_is_refused(tmp_path: Path, releases: Releases) -> None:
    releases.publish({"pulumi/pulumi": ELF})
    with pytest.raises(pulumi.UnavailableError, match="does not run on this machine"):
        pulumi.install_cli(tmp_path / "tools", quiet)


def test_a_download_replaces_the_link_to_an_older_pulumi_and_leaves_that_alone(
    tmp_path: Path, releases: Releases
) -> None:
    old = install(tmp_path / "own/pulumi", program("v3.1.0"))
    (tmp_path / "tools/bin").mkdir(parents=True)
    (tmp_path / "tools/bin/pulumi").symlink_to(old)
    releases.publish(RELEASE)
    pulumi.install_cli(tmp_path / "tools", quiet)
    assert pulumi.has_version(tmp_path / "tools/bin/pulumi")
    assert old.read_bytes() == program("v3.1.0")


def complete_release(folder: Path, cli_program: bytes = RELEASE["pulumi/pulumi"]) -> Path:
    for name, content in {**RELEASE, "pulumi/pulumi": cli_program}.items():
        install(folder / "bin" / Path(name).name, content)
    return folder


def plugin(folder: Path, name: str, version: str) -> Path:
    return folder / f"pulumi-home/plugins/resource-{name}-v{version}/pulumi-resource-{name}"


def test_plugins_that_are_there_are_left_alone(tmp_path: Path) -> None:
    folder = complete_release(tmp_path)
    for name, version in pulumi.required_plugins():
        install(plugin(folder, name, version), ELF)
    lines: list[str] = []
    pulumi.install_plugins(folder, lines.append)
    assert lines == ["plugins: cached"]


def test_a_missing_plugin_and_one_that_is_no_compiled_program_are_downloaded_by_pulumi(
    tmp_path: Path, releases: Releases
) -> None:
    assert releases.folder.is_dir()
    folder = complete_release(tmp_path, b'#!/bin/sh\necho "$PULUMI_HOME $*" >> "$(dirname "$0")/calls"\n')
    wanted = dict(pulumi.required_plugins())
    for name, version in wanted.items():
        install(plugin(folder, name, version), b"#!/bin/sh\n" if name == "tls" else ELF)
    plugin(folder, "gitlab", wanted["gitlab"]).unlink()
    pulumi.install_plugins(folder, quiet)
    assert (folder / "bin/calls").read_text().splitlines() == [
        f"{folder}/pulumi-home plugin install resource {name} {wanted[name]} --reinstall" for name in ("gitlab", "tls")
    ]


def test_a_plugin_that_pulumi_cannot_install_is_an_error_with_its_output(tmp_path: Path, releases: Releases) -> None:
    assert releases.folder.is_dir()
    folder = complete_release(tmp_path, b"#!/bin/sh\necho 'rate limit exceeded'\nexit 1\n")
    with pytest.raises(progress.ToolError, match=r"(?s)plugin .* failed .*rate limit exceeded"):
        pulumi.install_plugins(folder, quiet)


def test_without_the_plugins_and_their_servers_the_error_says_what_to_do(tmp_path: Path) -> None:
    folder = complete_release(tmp_path)
    with pytest.raises(pulumi.UnavailableError) as caught:
        pulumi.install_plugins(folder, quiet)
    assert f"{NOWHERE} does not answer: allow this machine to reach get.pulumi.com" in str(caught.value)
    assert f"to {folder}/pulumi-home/plugins" in str(caught.value)
    assert all(f"{name} {version}" in str(caught.value) for name, version in pulumi.required_plugins())


def test_a_pulumi_without_its_language_host_is_refused(tmp_path: Path) -> None:
    install(tmp_path / "bin/pulumi", program(f"v{pulumi.VERSION}"))
    with pytest.raises(pulumi.UnavailableError, match="comes without Pulumi's Python language host"):
        pulumi.install_plugins(tmp_path, quiet)


def test_tools_that_cannot_be_installed_end_the_command_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "TOOLS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["tools", "prepare"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert str(caught.value).startswith(f"error: no Pulumi {pulumi.VERSION} on PATH")
    assert "\n" not in str(caught.value)


def test_a_user_keeps_login_and_backend_and_gets_the_tools_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PULUMI_HOME", "PULUMI_CREDENTIALS_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    found = environment.tool_environment(tmp_path)
    assert found["PULUMI_HOME"] == f"{tmp_path}/pulumi-home"
    assert found["PULUMI_CREDENTIALS_PATH"] == "/home/somebody/.pulumi"
    assert found["PATH"] == f"{tmp_path}/bin:{environment.VENV}/bin:/usr/bin:/bin"
    assert not found.keys() & {"PULUMI_BACKEND_URL", "DIGITALOCEAN_TOKEN", "HOME"}


def test_the_login_of_a_user_with_a_pulumi_home_of_their_own_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_CREDENTIALS_PATH", raising=False)
    monkeypatch.setenv("PULUMI_HOME", "/srv/pulumi")
    assert environment.tool_environment()["PULUMI_CREDENTIALS_PATH"] == "/srv/pulumi"


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)],
)
def test_the_exit_code_of_a_command_is_passed_on(command: str, code: int) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert processes.run_attached(["sh", "-c", command], os.environ) == code
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_command_that_does_not_exist_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert processes.run_attached(["no-such-command"], os.environ) == 127
    assert capfd.readouterr().err == "no-such-command: No such file or directory\n"


def test_a_command_is_looked_up_among_the_tools_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path / "bin/pulumi", program("the tool"))
    monkeypatch.setattr(cli, "tool_environment", lambda: environment.tool_environment(tmp_path))
    monkeypatch.setattr(sys, "argv", ["tools", "exec", "--", "pulumi", "--version"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0
    assert capfd.readouterr().out == "the tool\n"


def test_a_failed_command_shows_the_end_of_its_output_and_where_the_rest_is(tmp_path: Path) -> None:
    script = "print('beginning'); print('x\\n' * 50); print('the reason'); raise SystemExit(3)"
    with pytest.raises(progress.ToolError) as caught:
        progress.run("making", [sys.executable, "-c", script], tmp_path / "log")
    assert "the reason" in str(caught.value)
    assert str(tmp_path / "log") in str(caught.value)
    assert "beginning" not in str(caught.value)


def test_a_long_step_reports_that_it_is_still_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT", 0.01)
    lines: list[str] = []
    with progress.heartbeat("compiling", lines.append):
        eventually(lambda: lines)
    assert lines[0].startswith("compiling: still running after ")


def test_a_client_that_is_not_installed_is_named() -> None:
    with pytest.raises(clients.CheckError, match=r"^pulumi is not installed on this machine, or not on PATH$"):
        clients.Outputs.of_stack("production")


@pytest.mark.parametrize("command", [verify.verify, partial(demo.demo, confirmed=True)])
def test_a_stack_that_was_never_deployed_is_an_error_in_one_line(
    command: Callable[[str], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(tmp_path / "pulumi", program("{}"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert command("production") == 1
    assert capsys.readouterr().err == "error: stack production is not deployed: run `pulumi up` first\n"


def test_a_stack_that_pulumi_does_not_know_is_an_error_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path / "pulumi", b"#!/bin/sh\necho \"error: no stack named 'production' found\" >&2\nexit 1\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert verify.verify("production") == 1
    assert capsys.readouterr().err == "error: pulumi failed: error: no stack named 'production' found\n"
