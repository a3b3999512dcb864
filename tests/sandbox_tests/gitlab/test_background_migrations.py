"""Upgrades of the stand-in's database: background migrations that are queued, run, fail, and are needed later."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import pytest

from tests.sandbox.gitlab.web.__main__ import background_migrations_finalize, background_migrations_status
from tests.sandbox.gitlab.web.core import background_migrations, db, users
from tests.sandbox.gitlab.web.core.releases import MigrationError, migrate
from tests.sandbox_tests.support.gitlab_instance import Instance

#: As GitLab's documentation has it.
UNFINISHED = "SELECT job_class_name FROM batched_background_migrations WHERE status NOT IN (3, 6) ORDER BY id"
REFUSING = "CREATE TRIGGER refusing BEFORE UPDATE ON users BEGIN SELECT RAISE(ABORT, 'not today'); END"

pytestmark = pytest.mark.new_instance


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database of 19.3.0 with two users, whose background migrations never pause."""
    path = tmp_path / "gitlab.sqlite3"
    migrate(path, "19.3.0")
    with db.connect(path) as connection:
        for name in ("root", "second"):
            users.create(connection, username=name, name=name, email=f"{name}@example.com", password="kX9-vbq-Trz-72")  # noqa: S106
    return path


def rows(path: db.Database, query: str) -> list[object]:
    """The first column of what a query finds."""
    with db.connect(path) as connection:
        return [row[0] for row in connection.execute(query).fetchall()]


def execute(path: Path, statement: str) -> None:
    with db.connect(path) as connection:
        connection.execute(statement)


def work(path: Path, batches: int) -> None:
    """Let the application run some batches, without the usual pauses."""
    execute(path, "UPDATE batched_background_migrations SET interval = 0")
    for _ in range(batches):
        background_migrations.work(path)


def status(path: Path) -> object:
    """The state of the only migration."""
    [found] = rows(path, "SELECT status FROM batched_background_migrations")
    return found


def test_a_new_database_has_nothing_to_migrate_and_neither_has_a_patch(database: Path) -> None:
    assert rows(database, "SELECT id FROM batched_background_migrations") == []
    migrate(database, "19.3.1")
    assert rows(database, "SELECT id FROM batched_background_migrations") == []


def test_an_upgrade_changes_the_schema_and_queues_what_takes_time(database: Path) -> None:
    assert migrate(database, "19.5.0") == ["20261001_username_digest.sql"]
    assert migrate(database, "19.5.0") == []
    assert rows(database, UNFINISHED) == ["BackfillUsersUsernameDigest"]
    assert rows(database, "SELECT username_digest FROM users") == [None, None]


def test_it_runs_one_batch_an_interval_and_finishes(database: Path) -> None:
    migrate(database, "19.5.0")
    background_migrations.work(database)
    background_migrations.work(database)
    assert rows(database, "SELECT count(*) FROM users WHERE username_digest IS NOT NULL") == [1]
    work(database, 2)
    assert rows(database, UNFINISHED) == []
    assert rows(database, "SELECT count(*) FROM users WHERE username_digest IS NULL") == [0]


def test_a_paused_one_does_not_run(database: Path) -> None:
    migrate(database, "19.5.0")
    execute(database, "UPDATE batched_background_migrations SET status = 0")
    work(database, 3)
    assert status(database) == background_migrations.PAUSED


def test_a_batch_is_tried_three_times_and_then_the_migration_has_failed(database: Path) -> None:
    migrate(database, "19.5.0")
    execute(database, REFUSING)
    work(database, 2 * 3 + 1)
    assert status(database) == background_migrations.FAILED
    logged = rows(database, "SELECT exception_message FROM batched_background_migration_job_transition_logs")
    assert logged == ["PG::RaiseException: ERROR:  not today"] * 6


def test_the_release_after_the_next_stop_finishes_them_itself(database: Path) -> None:
    migrate(database, "19.5.0")
    assert migrate(database, "19.6.0") == ["20261101_index_username_digest.sql"]
    assert status(database) == background_migrations.FINALIZED
    assert rows(database, "SELECT count(*) FROM users WHERE username_digest IS NULL") == [0]


