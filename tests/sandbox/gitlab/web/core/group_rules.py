"""What GitLab refuses about groups: names, visibilities that do not go together, and the last owner's leave."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from . import access, db
from .errors import ApiError, rejected
from .namespaces import VISIBILITIES

#: `lib/gitlab/regex.rb`, `group_name_regex` and its message.
NAME = re.compile(r"[\w\u00a9-\U0001f9ff][\w\u00a9-\U0001f9ff() .\u2010-\u2015-]*\Z")
NAME_RULE = (
    "can contain only letters, digits, emoji, '_', '.', dash, space, parenthesis. It must start with letter, digit, "
    "emoji or '_'."
)
#: `app/models/namespace.rb`
LONGEST_NAME, LONGEST_DESCRIPTION = 255, 500


@contextmanager
def told_of_a_new_group() -> Iterator[None]:
    """The words for a group that could not be made: those of an existing one as Ruby prints them."""
    try:
        yield
    except ApiError as error:
        reasons = error.body["message"]
        shown = ", ".join(f":{field}=>[{', '.join(map(_quoted, words))}]" for field, words in reasons.items())
        raise ApiError(error.status, {"message": f"Failed to save group {{{shown}}}"}) from error


def check_texts(name: str, description: str | None) -> None:
    """Refuse a name or a description that no group can have."""
    if not NAME.match(name):
        raise rejected("name", NAME_RULE)
    if len(name) > LONGEST_NAME:
        raise rejected("name", f"is too long (maximum is {LONGEST_NAME} characters)")
    if description is not None and len(description) > LONGEST_DESCRIPTION:
        raise rejected("description", f"is too long (maximum is {LONGEST_DESCRIPTION} characters)")


def check_below(visibility: str, parent: db.Row | None) -> None:
    """Refuse a group that more people would see than the one around it."""
    if parent is not None and _more(visibility, parent["visibility"]):
        words = f"{visibility} is not allowed since the parent group has a {parent['visibility']} visibility."
        raise rejected("visibility_level", words)


def check_above(connection: db.Connection, visibility: str, group: db.Row) -> None:
    """Refuse a group that fewer people would see than a project or a group in it."""
    inside = connection.execute("SELECT visibility FROM projects WHERE namespace_id = ?", (group["id"],)).fetchall()
    if any(_more(row["visibility"], visibility) for row in inside):
        words = f"{visibility} is not allowed since this group contains projects with higher visibility."
        raise rejected("visibility_level", words)
    inside = connection.execute("SELECT visibility FROM namespaces WHERE parent_id = ?", (group["id"],)).fetchall()
    if any(_more(row["visibility"], visibility) for row in inside):
        words = f"{visibility} is not allowed since there are sub-groups with higher visibility."
        raise rejected("visibility_level", words)


def allowed_in(visibility: str, namespace: db.Row) -> bool:
    """Whether a project may have that visibility there."""
    return namespace["kind"] != "group" or not _more(visibility, namespace["visibility"])


def refuse_in(visibility: str, namespace: db.Row) -> None:
    """Refuse a project that more people would see than its group."""
    if not allowed_in(visibility, namespace):
        words = f"{visibility} is not allowed in a {namespace['visibility']} group."
        raise rejected("visibility_level", words)


def has_images(connection: db.Connection, group: db.Row) -> bool:
    """Whether a project in the group, at any depth, has a repository of images."""
    query = (
        "SELECT 1 FROM container_repositories JOIN projects ON projects.id = project_id "
        "WHERE substr(full_path, 1, ?) = ?"
    )
    below = f"{group['full_path']}/"
    return db.one(connection, query, len(below), below) is not None


def is_last_owner(rows: list[db.Row], user_id: int) -> bool:
    """Whether a group has no other owner. `rows` are its members and those of the groups around it, its own first."""
    owners = [row["user_id"] for row in rows if row["access_level"] >= access.OWNER]
    return owners == [user_id]


def _more(visibility: str, other: str) -> bool:
    return VISIBILITIES.index(visibility) > VISIBILITIES.index(other)


def _quoted(words: str) -> str:
    return f'"{words}"'
