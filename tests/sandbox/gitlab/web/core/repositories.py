"""Bare git repositories of projects, through the `git` program.

A repository is stored under the project's ID, in the layout of GitLab's hashed storage, so renaming a project moves
nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .config import Config

#: Nobody's settings but the repository's own.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    # Repositories can belong to the account that made a backup; who serves them decides who reads them.
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}
BRANCHES, TAGS = "refs/heads/", "refs/tags/"
_FIELDS = "%H%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%s%x00%B%x1e"


class GitError(Exception):
    """`git` refused; its own words."""


@dataclass(frozen=True)
class Commit:
    """A commit, with its names and dates as git tells them."""

    sha: str
    parents: tuple[str, ...]
    author_name: str
    author_email: str
    authored_at: str
    committer_name: str
    committer_email: str
    committed_at: str
    title: str
    message: str


@dataclass(frozen=True)
class Entry:
    """A file or a folder of a tree."""

    mode: str
    kind: str
    sha: str
    path: str


def disk_path(project_id: int) -> str:
    """The folder of a project's data, which its name does not change."""
    name = hashlib.sha256(str(project_id).encode()).hexdigest()
    return f"@hashed/{name[:2]}/{name[2:4]}/{name}"


def directory(config: Config, project_id: int) -> Path:
    """Where the repository of a project is."""
    return config.git_data / "repositories" / f"{disk_path(project_id)}.git"


def run(
    config: Config, project_id: int, *arguments: str, data: bytes | None = None, env: Mapping[str, str] | None = None
) -> bytes:
    """What `git` says. Raises `GitError` when it refuses or there is no repository."""
    path = directory(config, project_id)
    if not path.is_dir():
        raise GitError("A repository for this project does not exist yet.")
    ran = subprocess.run(
        ["/usr/bin/git", "--git-dir", str(path), *arguments],
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        check=False,
        env=ENVIRONMENT | dict(env or {}),
    )
    if ran.returncode:
        raise GitError(ran.stderr.decode(errors="replace").strip() or f"git exited with {ran.returncode}")
    return ran.stdout


def valid_ref(ref: str) -> bool:
    """Whether git takes this as a whole ref."""
    if "\0" in ref:
        return False
    command = ["/usr/bin/git", "check-ref-format", ref]
    return subprocess.run(command, capture_output=True, check=False, env=ENVIRONMENT).returncode == 0


def ensure(config: Config, project_id: int, default_branch: str = "main") -> None:
    """Make the repository of a project when there is none."""
    path = directory(config, project_id)
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    # No template: what a template of the machine brings is not wanted here.
    command = ["/usr/bin/git", "init", "--quiet", "--bare", "--template=", f"--initial-branch={default_branch}"]
    subprocess.run([*command, str(fresh)], check=True, capture_output=True, env=ENVIRONMENT)
    fresh.rename(path)


def remove(config: Config, project_id: int) -> None:
    """Remove the repository of a project."""
    shutil.rmtree(directory(config, project_id), ignore_errors=True)


def set_head(config: Config, project_id: int, branch: str) -> None:
    """Say which branch a clone gets."""
    run(config, project_id, "symbolic-ref", "HEAD", f"{BRANCHES}{branch}")


def resolve(config: Config, project_id: int, ref: str) -> str | None:
    """The commit that a branch, tag, whole ref or (shortened) sha names; nothing when there is none."""
    if not ref or ref.startswith("-") or "\0" in ref:
        return None
    for name in (f"{BRANCHES}{ref}", f"{TAGS}{ref}", ref):
        try:
            found = run(
                config, project_id, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
            )
        except GitError:
            continue
        return found.decode().strip()
    return None


def refs(config: Config, project_id: int, prefix: str) -> dict[str, str]:
    """Refs below a prefix, such as `BRANCHES`: short name to commit, sorted by name."""
    try:
        told = run(
            config, project_id, "for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", prefix
        ).decode()
    except GitError:
        return {}
    found = {}
    for line in told.splitlines():
        name, sha, peeled = line.split(" ", 2)
        found[name.removeprefix(prefix)] = peeled or sha
    return found


def branches(config: Config, project_id: int) -> dict[str, str]:
    """Branches: name to commit."""
    return refs(config, project_id, BRANCHES)


