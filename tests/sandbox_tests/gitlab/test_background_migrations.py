"""Batched background migrations of the stand-in: what an upgrade queues, and what the next one refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.sandbox.gitlab.web.core import db
from tests.sandbox.gitlab.web.core.background_migrations import DURATION, UnfinishedError, advance, upgrade

#: As GitLab's documentation has it.
QUERY = "SELECT job_class_name, table_name FROM batched_background_migrations WHERE status NOT IN (3, 6)"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    db.migrate(tmp_path / "gitlab.sqlite3")
    return tmp_path / "gitlab.sqlite3"


def test_a_new_database_has_nothing_to_migrate_and_an_upgrade_queues_something(database: Path) -> None:
    with db.connect(database) as connection:
        for version, count in (("19.3.0", 0), ("19.3.0", 0), ("19.3.1", 1), ("19.3.1", 1)):
            upgrade(connection, version)
            assert len(connection.execute(QUERY).fetchall()) == count


def test_an_upgrade_over_an_unfinished_migration_is_refused_in_gitlabs_words(database: Path) -> None:
    with db.connect(database) as connection:
        upgrade(connection, "19.3.0")
        upgrade(connection, "19.3.1")
        words = r"for the given configuration to be marked as 'finished', but it is 'active':\t\{:job_class_name=>"
        with pytest.raises(UnfinishedError, match=f"^Expected batched background migration {words}"):
            upgrade(connection, "19.3.2")


def test_a_migration_finishes_after_some_time_and_frees_the_way(database: Path) -> None:
    with db.connect(database) as connection:
        upgrade(connection, "19.3.0")
        upgrade(connection, "19.3.1")
        earlier = db.written(datetime.now(UTC) - DURATION)
        connection.execute("UPDATE batched_background_migrations SET created_at = ?", (earlier,))
        advance(connection)
        assert connection.execute(QUERY).fetchall() == []
        upgrade(connection, "19.3.2")


@pytest.mark.parametrize(("status", "name"), [(0, "paused"), (4, "failed"), (5, "finalizing")])
def test_a_migration_in_another_state_does_not_finish_by_itself(database: Path, status: int, name: str) -> None:
    with db.connect(database) as connection:
        upgrade(connection, "19.3.0")
        upgrade(connection, "19.3.1")
        connection.execute(
            "UPDATE batched_background_migrations SET status = ?, created_at = '2020-01-01T00:00:00.000Z'", (status,)
        )
        with pytest.raises(UnfinishedError, match=f"but it is '{name}'"):
            upgrade(connection, "19.3.2")
