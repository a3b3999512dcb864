"""Cleanup policies of the container registry: which tags go, and when a policy runs.

Rules are those of `Projects::ContainerRepository::CleanupTagsBaseService`. They apply to each repository on its own. A
tag that GitLab cannot date counts as the newest, and is never older than anything.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from . import container_protection, db, projects
from .config import Config
from .registry_client import RegistryClient

_EVERY = {"1d": 1, "7d": 7, "14d": 14, "1month": 30, "3month": 90}
_TICK_S = 60


@dataclass(frozen=True)
class Policy:
    """What a policy deletes.

    GitLab puts a pattern between the beginning and the end of a name without a group around it: of `a|b`, the first
    part only has to be at the beginning, and the last one at the end.
    """

    delete: str
    keep: str = ""
    keep_n: int | None = None
    older_than: timedelta | None = None
    #: Expressions of tags that rules protect from whoever runs it; they match anywhere in a name.
    protected: tuple[str, ...] = ()

    def doomed(self, dates: Mapping[str, datetime | None], now: datetime) -> list[str]:
        """Names of the tags that go, of those of one repository; `latest` always stays.

        Raises:
            re.error: a pattern is not a regular expression.
        """
        delete, keep = (re.compile(rf"\A{pattern}\Z") for pattern in (self.delete, self.keep))
        names = [name for name in dates if name != "latest" and delete.search(name) and not keep.search(name)]
        names = [name for name in names if not any(re.search(pattern, name) for pattern in self.protected)]
        newest = sorted(names, key=lambda name: dates[name] or now, reverse=True)
        left = newest[self.keep_n or 0 :]
        if self.older_than is None:
            return left
        limit = now - self.older_than
        return [name for name in left if (date := dates[name]) is not None and date < limit]


def clean(client: RegistryClient, policy: Policy, now: datetime) -> list[str]:
    """Apply a policy to one repository; the names of the tags that were deleted."""
    dates = {name: _date(client, name) for name in client.tags()}
    gone = policy.doomed(dates, now)
    for name in gone:
        client.delete_tag(name)
    return gone


def _date(client: RegistryClient, name: str) -> datetime | None:
    created = (client.details(name) or {}).get("created_at")
    return db.read(created) if created else None


def next_run(project: db.Row) -> datetime:
    """When the policy of a project runs next."""
    policy = projects.options(project)["container_expiration_policy"]
    if policy.get("next_run_at"):
        return db.read(policy["next_run_at"])
    return db.read(project["created_at"]) + timedelta(days=1)


def run_due(config: Config, now: datetime) -> list[str]:
    """Run the policies that are due; the tags that were deleted, with their repositories."""
    return list(_run_due(config, now)) if config.registry else []


def _run_due(config: Config, now: datetime) -> Iterator[str]:
    with db.connect(config.database) as connection:
        rows = connection.execute("SELECT * FROM projects WHERE marked_for_deletion_on IS NULL").fetchall()
        for row in rows:
            options = json.loads(row["options"])
            policy = projects.options(row)["container_expiration_policy"]
            if not policy["enabled"] or next_run(row) > now:
                continue
            following = db.written(now + timedelta(days=_EVERY[policy["cadence"]]))
            options["container_expiration_policy"] = policy | {"next_run_at": following}
            update = "UPDATE projects SET options = ? WHERE id = ?"
            connection.execute(update, (json.dumps(options), row["id"]))
            rules = container_protection.rules(connection, container_protection.TAG_RULES, row["id"])
            protected = tuple(rule["pattern"] for rule in rules)
            yield from _apply(connection, config, row, _policy(policy, protected), now)


def _apply(connection: db.Connection, config: Config, row: db.Row, policy: Policy, now: datetime) -> Iterator[str]:
    repositories = connection.execute("SELECT path FROM container_repositories WHERE project_id = ?", (row["id"],))
    for repository in repositories.fetchall():
        if config.registry is None:
            return
        with RegistryClient(config, config.registry, repository["path"]) as client:
            for name in clean(client, policy, now):
                yield f"{repository['path']}:{name}"


def _policy(policy: Mapping[str, str | int | None], protected: tuple[str, ...]) -> Policy:
    older = policy["older_than"]
    return Policy(
        str(policy["name_regex"]),
        str(policy["name_regex_keep"] or ""),
        int(policy["keep_n"]) if policy["keep_n"] is not None else None,
        timedelta(days=int(str(older).removesuffix("d"))) if older else None,
        protected,
    )


def start(config: Config) -> threading.Event:
    """Run due policies in the background, until the event that is returned is set."""
    stopped = threading.Event()

    def work() -> None:
        while not stopped.wait(_TICK_S):
            try:
                run_due(config, datetime.now(UTC))
            except Exception as trouble:
                print(f"cleanup policies: {trouble!r}", flush=True)

    threading.Thread(target=work, daemon=True).start()
    return stopped
