"""The clients that a user of an installation has: shell programs, Docker, S3, GitLab's API."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
import ssl
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import boto3
import gitlab
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from components.trust import trust
from tools.progress import ToolError
from tools.trust import trusted_file

#: Where the images are without object storage.
REGISTRY_FOLDER: Final = "/var/opt/gitlab/gitlab-rails/shared/registry"


class CheckError(Exception):
    """Something is not as promised; the message says what was found."""


#: What a check may raise instead of returning a result; anything else is a bug in the check.
FAILURES = (CheckError, OSError, subprocess.SubprocessError, gitlab.GitlabError, BotoCoreError, ClientError)


def run(*command: str, stdin: str = "", timeout: float = 60) -> str:
    """Run a program that has to succeed and return its standard output.

    Raises:
        CheckError: it failed or is not installed; the message has the last line of its output.
    """
    done = try_run(*command, stdin=stdin, timeout=timeout)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CheckError(f"{command[0]} failed: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout


def try_run(
    *command: str,
    stdin: str = "",
    timeout: float = 60,
    environment: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program that may fail.

    Raises:
        CheckError: it is not installed.
    """
    try:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise CheckError(f"{command[0]} is not installed on this machine, or not on PATH") from error


@dataclass(frozen=True)
class Outputs:
    """The outputs of a stack, secrets included."""

    values: dict[str, Any]

    @classmethod
    def of_stack(cls, stack: str | None = None) -> Self:
        """Read the outputs of a stack, or of the selected one.

        Raises:
            CheckError: Pulumi cannot read them, or the stack has not been deployed.
        """
        which = ["--stack", stack] if stack else []
        values = json.loads(run("pulumi", "stack", "output", "--json", "--show-secrets", *which))
        if "gitlab_url" not in values:
            raise CheckError(f"stack {stack or 'that is selected'} is not deployed: run `pulumi up` first")
        return cls(values)

    @property
    def url(self) -> str:
        """The address of GitLab."""
        return str(self.values["gitlab_url"])

    @property
    def host(self) -> str:
        """The host name of GitLab and of its registry."""
        return self.url.removeprefix("https://")

    @property
    def address(self) -> str:
        """The server's reserved IP address."""
        return str(self.values["server_address"])

    @property
    def registry(self) -> str:
        """`host:port` of the registry."""
        return str(self.values["registry"])

    @property
    def registry_port(self) -> int:
        """The port of the registry."""
        return int(self.registry.rsplit(":", 1)[1])

    @property
    def user(self) -> str:
        """The administrator of GitLab."""
        return str(self.values["gitlab_admin_user"])

    @property
    def password(self) -> str:
        """The administrator's password."""
        return str(self.values["gitlab_admin_password"])

    @property
    def api_token(self) -> str:
        """The stack's token for GitLab's API, which is also a password for the registry."""
        return str(self.values["gitlab_api_token"])

    @property
    def storage(self) -> dict[str, str] | None:
        """Bucket and key of the registry; None if images are on the server."""
        return self.values.get("registry_storage")

    @property
    def ssh_user(self) -> str:
        """The administrator of the server."""
        return str(self.values["server_ssh_user"])

    @property
    def backup(self) -> dict[str, Any] | None:
        """Where the backups are, and the keys for them; None without backups."""
        return self.values.get("backup")

    @property
    def mail(self) -> dict[str, str] | None:
        """The mail server, the sender and who gets the test mail; None if GitLab sends no mail."""
        return self.values.get("mail")

    @property
    def metrics(self) -> str | None:
        """Where Prometheus listens on the server; None if it does not run."""
        return self.values.get("metrics")

    @property
    def ca_certificate(self) -> str | None:
        """The stack's own certificate authorities, as PEM; None if only public ones issue its certificates."""
        return self.values.get("ca_certificate")

    def trust(self) -> ssl.SSLContext:
        """What to verify the stack's servers with: this machine's authorities, and the stack's own."""
        return trust(self.ca_certificate)

    @property
    def projects(self) -> list[dict[str, str]]:
        """The outputs of each project of the stack."""
        return list(self.values.get("projects") or [])

    def gitlab(self, timeout: float = 30) -> gitlab.Gitlab:
        """A client of GitLab's API that uses the stack's token; `timeout` in seconds."""
        return gitlab_client(self.url, self.api_token, ca_certificate=self.ca_certificate, timeout=timeout)

    def ssh(self, command: str, stdin: str = "", timeout: float = 60) -> str:
        """Run a command on the server, over a connection pinned to the exported host key, and return its output."""
        with self.ssh_files() as options:
            return run("ssh", *options, f"{self.ssh_user}@{self.address}", command, stdin=stdin, timeout=timeout)

    @contextmanager
    def ssh_files(self) -> Iterator[list[str]]:
        """Options for `ssh` that use the exported keys and none of the user's configuration."""
        with tempfile.TemporaryDirectory() as folder:
            identity, known = Path(folder, "id"), Path(folder, "known_hosts")
            identity.touch(mode=0o600)
            identity.write_text(str(self.values["server_ssh_private_key"]))
            known.write_text(f"{self.address} {self.values['server_ssh_host_key']}\n")
            yield [
                *("-F", "none", "-i", str(identity), "-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes"),
                *("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
            ]


def outputs_of(stack: str | None) -> Outputs:
    """The outputs of a stack, or of the selected one, for a command that is of no use without them.

    Raises:
        ToolError: Pulumi cannot read them, or the stack has not been deployed.
    """
    try:
        return Outputs.of_stack(stack)
    except FAILURES as error:
        raise ToolError(str(error)) from error


def gitlab_client(url: str, token: str, *, ca_certificate: str | None = None, timeout: float = 30) -> gitlab.Gitlab:
    """A client of GitLab's API at `url`, the address of GitLab.

    `ca_certificate` is PEM that it trusts beside this machine's authorities; `timeout` is in seconds.
    """
    trusted = trusted_file(ca_certificate, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return gitlab.Gitlab(url, private_token=token, ssl_verify=trusted, timeout=timeout)


@dataclass(frozen=True)
class Docker:
    """The Docker client with a configuration folder of its own, so that no login stays behind."""

    folder: str

    @classmethod
    @contextmanager
    def session(cls) -> Iterator[Self]:
        """A client whose logins are removed at the end."""
        with tempfile.TemporaryDirectory() as folder:
            # Plugins such as buildx may be in the user's own folder, as those of Docker Desktop are.
            plugins = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker", "cli-plugins")
            if plugins.is_dir():
                Path(folder, "cli-plugins").symlink_to(plugins.absolute())
            yield cls(folder)

    def login(self, registry: str, user: str, password: str) -> None:
        """Log in.

        Raises:
            CheckError: the login is refused.
        """
        done = self.try_login(registry, user, password)
        if done.returncode != 0:
            raise CheckError(f"docker login: {done.stderr.strip()}")

    def try_login(self, registry: str, user: str, password: str) -> subprocess.CompletedProcess[str]:
        """Try to log in; the password is passed on standard input."""
        return self._try("login", "--username", user, "--password-stdin", registry, stdin=password)

    def logout(self, registry: str) -> None:
        """Log out."""
        self._run("logout", registry)

    def make_image(self, name: str) -> None:
        """Make an image of one layer with random content, which no registry has yet."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            content = secrets.token_bytes(1 << 20)
            entry = tarfile.TarInfo("content")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        done = subprocess.run(
            ["docker", "import", "-", name], input=archive.getvalue(), capture_output=True, check=False, timeout=60
        )
        if done.returncode != 0:
            raise CheckError(f"docker import: {done.stderr.decode().strip()}")

    def push(self, name: str) -> str:
        """Push an image; returns its digest."""
        self._run("push", "--quiet", name)
        return self._digest(name)

    def pull(self, name: str) -> str:
        """Pull an image; returns its digest."""
        self._run("pull", "--quiet", name)
        return self._digest(name)

    def try_pull(self, name: str) -> subprocess.CompletedProcess[str]:
        """Try to pull an image."""
        return self._try("pull", "--quiet", name)

    @contextmanager
    def running(self, name: str, port: int) -> Iterator[int]:
        """Run a container of an image until the end of the block; yields the local port that leads to its `port`."""
        container = self._run("run", "--detach", "--rm", "--publish", f"127.0.0.1::{port}", name).strip()
        try:
            yield int(self._run("port", container, f"{port}/tcp").split(":")[-1])
        finally:
            self._run("kill", container)

    def try_push(self, name: str) -> subprocess.CompletedProcess[str]:
        """Try to push an image."""
        return self._try("push", "--quiet", name)

    def contents(self, name: str) -> list[str]:
        """Ask the registry which blobs an image consists of: configuration and layers, of all platforms."""
        found = json.loads(self._run("manifest", "inspect", name))
        repository = name.rpartition("@" if "@" in name else ":")[0]
        if "manifests" in found:
            return [part for entry in found["manifests"] for part in self.contents(f"{repository}@{entry['digest']}")]
        return [part["digest"] for part in (found["config"], *found["layers"])]

    def digest_of(self, name: str) -> str:
        """Ask the registry for the digest of an image: of its manifest or index, byte for byte."""
        # Not from a file name or a header: the digest is that of what the registry sends.
        raw = self._run("buildx", "imagetools", "inspect", "--raw", name)
        return f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}"

    def copy(self, name: str, other: str) -> None:
        """Copy an image between registries unchanged, with all that its index has."""
        self._run("buildx", "imagetools", "create", "--prefer-index=false", "--tag", other, name)

    def rename(self, name: str, other: str) -> None:
        """Give an image another name."""
        self._run("tag", name, other)

    def forget(self, name: str) -> None:
        """Remove the local copy of an image."""
        self._run("rmi", "--force", name)

    def _digest(self, name: str) -> str:
        found = json.loads(self._run("inspect", "--format", "{{json .RepoDigests}}", name))
        return str(found[0]).split("@")[1]

    def _run(self, *words: str) -> str:
        done = self._try(*words)
        if done.returncode != 0:
            raise CheckError(f"docker {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def _try(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        # Docker prefers credentials in DOCKER_AUTH_CONFIG to a login; an empty one counts as none.
        environment = {"DOCKER_CONFIG": self.folder, "DOCKER_AUTH_CONFIG": ""}
        return try_run("docker", *words, stdin=stdin, timeout=300, environment=environment)


@contextmanager
def temporary_project(outputs: Outputs, at_the_end: Callable[[], Outputs] | None = None) -> Iterator[str]:
    """Create a private project, yield its path, and delete it at the end.

    If the stack's API token may change meanwhile, `at_the_end` returns the outputs to delete it with.
    """
    name = f"verify-{secrets.token_hex(4)}"
    project = outputs.gitlab().projects.create({"name": name, "visibility": "private"})
    try:
        yield str(project.path_with_namespace)
    finally:
        # Over a new connection: the server may have been replaced meanwhile.
        projects = (at_the_end() if at_the_end else outputs).gitlab().projects
        projects.delete(project.id)
        # GitLab keeps a deleted project, with its images, for weeks. Where that is a rule, it stays until then.
        with suppress(gitlab.GitlabError):
            marked = projects.get(project.id)
            projects.delete(project.id, permanently_remove=True, full_path=marked.path_with_namespace)


@dataclass(frozen=True)
class Stored:
    """The blobs in the registry's storage, by digest, and the bytes of all that is in it."""

    place: str
    blobs: frozenset[str]
    size: int

    def require(self, digests: Iterable[str]) -> None:
        """Verify that blobs are there.

        Raises:
            CheckError: one is not.
        """
        missing = sorted(set(digests) - self.blobs)
        if missing:
            raise CheckError(f"{self.place} has {len(self.blobs)} blobs, but not {', '.join(missing)}")

    def __str__(self) -> str:
        return f"{len(self.blobs)} blobs, {self.size / 2**20:.1f} MiB in {self.place}"


def stored(outputs: Outputs) -> Stored:
    """List the registry's storage: the bucket, or a folder of the server's data volume."""
    storage = outputs.storage
    if storage is None:
        found = outputs.ssh(f"sudo find {REGISTRY_FOLDER} -type f -printf '%s %p\\n'").splitlines()
        sizes = {path: int(size) for size, path in (line.split(" ", 1) for line in found)}
        return _stored("the server's volume", sizes)
    objects = [entry for page in objects_in(storage, ca_certificate=outputs.ca_certificate) for entry in page]
    return _stored(f"bucket {storage['bucket']}", {entry["Key"]: entry["Size"] for entry in objects})


def objects_in(
    storage: Mapping[str, str], prefix: str = "", *, ca_certificate: str | None = None, timeout: float = 30
) -> Iterator[list[Any]]:
    """The objects in a bucket whose keys begin with `prefix`, page by page, as S3 lists them.

    `ca_certificate` is PEM that is trusted beside this machine's authorities; `timeout` is in seconds.

    Raises:
        BotoCoreError: the storage does not answer.
        ClientError: it refuses.
    """
    # A session of its own: several threads may ask.
    client = boto3.Session().client(
        "s3",
        endpoint_url=storage["endpoint"],
        verify=trusted_file(ca_certificate, "AWS_CA_BUNDLE"),
        region_name=storage["region"],
        aws_access_key_id=storage["access_key"],
        aws_secret_access_key=storage["secret_key"],
        config=Config(connect_timeout=min(timeout, 10), read_timeout=timeout),
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=storage["bucket"], Prefix=prefix)
    for page in pages:
        yield page.get("Contents", [])


def _stored(place: str, sizes: Mapping[str, int]) -> Stored:
    found = (re.search(r"/blobs/sha256/../([0-9a-f]{64})/data$", name) for name in sizes)
    return Stored(place, frozenset(f"sha256:{match[1]}" for match in found if match), sum(sizes.values()))
