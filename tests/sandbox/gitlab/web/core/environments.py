"""Environments of a project and deployments to them: records, names, tiers. What jobs do to them is in `ci`."""

from __future__ import annotations

import hashlib
import re

from . import db

TIERS = ("production", "staging", "testing", "development", "other")
STATES = ("available", "stopping", "stopped")
NAME = re.compile(r"[a-zA-Z0-9_\\$|{}.\- ]([a-zA-Z0-9_\\/$|{}.\- ]*[a-zA-Z0-9_\\$|{}.\- ])?\Z")
NAME_REFUSED = (
    "can contain only letters, digits, '-', '_', '/', '$', '{', '}', '.', and spaces, but it cannot start or end "
    "with '/'"
)
LONGEST_NAME = 255
LONGEST_SLUG = 24
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
#: What a name says of the tier, the first that does.
HINTS = (
    ("development", r"(dev|review|trunk)"),
    ("testing", r"(test|tst|int|ac(ce|)pt|qa|qc|control|quality)"),
    ("staging", r"(st(a|)g|mod(e|)l|pre|demo|non)"),
    ("production", r"(pr(o|)d|live)"),
)


def slug(name: str) -> str:
    """A name that can be part of a host name; one that had to be changed gets a suffix of its own."""
    text = re.sub(r"[^a-z0-9]", "-", name.lower())
    text = text if re.match(r"[a-z]", text) else f"env-{text}"
    text = re.sub(r"-+", "-", text)
    if len(text) <= LONGEST_SLUG and text == name:
        return text.removesuffix("-")
    number, suffix = int(hashlib.sha256(name.encode()).hexdigest(), 16), ""
    while len(suffix) < 6:
        number, digit = divmod(number, 36)
        suffix = DIGITS[digit] + suffix
    return f"{text[:17].removesuffix('-')}-{suffix}"


def guess_tier(name: str) -> str:
    """The tier of an environment that does not say its own."""
    return next((tier for tier, hint in HINTS if re.search(hint, name, re.IGNORECASE)), "other")


def find(connection: db.Connection, project_id: int, name: str) -> db.Row | None:
    """By name."""
    return db.one(connection, "SELECT * FROM environments WHERE project_id = ? AND name = ?", project_id, name)


def get(connection: db.Connection, identity: int) -> db.Row:
    """The row of one that exists."""
    row = db.one(connection, "SELECT * FROM environments WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"environment {identity}")
    return row


def create(
    connection: db.Connection, project_id: int, name: str, *, tier: str | None = None, external_url: str | None = None
) -> db.Row:
    """Make one."""
    identity = db.insert(
        connection,
        "environments",
        project_id=project_id,
        name=name,
        slug=slug(name),
        external_url=external_url,
        tier=tier or guess_tier(name),
        created_at=db.now(),
        updated_at=db.now(),
    )
    return get(connection, identity)


def update(connection: db.Connection, row: db.Row, **values: object) -> db.Row:
    """Change columns. The names are the program's own."""
    values["updated_at"] = db.now()
    names = ", ".join(f"{name} = ?" for name in values)
    connection.execute(f"UPDATE environments SET {names} WHERE id = ?", (*values.values(), row["id"]))  # noqa: S608
    return get(connection, row["id"])


def deploy(
    connection: db.Connection,
    environment: db.Row,
    *,
    user_id: int | None,
    ref: str,
    tag: bool,
    sha: str,
    **more: object,
) -> int:
    """Record a deployment; `more` is its `job_id`, or the `status` of one without a job. Answers its id."""
    project_id = environment["project_id"]
    last = db.one(connection, "SELECT MAX(iid) AS iid FROM deployments WHERE project_id = ?", project_id)
    return db.insert(
        connection,
        "deployments",
        iid=((last["iid"] if last else None) or 0) + 1,
        project_id=project_id,
        environment_id=environment["id"],
        user_id=user_id,
        ref=ref,
        tag=int(tag),
        sha=sha,
        created_at=db.now(),
        updated_at=db.now(),
        **more,
    )


def last_deployment(connection: db.Connection, environment: db.Row) -> db.Row | None:
    """The newest one that went well."""
    query = "SELECT * FROM deployment_states WHERE environment_id = ? AND state = 'success' ORDER BY id DESC"
    return db.one(connection, query, environment["id"])
