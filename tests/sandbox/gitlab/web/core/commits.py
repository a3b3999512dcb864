"""Commits made through the API: several file changes in one commit on a branch."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import repositories
from .config import Config
from .errors import ApiError
from .events import NO_COMMIT

#: Names of branches that git takes and GitLab does not.
HEXADECIMAL = re.compile(r"[0-9a-fA-F]{40}")
HEXADECIMAL_REFUSED = "You cannot create a branch with a 40-character hexadecimal branch name."
WHOLE_REFS = ("refs/heads/", "refs/remotes/")
ACTIONS = ("create", "update", "delete", "move", "chmod")


@dataclass(frozen=True)
class Change:
    """What happens to one file. Without `content` a moved file keeps its own."""

    action: str
    path: str
    content: bytes | None = None
    previous_path: str | None = None
    executable: bool | None = None
    #: The change is refused when the file was changed after this commit.
    last_commit: str | None = None


@dataclass(frozen=True)
class Signature:
    """Who made a commit."""

    name: str
    email: str


def create(
    config: Config,
    project_id: int,
    *,
    branch: str,
    changes: list[Change],
    message: str,
    author: Signature,
    committer: Signature,
    start: str | None = None,
) -> tuple[str, str]:
    """Commit on a branch, made from `start` (a branch, tag or sha) when it is not there. Answers before and after.

    Refuses with the words of GitLab; then nothing has changed.
    """
    before = repositories.branches(config, project_id).get(branch)
    parent = before or _start(config, project_id, branch, start)
    with tempfile.TemporaryDirectory(prefix="commit-") as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        if parent:
            repositories.run(config, project_id, "read-tree", parent, env=index)
        for change in changes:
            _apply(config, project_id, parent, index, change)
        tree = repositories.run(config, project_id, "write-tree", env=index).decode().strip()
    people = {
        "GIT_AUTHOR_NAME": author.name,
        "GIT_AUTHOR_EMAIL": author.email,
        "GIT_COMMITTER_NAME": committer.name,
        "GIT_COMMITTER_EMAIL": committer.email,
    }
    parents = ["-p", parent] if parent else []
    after = repositories.run(
        config, project_id, "commit-tree", tree, *parents, "-F", "-", data=message.encode(), env=people
    )
    after_sha = after.decode().strip()
    move(config, project_id, f"{repositories.BRANCHES}{branch}", before, after_sha)
    return before or NO_COMMIT, after_sha


def move(config: Config, project_id: int, ref: str, before: str | None, after: str | None) -> None:
    """Set a ref to a commit, only when it still is where it was before; or remove it."""
    arguments = [ref, after, before or NO_COMMIT] if after else ["-d", ref]
    try:
        repositories.run(config, project_id, "update-ref", *arguments)
    except repositories.GitError:
        raise ApiError(400, {"message": "Could not update ref. Please refresh and try again."}) from None


def check_name(ref: str) -> bool:
    """Whether git takes this as a whole ref, and GitLab as one of a user's (`Gitlab::GitRefValidator`)."""
    name = ref.split("/", 2)[-1]
    if name.startswith(("-", *WHOLE_REFS)) or name == "HEAD":
        return False
    return repositories.valid_ref(ref)


def _start(config: Config, project_id: int, branch: str, start: str | None) -> str | None:
    if HEXADECIMAL.fullmatch(branch):
        raise ApiError(400, {"message": HEXADECIMAL_REFUSED})
    if not check_name(f"{repositories.BRANCHES}{branch}"):
        words = f"Something went wrong when we tried to create '{branch}' for you: Branch name is invalid"
        raise ApiError(400, {"message": words})
    if repositories.empty(config, project_id):
        return None
    sha = repositories.resolve(config, project_id, start) if start else None
    if sha is None:
        raise ApiError(400, {"message": "You can only create or edit files when you are on a branch"})
    return sha


def _apply(config: Config, project_id: int, parent: str | None, index: dict[str, str], change: Change) -> None:
    _check_path(change.path)
    source = change.previous_path if change.action == "move" and change.previous_path else change.path
    there = _mode_and_blob(config, project_id, index, source)
    if change.action == "create":
        if there:
            raise ApiError(400, {"message": "A file with this name already exists"})
    elif there is None:
        raise ApiError(400, {"message": "A file with this name doesn't exist"})
    elif change.action == "move" and _mode_and_blob(config, project_id, index, change.path):
        raise ApiError(400, {"message": "A file with this name already exists"})
    _check_fresh(config, project_id, parent, source, change.last_commit)
    if change.action in ("delete", "move"):
        gone = f"0 {NO_COMMIT}\t{source}\0".encode()
        repositories.run(config, project_id, "update-index", "-z", "--index-info", data=gone, env=index)
    if change.action == "delete":
        return
    mode, blob = there or ("100644", "")
    if change.executable is not None:
        mode = "100755" if change.executable else "100644"
    if change.content is not None and change.action != "chmod":
        blob = (
            repositories.run(config, project_id, "hash-object", "-w", "--stdin", data=change.content).decode().strip()
        )
    entry = f"{mode},{blob},{change.path}"
    try:
        repositories.run(config, project_id, "update-index", "--add", "--cacheinfo", entry, env=index)
    except repositories.GitError:
        raise ApiError(400, {"message": "A file with this name already exists"}) from None


def _mode_and_blob(config: Config, project_id: int, index: dict[str, str], path: str) -> tuple[str, str] | None:
    told = repositories.run(config, project_id, "--literal-pathspecs", "ls-files", "-s", "-z", "--", path, env=index)
    for line in told.decode(errors="replace").split("\0"):
        meta, _, name = line.partition("\t")
        if name == path:
            mode, blob, _ = meta.split(" ")
            return mode, blob
    return None


def _check_fresh(config: Config, project_id: int, parent: str | None, path: str, known: str | None) -> None:
    if not known or parent is None:
        return
    found = repositories.log(config, project_id, parent, path=path, limit=1)
    if found and not repositories.is_ancestor(config, project_id, found[0].sha, known):
        raise ApiError(
            400,
            {"message": "You are attempting to update a file that has changed since you started editing it."},
        )


def _check_path(path: str) -> None:
    parts = path.split("/")
    if ".." in parts or "." in parts or ".git" in (part.lower() for part in parts):
        raise ApiError(400, {"message": "Path cannot include directory traversal"})
    if "" in parts or "\0" in path:
        raise ApiError(400, {"message": f"invalid path: '{path}'"})
