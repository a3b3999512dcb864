"""Pulumi's releases, downloaded by the real tools from hosts with the real names, in a network without internet."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import trustme

from tests.sandbox import layout
from tests.sandbox_tests.support import download_hosts
from tools import pulumi, releases
from tools.environment import ROOT

#: `python -m tools prepare`, with the tools in a folder of the test's own.
PREPARE = """
import pathlib, sys, tools.cli
tools.cli.TOOLS = pathlib.Path(sys.argv.pop())
sys.argv[1:] = ["prepare"]
tools.cli.main()
"""


def archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


class Downloads:
    """The hosts, and the folder that the tools are installed into."""

    def __init__(self, folder: Path) -> None:
        self.hosts, self.tools = folder / "hosts", folder / "tools"
        self.hosts.mkdir()
        authority = trustme.CA()
        certificate = authority.issue_cert(*download_hosts.HOSTS, download_hosts.STORAGE)
        certificate.private_key_and_cert_chain_pem.write_to_path(self.hosts / "server.pem")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "SSL_CERT_FILE": str(folder / "ca.pem"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }

    def publish(self, release: releases.Release, files: dict[str, bytes], algorithm: str) -> None:
        """Put an archive and its list of checksums where Pulumi has them."""
        content = archive(files)
        self.path(release.url).parent.mkdir(parents=True, exist_ok=True)
        self.path(release.url).write_bytes(content)
        listed = f"{hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()}  ./{release.name}\n"
        self.path(release.checksums_url).parent.mkdir(parents=True, exist_ok=True)
        self.path(release.checksums_url).write_text(listed)

    def path(self, url: str) -> Path:
        """The file that is served at an address."""
        return self.hosts / url.removeprefix("https://")

    def requests(self) -> list[str]:
        """What has been asked for, without what another host has sent the client to."""
        lines = (self.hosts / "requests").read_text().splitlines()
        return [line for line in lines if download_hosts.STORAGE not in line]

    def run(self, *command: str | Path, delay: float = 0) -> subprocess.CompletedProcess[str]:
        """Run a command in the network of these hosts."""
        module = [sys.executable, "-m", "tests.sandbox_tests.support.download_hosts", str(self.hosts), str(delay), "--"]
        return subprocess.run(
            ["unshare", "--net", "--mount", *module, *map(str, command)],
            cwd=ROOT,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )

    def prepare(self, delay: float = 0) -> subprocess.CompletedProcess[str]:
        """`make` on a real account begins so."""
        return self.run(sys.executable, "-c", PREPARE, self.tools, delay=delay)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Downloads:
    """Hosts with everything: the real CLI, and plugins that are recognized by their text."""
    made = Downloads(tmp_path_factory.mktemp("downloads"))
    program = (layout.current().cache / "bin/pulumi").read_bytes()
    files = {"pulumi/pulumi": program, "pulumi/pulumi-language-python-exec": b"#!/bin/sh\n"}
    made.publish(releases.cli(pulumi.VERSION), files, "sha256")
    for name, version in pulumi.required_plugins():
        made.publish(releases.plugin(name, version), {f"pulumi-resource-{name}": name.encode()}, "sha1")
    return made


def test_without_the_hosts_one_message_says_what_cannot_be_had(downloads: Downloads) -> None:
    environment = {**downloads.environment, "PATH": os.environ["PATH"]}
    command = ["unshare", "--net", sys.executable, "-c", PREPARE, str(downloads.tools)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    [message] = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert message.startswith("error: https://github.com/pulumi/pulumi/releases/download/")


def test_a_changed_archive_is_refused_and_nothing_of_it_is_installed(downloads: Downloads) -> None:
    release = releases.plugin("gitlab", dict(pulumi.required_plugins())["gitlab"])
    right = downloads.path(release.url).read_bytes()
    downloads.path(release.url).write_bytes(archive({"pulumi-resource-gitlab": b"changed on the way"}))
    done = downloads.prepare()
    downloads.path(release.url).write_bytes(right)
    assert done.returncode == 1
    assert f"{release.name} does not match its checksum: {release.checksums} has " in done.stderr
    assert "nothing was installed" in done.stderr
    assert list((downloads.tools / "pulumi-home/plugins").glob("resource-gitlab*")) == []


def test_pulumi_and_all_plugins_are_installed_from_hosts_that_answer_late(downloads: Downloads) -> None:
    done = downloads.prepare(delay=4.5)
    assert done.returncode == 0, done.stderr
    assert pulumi.has_version(downloads.tools / "bin/pulumi")
    for name, version in pulumi.required_plugins():
        assert pulumi.plugin_program(downloads.tools / "pulumi-home", name, version).read_text() == name
    again = downloads.prepare()
    assert [line.partition("] ")[2] for line in again.stderr.splitlines()] == [
        f"pulumi {pulumi.VERSION}: cached",
        "plugins: cached",
    ]


@pytest.mark.parametrize(("name", "version"), pulumi.required_plugins())
def test_pulumi_itself_takes_a_plugin_from_the_same_address(
    name: str, version: str, downloads: Downloads, tmp_path: Path
) -> None:
    """`pulumi install`, for users of plain Pulumi, does."""
    downloads.environment["PULUMI_HOME"] = str(tmp_path)
    before = len(downloads.requests())
    program = layout.current().cache / "bin/pulumi"
    done = downloads.run(program, "plugin", "install", "resource", name, version)
    assert done.returncode == 0, done.stderr
    assert downloads.requests()[before:] == [releases.plugin(name, version).url]
    assert pulumi.plugin_program(tmp_path, name, version).read_text() == name