def tags(config: Config, project_id: int) -> dict[str, str]:
    """Tags: name to the commit that they name in the end."""
    return refs(config, project_id, TAGS)


def empty(config: Config, project_id: int) -> bool:
    """Whether there is no branch yet. Read from the files: it is asked for every project of a list."""
    path = directory(config, project_id)
    packed = path / "packed-refs"
    if packed.is_file() and f" {BRANCHES}" in packed.read_text():
        return False
    return not any(found.is_file() and found.suffix != ".lock" for found in (path / BRANCHES).rglob("*"))


def read_file(config: Config, project_id: int, ref: str, path: str) -> bytes | None:
    """The content of a file at a ref; nothing when it is not there."""
    entry = find_entry(config, project_id, ref, path)
    if entry is None or entry.kind != "blob":
        return None
    return run(config, project_id, "cat-file", "blob", entry.sha)


def find_entry(config: Config, project_id: int, ref: str, path: str) -> Entry | None:
    """A file or folder at a ref."""
    wanted = path.strip("/")
    return next((entry for entry in _entries(config, project_id, ref, "--", wanted) if entry.path == wanted), None)


def tree(config: Config, project_id: int, ref: str, path: str = "", recursive: bool = False) -> list[Entry]:
    """What is in a folder at a ref; with `recursive` also in those inside of it."""
    options = ["-r", "-t"] if recursive else []
    below = [f"{path.strip('/')}/"] if path.strip("/") else []
    found = _entries(config, project_id, ref, *options, "--", *below)
    return [entry for entry in found if not below or entry.path.startswith(below[0])]


def _entries(config: Config, project_id: int, ref: str, *arguments: str) -> list[Entry]:
    sha = resolve(config, project_id, ref)
    if sha is None:
        return []
    split = arguments.index("--")
    told = run(
        config,
        project_id,
        "--literal-pathspecs",
        "ls-tree",
        "-z",
        "--full-tree",
        *arguments[:split],
        sha,
        *arguments[split:],
    )
    found = []
    for line in told.decode(errors="replace").split("\0"):
        if line:
            meta, _, name = line.partition("\t")
            mode, kind, entry_sha = meta.split(" ")
            found.append(Entry(mode, kind, entry_sha, name))
    return found


def log(
    config: Config, project_id: int, ref: str, *, path: str | None = None, limit: int = 1000, since: str | None = None
) -> list[Commit]:
    """Commits from a ref backwards, newest first; of one path; without those that `since` has."""
    sha = resolve(config, project_id, ref)
    if sha is None:
        return []
    excluded = [f"^{since}"] if since else []
    paths = ["--", path] if path else []
    told = run(
        config, project_id, "--literal-pathspecs", "log", f"-n{limit}", f"--format={_FIELDS}", sha, *excluded, *paths
    )
    return [_commit(text.lstrip("\n")) for text in told.decode(errors="replace").split("\x1e") if text.strip("\n")]


def commit(config: Config, project_id: int, ref: str) -> Commit | None:
    """The commit that a ref names."""
    found = log(config, project_id, ref, limit=1)
    return found[0] if found else None


def changed_paths(config: Config, project_id: int, before: str, after: str) -> list[str]:
    """Paths that differ between two commits; all of `after` when there is nothing before."""
    if resolve(config, project_id, before) is None:
        return [entry.path for entry in tree(config, project_id, after, recursive=True) if entry.kind == "blob"]
    told = run(config, project_id, "diff-tree", "-r", "-z", "--no-renames", "--name-only", before, after)
    return [name for name in told.decode(errors="replace").split("\0") if name]


def is_ancestor(config: Config, project_id: int, older: str, newer: str) -> bool:
    """Whether one commit is before another."""
    try:
        run(config, project_id, "merge-base", "--is-ancestor", older, newer)
    except GitError:
        return False
    return True


def _commit(text: str) -> Commit:
    sha, parents, author, author_email, authored, name, email, committed, title, message = text.split("\0", 9)
    return Commit(
        sha=sha,
        parents=tuple(parents.split()),
        author_name=author,
        author_email=author_email,
        authored_at=authored,
        committer_name=name,
        committer_email=email,
        committed_at=committed,
        title=title,
        message=message.rstrip("\n") + "\n",
    )
