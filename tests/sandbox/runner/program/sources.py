"""The project's files in the build volume: cloned with the job's own token.

The runner itself does this, on the volume's folder, where the real program starts a helper container. The clone is new
for every job: git never runs in a folder that a job could have prepared.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from . import version
from .payload import Payload, Variables

DEPTH = 20
#: What a job makes is for whatever user its image has.
UMASK = 0o000


class SourcesError(Exception):
    """The files cannot be had; the message says why."""


def inside(root: Path, path: str) -> Path:
    """`path` below `root`. `SourcesError` when a link that a job left there leads out."""
    found = (root / path.lstrip("/")).resolve()
    if not found.is_relative_to(root.resolve()):
        raise SourcesError(f"{path} leads out of the folder of builds")
    return found


def get_sources(
    payload: Payload, variables: Variables, folder: Path, certificate: str, say: Callable[[str], None]
) -> None:
    """Have the job's commit in `folder`, as `GIT_STRATEGY` says."""
    strategy = variables.get("GIT_STRATEGY") or ("fetch" if payload.body.get("allow_git_fetch", True) else "clone")
    if strategy not in ("fetch", "clone", "none", "empty"):
        raise SourcesError(f"unknown GIT_STRATEGY {strategy!r}")
    if strategy == "none":
        say("Skipping Git repository setup")
        folder.mkdir(mode=0o777, parents=True, exist_ok=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
    _make(folder)
    if strategy == "empty":
        say("Skipping Git repository setup and creating an empty build directory")
        return
    git = Git(payload, folder, certificate, say)
    depth = int(variables.get("GIT_DEPTH") or payload.git.get("depth") or 0)
    say(f"Fetching changes with git depth set to {depth}..." if depth else "Fetching changes...")
    git.fetch(payload, depth)
    say("Created fresh repository.")
    if variables.get("GIT_CHECKOUT", "true").lower() != "false":
        sha, ref = str(payload.git["sha"]), payload.git.get("ref")
        say(f"Checking out {sha[:8]} as detached HEAD (ref is {ref})...")
        git.run("checkout", "-f", "-q", "--detach", sha)
    submodules = variables.get("GIT_SUBMODULE_STRATEGY", "none")
    if submodules in ("normal", "recursive"):
        say("Updating/initializing submodules...")
        git.run("submodule", "update", "--init", *(["--recursive"] if submodules == "recursive" else []))
    else:
        say("")
        say("Skipping Git submodules setup")


def _make(folder: Path) -> None:
    before = os.umask(UMASK)
    try:
        folder.mkdir(parents=True)
    finally:
        os.umask(before)


class Git:
    """git in one folder, with the job's token in its environment only."""

    def __init__(self, payload: Payload, folder: Path, certificate: str, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        parts = urlsplit(str(payload.git["repo_url"]))
        host = parts.netloc.rpartition("@")[2]
        self.url = parts._replace(netloc=host).geturl()
        user, password = parts.username or "gitlab-ci-token", parts.password or payload.token
        origin = f"{parts.scheme}://{host}/"
        secret = f"{parts.scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}/"
        settings = {
            f"url.{secret}.insteadOf": origin,
            "http.userAgent": f"gitlab-runner {version()} linux/amd64",
            "safe.directory": "*",
            "init.defaultBranch": "none",
            "advice.detachedHead": "false",
            "gc.auto": "0",
            "core.hooksPath": "/dev/null",
        }
        settings |= {"http.sslCAInfo": certificate} if certificate else {}
        self._environment = {
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "HOME": "/nonexistent",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": str(len(settings)),
            **{f"GIT_CONFIG_KEY_{n}": key for n, key in enumerate(settings)},
            **{f"GIT_CONFIG_VALUE_{n}": value for n, value in enumerate(settings.values())},
        }

    def fetch(self, payload: Payload, depth: int) -> None:
        """An empty repository with the job's references."""
        self.run("init", "--quiet", "--template=", ".")
        self.run("remote", "add", "origin", self.url)
        references = [str(spec) for spec in payload.git.get("refspecs") or []]
        references = references or [f"+{payload.git['sha']}"]
        shallow = ["--depth", str(depth)] if depth else []
        self.run(
            "fetch", "origin", "--no-recurse-submodules", "--refmap", "", *references, *shallow, "--prune", "--quiet"
        )

    def run(self, *words: str) -> None:
        """One git command; its output goes to the job's log."""
        done = subprocess.run(
            ["git", *words],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            umask=UMASK,
            check=False,
        )
        for line in done.stdout.splitlines():
            self._say(line)
        if done.returncode:
            raise SourcesError(f"git {words[0]}: exit code {done.returncode}")