def test_a_release_stops_at_one_that_fails_and_goes_on_after_the_retry(database: Path) -> None:
    migrate(database, "19.5.0")
    execute(database, REFUSING)
    for _ in range(2):
        with pytest.raises(MigrationError, match="BatchedMigrationRunner::FailedToFinalize"):
            migrate(database, "19.6.0")
    execute(database, "DROP TRIGGER refusing")
    with pytest.raises(MigrationError, match="FailedToFinalize"):
        migrate(database, "19.6.0")
    execute(database, "UPDATE batched_background_migration_jobs SET attempts = 0")
    migrate(database, "19.6.0")
    assert rows(database, UNFINISHED) == []


def test_a_schema_change_that_fails_has_postgresqls_words_and_is_continued(database: Path) -> None:
    migrate(database, "19.5.0")
    execute(database, "CREATE INDEX index_users_on_username_digest ON users (username)")
    with pytest.raises(MigrationError, match='relation "index_users_on_username_digest" already exists'):
        migrate(database, "19.6.0")
    execute(database, "DROP INDEX index_users_on_username_digest")
    assert migrate(database, "19.6.0") == ["20261101_index_username_digest.sql"]


def test_the_rails_console_retries_what_has_failed(instance: Instance, tree: Path) -> None:
    code = "puts Gitlab::Database::BackgroundMigration::BatchedMigration.with_status(:failed).map(&:job_class_name)"
    retry = "Gitlab::Database::BackgroundMigration::BatchedMigration.with_status(:failed).each(&:retry_failed_jobs!)"
    with db.connect(instance.config.database) as connection:
        _failed(connection)
    assert instance.runner(tree, code).stdout == "BackfillUsersUsernameDigest\n"
    done = instance.runner(tree, retry)
    assert (done.returncode, done.stderr) == (0, "")
    assert instance.runner(tree, code).stdout == ""
    assert rows(instance.config.database, "SELECT attempts FROM batched_background_migration_jobs") == [0]
    instance.execute("DELETE FROM batched_background_migrations")


def test_administrators_see_pause_and_resume_them_and_do_not_resume_a_failed_one(instance: Instance) -> None:
    with db.connect(instance.config.database) as connection:
        number = _failed(connection)
    [listed] = instance.request("GET", "/admin/batched_background_migrations")
    assert (listed["id"], listed["status"], listed["progress"]) == (number, "failed", 0.0)
    path = f"/admin/batched_background_migrations/{number}"
    with pytest.raises(httpx.HTTPStatusError) as refused:
        instance.request("PUT", f"{path}/resume")
    assert refused.value.response.status_code == 422
    assert "only `paused`" in refused.value.response.text
    instance.execute("UPDATE batched_background_migrations SET status = 1")
    assert instance.request("PUT", f"{path}/pause")["status"] == "paused"
    assert instance.request("PUT", f"{path}/resume")["status"] == "active"
    with pytest.raises(httpx.HTTPStatusError) as absent:
        instance.request("GET", "/admin/batched_background_migrations/4711")
    assert absent.value.response.status_code == 404
    _, other = instance.new_user()
    answer = httpx.get(
        f"{instance.url}/api/v4/admin/batched_background_migrations",
        headers={"private-token": str(other.private_token)},
    )
    assert answer.status_code == 403
    instance.execute("DELETE FROM batched_background_migrations")


def _failed(connection: db.Connection) -> int:
    number = db.insert(
        connection,
        "batched_background_migrations",
        job_class_name="BackfillUsersUsernameDigest",
        table_name="users",
        column_name="id",
        status=background_migrations.FAILED,
        max_value=2,
        created_at=db.now(),
    )
    db.insert(
        connection,
        "batched_background_migration_jobs",
        batched_background_migration_id=number,
        min_value=1,
        max_value=1,
        batch_size=1,
        status=2,
        attempts=3,
        created_at=db.now(),
    )
    return number


def test_rake_prints_their_states_and_finishes_one(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate(instance.config.database, "19.5.0")
    with db.connect(instance.config.database) as connection:
        background_migrations.queue(connection, (19, 5))
    background_migrations_status(instance.config)
    assert "active     | BackfillUsersUsernameDigest,users,id,[]" in capsys.readouterr().out
    for words, refusal in (
        ("BackfillUsersUsernameDigest,users", "Must specify column_name as an argument"),
        ("BackfillUsersUsernameDigest,users,id,[]", ""),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(words))
        if refusal:
            with pytest.raises(SystemExit, match=refusal):
                background_migrations_finalize(instance.config)
        else:
            background_migrations_finalize(instance.config)
    assert rows(instance.config.database, UNFINISHED) == []
    instance.execute("DELETE FROM batched_background_migrations")
