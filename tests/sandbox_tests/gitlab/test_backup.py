"""Backups of the stand-in: what an archive holds and what it does not, and the restores that GitLab refuses.

The application runs without a machine here, and the database is a file: `tests/e2e/test_backup.py` has PostgreSQL's.
"""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.sandbox.gitlab import build as package
from tests.sandbox.gitlab.web import backup, database_dump
from tests.sandbox.gitlab.web.backup_parts import PARTS
from tests.sandbox.gitlab.web.core import db
from tests.sandbox.gitlab.web.core.config import Config
from tests.sandbox_tests.support.gitlab_instance import Instance, running

YES = {"GITLAB_ASSUME_YES": "1"}
BIN = package.PACKAGE / "opt/gitlab"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("source")) as instance:
        project = instance.client().projects.create({"name": "kept", "initialize_with_readme": True})
        project.variables.create({"key": "SECRET", "value": "encrypted-value"})
        instance.client().projects.create({"name": "without-commits"})
        yield instance


def _copy(source: Path, target: Path) -> list[str]:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)
    return []


@pytest.fixture(autouse=True)
def _file_instead_of_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_dump, "write", lambda config, file: _copy(config.database, file))
    monkeypatch.setattr(database_dump, "read", lambda config, file: _copy(file, config.database))


@pytest.fixture
def config(source: Instance, tmp_path: Path) -> Config:
    """That of the instance, with a backup directory of the test's own."""
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "layer").write_text("content of an image")
    return dataclasses.replace(source.config, backup_path=tmp_path / "backups", registry_path=tmp_path / "registry")


def run(config: Config, task: str, **options: str) -> int:
    return backup.run(config, f"gitlab:backup:{task}", options)


def created(config: Config, **options: str) -> Path:
    assert run(config, "create", **options) == 0
    [archive] = config.backup_path.glob("*.tar")
    return archive


def test_an_archive_is_named_after_time_day_and_version_and_is_for_gitlab_alone(config: Config) -> None:
    archive = created(config)
    assert re.fullmatch(r"\d{10}_\d{4}_\d{2}_\d{2}_19\.3\.0_gitlab_backup\.tar", archive.name)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in config.backup_path.iterdir()] == [archive.name]


def test_an_archive_holds_neither_secrets_nor_configuration_nor_what_is_skipped(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(created(config, SKIP="registry,builds")) as archive:
        tops = {name.split("/")[0] for name in archive.getnames()}
        members = [archive.extractfile(member) for member in archive.getmembers() if member.isfile()]
        content = b"".join(member.read() for member in members if member)
    assert tops == {"backup_information.yml", "db", "repositories", "uploads.tar.gz", "artifacts.tar.gz"}
    assert config.db_key_base.encode() not in content
    assert "are not included in this backup" in capsys.readouterr().out.replace("\n", " ").replace("  ", " ")


def test_a_restore_brings_back_projects_repositories_and_encrypted_variables(source: Instance, config: Config) -> None:
    created(config)
    project = source.client().projects.get("root/kept")
    head = project.branches.get("main").commit["id"]
    source.client().projects.create({"name": "later", "initialize_with_readme": True})
    project.delete()
    assert run(config, "restore", **YES) == 0
    again = source.client().projects.get("root/kept")
    assert again.branches.get("main").commit["id"] == head
    assert again.variables.get("SECRET").value == "encrypted-value"
    assert not source.client().projects.list(search="later")
    assert (config.registry_path / "layer").read_text() == "content of an image"


def test_a_backup_of_another_version_is_refused_in_gitlabs_words(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    created(config)
    other = dataclasses.replace(config, version="19.3.1")
    file = other.data / "gitlab.sqlite3"
    before = file.read_bytes()
    for task in ("restore", "verify"):
        assert run(other, task, **YES) == 1
        said = capsys.readouterr().out
        assert "Your current GitLab version (19.3.1) differs from the GitLab version in the backup!" in said
        assert "Please switch to the following version and try again:\n  version: 19.3.0\n" in said
    assert file.read_bytes() == before
    assert run(config, "verify") == 0


def test_a_restore_asks_before_it_removes_all_tables(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    created(config)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run(config, "restore") == 1
    with db.connect(config.database) as connection:
        assert db.one(connection, "SELECT 1 FROM users")


@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("no", 1)])
def test_errors_of_single_statements_are_shown_and_the_restore_asks_whether_to_go_on(
    answer: str, code: int, config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    created(config)
    wrong = 'psql:<stdin>:9: ERROR:  relation "users" already exists'
    monkeypatch.setattr(database_dump, "read", lambda *_: [wrong])
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"yes\n{answer}\n"))
    assert run(config, "restore") == code
    said = capsys.readouterr().out
    assert f"------ BEGIN ERRORS -----\n{wrong}\n------ END ERRORS -------\n" in said
    assert "There were errors in restoring the schema." in said


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        ((), {}, "No backups found in"),
        (("1_gitlab_backup.tar",), {"BACKUP": "2"}, "The backup file 2_gitlab_backup.tar does not exist!"),
        (("1_gitlab_backup.tar", "2_gitlab_backup.tar"), {}, "Found more than one backup:\n 1\n 2\n"),
        (("1_gitlab_backup.tar",), {}, "Unpacking backup failed"),
    ],
)
def test_an_archive_that_is_not_there_or_not_whole_is_refused(
    config: Config, names: tuple[str, ...], options: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config.backup_path.mkdir()
    for name in names:
        (config.backup_path / name).write_bytes(b"cut off")
    assert run(config, "restore", **YES, **options) == 1
    assert words in capsys.readouterr().out


def test_a_restore_needs_three_times_the_space_of_the_archive(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = created(config).stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 3 * size - 1))
    assert run(config, "restore", **YES) == 1
    assert f"{3 * size - 1} bytes available, estimated {3 * size} bytes required" in capsys.readouterr().out
    assert run(config, "restore", **YES, BACKUP_SKIP_STORAGE_CHECK="true") == 0


def test_old_archives_go_if_a_time_is_set_but_nobody_elses_files(config: Config) -> None:
    config.backup_path.mkdir()
    old = int(time.time()) - 7200
    names = [f"{old}_2020_01_01_19.3.0_gitlab_backup.tar", "mine_gitlab_backup.tar", f"{old}_notes.tar"]
    for name in names:
        (config.backup_path / name).touch()
    assert run(config, "create") == 0
    assert all((config.backup_path / name).exists() for name in names)
    assert run(dataclasses.replace(config, backup_keep_time=3600), "create") == 0
    assert [(config.backup_path / name).exists() for name in names] == [False, True, True]


def test_a_part_that_fails_is_named_and_the_exit_code_is_1(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [*PARTS[:-1], dataclasses.replace(PARTS[-1], dump=_fails)]
    monkeypatch.setattr(backup, "PARTS", parts)
    assert run(config, "create") == 1
    assert "Dumping container registry images failed: no space" in capsys.readouterr().out


def _fails(_config: Config, _target: Path) -> None:
    raise OSError("no space")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["restore"], 2, "could not load"), (["--skip"], 2, "could not load")],
)
def test_gitlab_backup_needs_an_installation_that_is_configured(words: list[str], code: int, said: str) -> None:
    done = subprocess.run([BIN / "bin/gitlab-backup", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert said in done.stderr
