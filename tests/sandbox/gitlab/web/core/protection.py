"""Protected branches and tags: which rules apply to a ref, and who may push to it."""

from __future__ import annotations

from fnmatch import fnmatchcase

from . import access, db, repositories, settings
from .config import Config

NOBODY, DEVELOPER, MAINTAINER, ADMIN = 0, 30, 40, 60
#: As the API describes them.
DESCRIPTIONS = {
    NOBODY: "No one",
    DEVELOPER: "Developers + Maintainers",
    MAINTAINER: "Maintainers",
    ADMIN: "Administrators",
}
#: Of the setting `default_branch_protection`: push level, merge level, force push.
DEFAULTS = {
    1: (DEVELOPER, MAINTAINER, True),
    2: (MAINTAINER, MAINTAINER, False),
    3: (MAINTAINER, DEVELOPER, False),
    4: (MAINTAINER, MAINTAINER, False),
}


def branch_rules(connection: db.Connection, project_id: int, branch: str) -> list[db.Row]:
    """The rules that a branch falls under."""
    rows = connection.execute(
        "SELECT * FROM protected_branches WHERE project_id = ? ORDER BY id", (project_id,)
    ).fetchall()
    return [row for row in rows if matches(row["name"], branch)]


def tag_rules(connection: db.Connection, project_id: int, tag: str) -> list[db.Row]:
    """The rules that a tag falls under."""
    rows = connection.execute("SELECT * FROM protected_tags WHERE project_id = ? ORDER BY id", (project_id,)).fetchall()
    return [row for row in rows if matches(row["name"], tag)]


def ref_protected(connection: db.Connection, project_id: int, ref: str) -> bool:
    """Whether a branch or tag is protected; `ref` is whole, such as `refs/tags/v1`."""
    if ref.startswith(repositories.TAGS):
        return bool(tag_rules(connection, project_id, ref.removeprefix(repositories.TAGS)))
    return bool(branch_rules(connection, project_id, ref.removeprefix(repositories.BRANCHES)))


def may_push(connection: db.Connection, project: db.Row, level: int, admin: bool, branch: str) -> bool:
    """Whether somebody with this access may push to a branch: the most generous of its rules counts."""
    rules = branch_rules(connection, project["id"], branch)
    if not rules:
        return level >= access.DEVELOPER
    return any(allows(rule["push_level"], level, admin) for rule in rules)


def may_update(connection: db.Connection, project: db.Row, level: int, admin: bool, branch: str) -> bool:
    """Whether somebody with this access may change a branch: by pushing to it, or by merging into it."""
    if may_push(connection, project, level, admin, branch):
        return True
    return any(allows(rule["merge_level"], level, admin) for rule in branch_rules(connection, project["id"], branch))


def may_run(connection: db.Connection, project: db.Row, level: int, admin: bool, *, ref: str, tag: bool) -> bool:
    """Whether somebody with this access may start or stop what runs for a branch or tag: if they may change it."""
    if tag:
        return may_make_tag(connection, project, level, admin, ref)
    return may_update(connection, project, level, admin, ref)


def may_force(connection: db.Connection, project_id: int, branch: str) -> bool:
    """Whether history of a branch may be rewritten: all of its rules have to agree."""
    return all(rule["allow_force_push"] for rule in branch_rules(connection, project_id, branch))


def may_make_tag(connection: db.Connection, project: db.Row, level: int, admin: bool, tag: str) -> bool:
    """Whether somebody with this access may make a tag."""
    rules = tag_rules(connection, project["id"], tag)
    if not rules:
        return level >= access.DEVELOPER
    return any(allows(rule["create_level"], level, admin) for rule in rules)


def allows(required: int, level: int, admin: bool) -> bool:
    """Whether a level of a rule is met."""
    if required == NOBODY:
        return False
    return admin if required == ADMIN else level >= max(required, access.DEVELOPER)


def protect_default(connection: db.Connection, project_id: int, branch: str) -> None:
    """Protect the first branch of a project as the settings of the instance say."""
    kind = int(settings.read(connection)["default_branch_protection"])
    if kind not in DEFAULTS or branch_rules(connection, project_id, branch):
        return
    push, merge, force = DEFAULTS[kind]
    db.insert(
        connection,
        "protected_branches",
        project_id=project_id,
        name=branch,
        push_level=push,
        merge_level=merge,
        allow_force_push=int(force),
    )


def settle_first_push(connection: db.Connection, config: Config, project: db.Row, branch: str) -> None:
    """After the first branch of a repository: it becomes the default one, when the one meant for that is not there."""
    meant = project["default_branch"] or "main"
    there = repositories.branches(config, project["id"])
    if len(there) != 1 or branch not in there:
        return
    if meant != branch:
        connection.execute("UPDATE projects SET default_branch = ? WHERE id = ?", (branch, project["id"]))
    repositories.set_head(config, project["id"], branch)
    protect_default(connection, project["id"], branch)


def matches(pattern: str, name: str) -> bool:
    """Whether a name is meant by a rule: only `*` is special."""
    return fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))
