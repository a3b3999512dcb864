"""Protected tags and repositories of the container registry: rules of a project, and whom they restrict.

What is refused, and in which words, is that of the models `ContainerRegistry::Protection::TagRule` and `Rule`, and of
their services. Rules for tags are enforced by the registry, which reads them from the token; rules for repositories by
GitLab, which issues none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import access, db, patterns
from .auth import Principal
from .config import Config
from .registry_client import RegistryApi

TAG_RULES, REPOSITORY_RULES = "container_tag_rules", "container_repository_rules"
ADMIN = 60
LEVELS = {"maintainer": access.MAINTAINER, "owner": access.OWNER, "admin": ADMIN}
MOST_TAG_RULES = 5
_LONGEST = {TAG_RULES: 100, REPOSITORY_RULES: 255}
_SAID = {TAG_RULES: "Tag name pattern", REPOSITORY_RULES: "Repository path pattern"}
#: `Gitlab::Regex.container_repository_name_regex('*')`
_PATH = re.compile(r"[a-z0-9*]+((?:[._/]|__|[-]{0,10})[a-z0-9*]+)*")


@dataclass(frozen=True)
class Rule:
    """What somebody asks for; without a level, or with an empty one, the action is not restricted."""

    pattern: str
    push: str | None
    delete: str | None


class RuleError(Exception):
    """A rule is refused: one sentence of the service, or all of the model."""

    def __init__(self, *reasons: str, model: bool = False) -> None:
        super().__init__(", ".join(reasons))
        self.reasons = list(reasons)
        #: As the API shows it: the model's are a list.
        self.message: str | list[str] = self.reasons if model else reasons[0]


def rules(connection: db.Connection, table: str, project_id: int) -> list[db.Row]:
    """All rules of a project, the oldest first."""
    query = f"SELECT * FROM {table} WHERE project_id = ? ORDER BY id"  # noqa: S608
    return connection.execute(query, (project_id,)).fetchall()


def find(connection: db.Connection, table: str, identity: int | str) -> db.Row | None:
    """One rule."""
    return db.one(connection, f"SELECT * FROM {table} WHERE id = ?", identity)  # noqa: S608


def save_tag_rule(
    connection: db.Connection, config: Config, project: db.Row, rule: Rule, identity: int | None = None
) -> db.Row:
    """Make a rule for tags, or change the one with this ID.

    Raises:
        RuleError: the project has as many as it may, the registry has no metadata database, or a value is wrong.
    """
    if identity is None and len(rules(connection, TAG_RULES, project["id"])) >= MOST_TAG_RULES:
        raise RuleError("Maximum number of protection rules have been reached.")
    if config.registry is None or not RegistryApi(config, config.registry).supported():
        raise RuleError("GitLab container registry API not supported")
    wrong = _wrong_pattern(connection, TAG_RULES, project, rule, identity)
    if problem := patterns.problem(rule.pattern):
        wrong.append(f"Tag name pattern not valid RE2 syntax: {problem}")
    # Without levels it would be immutable, which only the Enterprise Edition has.
    for name, level in (("delete", rule.delete), ("push", rule.push)):
        if not level:
            wrong.append(f"Minimum access level for {name} can't be blank")
    if wrong:
        raise RuleError(*wrong, model=True)
    return _save(connection, TAG_RULES, project, rule, identity)


def save_repository_rule(connection: db.Connection, project: db.Row, rule: Rule, identity: int | None = None) -> db.Row:
    """Make a rule for repositories, or change the one with this ID.

    Raises:
        RuleError: a value is wrong.
    """
    wrong = _wrong_pattern(connection, REPOSITORY_RULES, project, rule, identity)
    said = _SAID[REPOSITORY_RULES]
    if not _PATH.fullmatch(rule.pattern):
        wrong.append(f"{said} should be a valid container repository path with optional wildcard characters.")
    if not rule.pattern.lower().startswith(project["full_path"].lower()):
        wrong.append(f"{said} should start with the project's full path")
    if not rule.push and not rule.delete:
        wrong.append("A rule must have at least a minimum access role for push or delete.")
    if wrong:
        raise RuleError(*wrong, model=True)
    return _save(connection, REPOSITORY_RULES, project, rule, identity)


def remove(connection: db.Connection, table: str, row: db.Row) -> None:
    """Take a rule away."""
    connection.execute(f"DELETE FROM {table} WHERE id = ?", (row["id"],))  # noqa: S608


def denied_tags(
    connection: db.Connection, project: db.Row, who: Principal | None, actions: list[str]
) -> dict[str, list[str]] | None:
    """The patterns of tags that somebody may not push or delete, for a token with these actions.

    None where nothing is said of them: the project has no rules, or it is no user who asks, such as a deploy token.
    """
    known = rules(connection, TAG_RULES, project["id"])
    if who is None or not known:
        return None
    asked = ["push", "delete"] if "*" in actions else [action for action in actions if action != "pull"]
    level = access.project_level(connection, who, project)
    return {
        action: [
            rule["pattern"] for rule in known if not who.admin and LEVELS[rule[f"{action}_level"]] > level
        ]
        for action in dict.fromkeys(asked)
    }  # fmt: skip


def may_delete_tag(connection: db.Connection, project: db.Row, who: Principal, tag: str) -> bool:
    """Whether no rule keeps somebody from deleting a tag."""
    denied = denied_tags(connection, project, who, ["delete"]) or {"delete": []}
    return not any(re.search(pattern, tag) for pattern in denied["delete"])


def may_delete_all(connection: db.Connection, project: db.Row, who: Principal) -> bool:
    """Whether no rule at all keeps somebody from deleting tags: only then may a whole repository be deleted."""
    denied = denied_tags(connection, project, who, ["delete"]) or {"delete": []}
    return not denied["delete"]


def push_forbidden(connection: db.Connection, project: db.Row, who: Principal | None, path: str) -> bool:
    """Whether a rule keeps somebody from pushing to a repository. It restricts users only, no deploy tokens."""
    if who is None or who.admin:
        return False
    level = access.project_level(connection, who, project)
    return any(
        rule["push_level"] and level < LEVELS[rule["push_level"]] and _glob(rule["pattern"]).fullmatch(path)
        for rule in rules(connection, REPOSITORY_RULES, project["id"])
    )


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.IGNORECASE)


def _wrong_pattern(
    connection: db.Connection, table: str, project: db.Row, rule: Rule, identity: int | None
) -> list[str]:
    wrong, said, longest = [], _SAID[table], _LONGEST[table]
    if not rule.pattern.strip():
        wrong.append(f"{said} can't be blank")
    query = f"SELECT 1 FROM {table} WHERE project_id = ? AND pattern = ? AND id IS NOT ?"  # noqa: S608
    if db.one(connection, query, project["id"], rule.pattern, identity):
        wrong.append(f"{said} has already been taken")
    if len(rule.pattern) > longest:
        wrong.append(f"{said} is too long (maximum is {longest} characters)")
    return wrong


def _save(connection: db.Connection, table: str, project: db.Row, rule: Rule, identity: int | None) -> db.Row:
    push, delete = rule.push or None, rule.delete or None
    if identity is None:
        values = {"project_id": project["id"], "pattern": rule.pattern, "push_level": push, "delete_level": delete}
        identity = db.insert(connection, table, **values)
    else:
        update = f"UPDATE {table} SET pattern = ?, push_level = ?, delete_level = ? WHERE id = ?"  # noqa: S608
        connection.execute(update, (rule.pattern, push, delete, identity))
    row = find(connection, table, identity)
    if row is None:
        raise LookupError(identity)
    return row
