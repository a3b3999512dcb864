"""The database's server: what `gitlab.rb` says of it, and SQL in the words of PostgreSQL.

The servers themselves are real, and are part of machines: the bundled one of every stack in `tests/e2e`, one outside in
`tests/e2e/test_managed_databases.py`.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.gitlab.build import PACKAGE
from tests.sandbox.gitlab.registry.config import Config as RegistryConfig
from tests.sandbox.gitlab.registry.postgresql import Server as RegistryServer
from tests.sandbox.gitlab.web.core import db
from tests.sandbox.gitlab.web.core.config import Config
from tests.sandbox.gitlab.web.core.postgresql import Row, Server, translated, translated_schema
from tests.sandbox_tests.support.gitlab_instance import write_config

HARNESS = Path(__file__).with_name("external_database.rb")
OUTSIDE = """
external_url 'https://gitlab.example.com'
letsencrypt['enable'] = false
postgresql['enable'] = false
gitlab_rails['db_host'] = 'private-db.example.com'
gitlab_rails['db_port'] = 25060
gitlab_rails['db_username'] = 'gitlab'
gitlab_rails['db_password'] = 'pQ4-wmd-Ksj-19'
gitlab_rails['db_sslmode'] = 'verify-full'
gitlab_rails['db_sslrootcert'] = '/etc/gitlab/ssl/database.crt'
"""

REDIS = """
redis['enable'] = false
gitlab_rails['redis_host'] = 'private-cache.example.com'
gitlab_rails['redis_port'] = 25061
gitlab_rails['redis_password'] = 'hush'
gitlab_rails['redis_ssl'] = true
gitlab_rails['redis_tls_ca_cert_file'] = '/etc/gitlab/ssl/database.crt'
"""


def evaluated(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "gitlab.rb"
    file.write_text(text)
    command = ["ruby", str(HARNESS), str(PACKAGE / "opt/gitlab/embedded/cookbooks"), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def found(tmp_path: Path, text: str) -> dict[str, Any]:
    done = evaluated(tmp_path, text)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_server_is_the_one_that_gitlab_rb_names(tmp_path: Path) -> None:
    assert found(tmp_path, OUTSIDE)["server"] == {
        "host": "private-db.example.com",
        "port": 25060,
        "user": "gitlab",
        "dbname": "gitlabhq_production",
        "sslmode": "verify-full",
        "sslrootcert": "/etc/gitlab/ssl/database.crt",
    }


def test_without_a_name_it_is_the_bundled_one(tmp_path: Path) -> None:
    lines = [line for line in OUTSIDE.splitlines() if "db_" not in line and "postgresql" not in line]
    assert found(tmp_path, "\n".join(lines))["server"] == {
        "host": "/var/opt/gitlab/postgresql",
        "port": 5432,
        "user": "gitlab",
        "dbname": "gitlabhq_production",
        "sslmode": "prefer",
        "sslrootcert": None,
    }


def test_redis_is_the_one_that_gitlab_rb_names_and_the_bundled_one_plays_no_part(tmp_path: Path) -> None:
    assert found(tmp_path, OUTSIDE)["redis"] is None
    assert found(tmp_path, OUTSIDE + REDIS)["redis"] == {
        "host": "private-cache.example.com",
        "port": 25061,
        "ssl": True,
        "ca_file": "/etc/gitlab/ssl/database.crt",
        "username": None,
    }


def test_redis_is_verified_against_what_the_package_trusts_unless_a_file_is_named(tmp_path: Path) -> None:
    without = "\n".join(line for line in REDIS.splitlines() if "tls_ca" not in line)
    assert found(tmp_path, OUTSIDE + without)["redis"]["ca_file"] == "/opt/gitlab/embedded/ssl/certs/cacert.pem"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("gitlab_rails['redis_host'] = 'private-cache.example.com'", "", "/var/opt/gitlab/redis/redis.socket"),
        ("verify-full", "verify", 'invalid sslmode value: "verify"'),
    ],
)
def test_what_rails_could_not_connect_with_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    done = evaluated(tmp_path, (OUTSIDE + REDIS).replace(old, new))
    assert done.returncode == 3
    assert words in done.stderr


def test_a_registry_that_would_prefer_a_database_has_none_without_the_bundled_one(tmp_path: Path) -> None:
    registry = "registry_external_url 'https://gitlab.example.com:5555'\n"
    assert found(tmp_path, registry + OUTSIDE)["registry"]["enabled"] == "false"
    named = "registry['database'] = { 'enabled' => true, 'host' => 'private-db.example.com', 'port' => 25060 }\n"
    assert found(tmp_path, registry + OUTSIDE + named)["registry"]["host"] == "private-db.example.com"


def test_the_password_is_in_the_file_of_secrets_alone(tmp_path: Path) -> None:
    write_config(tmp_path, "https://gitlab.example.com", "")
    settings, hidden = tmp_path / "gitlab.json", tmp_path / "secrets.json"
    server, redis = (found(tmp_path, OUTSIDE + REDIS)[name] for name in ("server", "redis"))
    settings.write_text(
        json.dumps(json.loads(settings.read_text()) | {"database_server": server, "redis_server": redis})
    )
    passwords = {"database_password": "pQ4-wmd-Ksj-19", "redis_password": "pQ4-wmd-Ksj-19"}
    hidden.write_text(json.dumps(json.loads(hidden.read_text()) | passwords))
    config = Config.load(tmp_path, tmp_path / "version")
    assert isinstance(config.database, Server)
    assert config.database.environment["PGPASSWORD"] == "pQ4-wmd-Ksj-19"
    assert config.redis is not None
    assert config.redis.password == config.database.password
    assert "pQ4" not in repr(config) + repr(config.database) + repr(config.redis)


def test_the_registry_keeps_its_metadata_in_the_server_that_its_section_names(tmp_path: Path) -> None:
    document = {
        "http": {"addr": "127.0.0.1:5000"},
        "auth": {"token": {"realm": "r", "service": "s", "issuer": "i", "rootcertbundle": "/c"}},
        "storage": {"filesystem": {"rootdirectory": "/x"}},
        "database": {"enabled": True, "host": "db.example.com", "dbname": "registry", "password": "pQ4-wmd-Ksj-19"},
    }
    file = tmp_path / "config.yml"
    file.write_text(json.dumps(document))
    config = RegistryConfig.load(file)
    assert isinstance(config.database_file, RegistryServer)
    assert (config.database_file.host, config.database_file.port) == ("db.example.com", 5432)
    assert "pQ4" not in repr(config)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("SELECT * FROM users WHERE id = ?", "SELECT * FROM users WHERE id = %s"),
        ("INSERT OR IGNORE INTO a VALUES (?)", "INSERT INTO a VALUES (%s) ON CONFLICT DO NOTHING"),
        ("UPDATE a SET b = IFNULL(b, ?)", "UPDATE a SET b = COALESCE(b, %s)"),
        (
            "SELECT 1 WHERE b IS ? AND c IS NOT NULL",
            "SELECT 1 WHERE b IS NOT DISTINCT FROM %s AND c IS NOT NULL",
        ),
        ("SELECT 1 FROM a WHERE b LIKE 'x%'", "SELECT 1 FROM a WHERE b ILIKE 'x%%'"),
        ("SELECT a FROM b ORDER BY rowid", "SELECT a FROM b ORDER BY row_number"),
    ],
)
def test_a_query_is_written_as_postgresql_has_it(query: str, wanted: str) -> None:
    assert translated(query) == wanted


def test_no_table_is_left_in_the_words_of_sqlite() -> None:
    for script in db.MIGRATIONS.rglob("*.sql"):
        text = re.sub(r"--.*", "", translated_schema(script.read_text()))
        assert not re.search(r"AUTOINCREMENT|NOCASE|\bINTEGER\b|\bBLOB\b|\bIFNULL\b", text), script.name


def test_a_table_without_an_id_keeps_the_order_of_its_rows() -> None:
    text = translated_schema("CREATE TABLE a (\n  b INTEGER NOT NULL,\n  PRIMARY KEY (b)\n);")
    assert "row_number BIGINT GENERATED BY DEFAULT AS IDENTITY" in text
    assert "row_number" not in translated_schema("CREATE TABLE a (\n  id INTEGER PRIMARY KEY AUTOINCREMENT\n);")


def test_a_row_is_read_by_position_and_by_name() -> None:
    row = Row(("id", "name"), (1, "x"))
    assert (row[0], row["name"], dict(row), list(row), len(row)) == (1, "x", {"id": 1, "name": "x"}, [1, "x"], 2)
    with pytest.raises(IndexError, match="No item with that key"):
        row["other"]
