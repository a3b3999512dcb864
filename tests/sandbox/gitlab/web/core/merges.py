"""What merging two branches comes to, by plain git: commits, changes and conflicts between them, the merged commit."""

from __future__ import annotations

from dataclasses import dataclass

from . import repositories
from .commits import Signature
from .config import Config

ABSENT = "0" * 6


@dataclass(frozen=True)
class FileChange:
    """What happens to one file between two commits. `text` is the unified diff below the names of the files."""

    old_path: str
    new_path: str
    old_mode: str
    new_mode: str
    kind: str
    text: str


def base(config: Config, project_id: int, one: str, other: str) -> str | None:
    """The last commit that both have; nothing when they have none in common."""
    try:
        return repositories.run(config, project_id, "merge-base", one, other).decode().strip()
    except repositories.GitError:
        return None


def merged_tree(config: Config, project_id: int, target: str, source: str) -> str | None:
    """The tree that a merge makes; nothing when it conflicts."""
    try:
        made = repositories.run(config, project_id, "merge-tree", "--write-tree", target, source)
    except repositories.GitError:
        return None
    return made.decode().splitlines()[0]


def make_commit(
    config: Config, project_id: int, *, tree: str, parents: list[str], message: str, author: Signature
) -> str:
    """A commit of a tree, on no branch yet."""
    people = {
        "GIT_AUTHOR_NAME": author.name,
        "GIT_AUTHOR_EMAIL": author.email,
        "GIT_COMMITTER_NAME": author.name,
        "GIT_COMMITTER_EMAIL": author.email,
    }
    options = [word for parent in parents for word in ("-p", parent)]
    made = repositories.run(
        config, project_id, "commit-tree", tree, *options, "-F", "-", data=message.encode(), env=people
    )
    return made.decode().strip()


def changes(config: Config, project_id: int, before: str, after: str) -> list[FileChange]:
    """The files that differ between two commits, renamed ones as one."""
    told = repositories.run(config, project_id, "diff-tree", "-r", "-z", "-M", "--raw", before, after)
    words = iter(told.decode(errors="replace").split("\0"))
    found = []
    for head in words:
        if not head:
            continue
        old_mode, new_mode, _, _, kind = head.lstrip(":").split(" ")
        old_path = next(words)
        new_path = next(words) if kind[0] in "RC" else old_path
        text = _text(config, project_id, before, after, [old_path, new_path])
        found.append(FileChange(old_path, new_path, old_mode, new_mode, kind[0], text))
    return found


def _text(config: Config, project_id: int, before: str, after: str, paths: list[str]) -> str:
    told = repositories.run(
        config, project_id, "--literal-pathspecs", "diff", "-M", "--no-color", before, after, "--", *paths
    ).decode(errors="replace")
    lines = told.splitlines(keepends=True)
    start = next((at for at, line in enumerate(lines) if line.startswith(("@@", "Binary files"))), len(lines))
    return "".join(lines[start:])
