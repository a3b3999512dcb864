"""Managed databases as a machine uses them: real servers, and the stand-in for GitLab with its tables in one.

Two servers and GitLab's package are installed for it, so this is a part of `make nightly`.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pydo
import pytest

from components.rendering import script
from tools.pipelines import until

REGION, TAG = "nyc3", "managed-databases"
PASSWORD = "kX9-vbq-Trz-72"  # noqa: S105 - of a user that lives as long as the test
CA_FILE = "/etc/gitlab/ssl/database.crt"
#: A public authority signs for Valkey.
PUBLIC_CA_FILE = "/etc/ssl/certs/ca-certificates.crt"
INSTALL = """
curl -fsS https://packages.gitlab.com/gpgkey/gpg.key -o /etc/apt/keyrings/gitlab.asc
archive=https://packages.gitlab.com/gitlab/gitlab-ce/debian/trixie
echo "deb [signed-by=/etc/apt/keyrings/gitlab.asc] $archive trixie main" > /etc/apt/sources.list.d/gitlab.list
cloud-init status --wait > /dev/null || true
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gitlab-ce valkey-tools > /dev/null 2>&1
mkdir -p /etc/gitlab/ssl
"""
GITLAB_RB = """
external_url 'http://gitlab.test'
registry_external_url 'http://gitlab.test:5555'
postgresql['enable'] = false
gitlab_rails['db_host'] = '{host}'
gitlab_rails['db_port'] = {port}
gitlab_rails['db_username'] = 'gitlab'
gitlab_rails['db_password'] = '{password}'
gitlab_rails['db_sslmode'] = 'verify-full'
gitlab_rails['db_sslrootcert'] = '{ca}'
gitlab_rails['initial_root_password'] = '{root}'
registry['database'] = {{
  'enabled' => true, 'host' => '{host}', 'port' => {port}, 'user' => 'gitlab', 'password' => '{password}',
  'dbname' => 'registry', 'sslmode' => 'verify-full', 'sslrootcert' => '{ca}'
}}
redis['enable'] = false
gitlab_rails['redis_host'] = '{redis_host}'
gitlab_rails['redis_port'] = {redis_port}
gitlab_rails['redis_password'] = '{redis_password}'
gitlab_rails['redis_ssl'] = true
gitlab_rails['redis_tls_ca_cert_file'] = '{redis_ca}'
"""


@dataclass(frozen=True)
class Databases:
    """A droplet, and clusters that trust its tag."""

    address: str
    key: Path
    postgresql: dict[str, Any] = field(repr=False)
    valkey: dict[str, Any] = field(repr=False)
    #: Password of PostgreSQL's user `gitlab`.
    password: str = field(repr=False)

    def on_droplet(self, script: str, *, fails: bool = False, timeout: float = 300) -> str:
        """Run a script on the droplet; what it prints."""
        options = ["-i", str(self.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        command = ["ssh", "-q", *options, f"root@{self.address}", "bash -seuo pipefail"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=timeout, check=False)
        assert (done.returncode != 0) is fails, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout + done.stderr

    def sql(self, database: str, statement: str, *, fails: bool = False, mode: str = "verify-full") -> str:
        """Run a statement as the cluster's administrator."""
        place = self.postgresql["private_connection"]
        words = f"host={place['host']} port={place['port']} user=doadmin dbname={database} sslmode={mode}"
        psql = "/opt/gitlab/embedded/bin/psql -X -At -v ON_ERROR_STOP=1"
        return self.on_droplet(f'{psql} "{words} sslrootcert={CA_FILE}" <<< "{statement}"', fails=fails)

    def configure(self, **changes: str) -> None:
        """Write `gitlab.rb`."""
        place = self.postgresql["private_connection"]
        known = {"host": place["host"], "port": place["port"], "password": self.password, "ca": CA_FILE}
        cache = self.valkey["private_connection"]
        known |= {"redis_host": cache["host"], "redis_port": cache["port"], "redis_password": cache["password"]}
        self.write(GITLAB_RB.format(**(known | {"redis_ca": PUBLIC_CA_FILE, "root": PASSWORD} | changes)))

    def configure_bundled(self) -> None:
        """Write a `gitlab.rb` that names no server outside."""
        self.write(GITLAB_RB.partition("postgresql['enable']")[0])

    def write(self, text: str) -> None:
        """Put `gitlab.rb` on the droplet."""
        self.on_droplet(f"umask 077; cat > /etc/gitlab/gitlab.rb << 'EOF'\n{text}\nEOF")


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """One of each engine, and a droplet with GitLab's package; all deleted at the end."""
    api = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])
    key = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    known = api.ssh_keys.create(body={"name": TAG, "public_key": key.with_suffix(".pub").read_text()})["ssh_key"]
    body = {"name": TAG, "region": REGION, "size": "s-2vcpu-4gb", "image": "debian-13-x64", "tags": [TAG]}
    droplet = api.droplets.create(body=body | {"ssh_keys": [known["id"]]})["droplet"]["id"]
    clusters = [
        api.databases.create_cluster(
            body={"name": f"{TAG}-{engine}", "engine": engine, "version": version, "region": REGION, "num_nodes": 1}
            | {"size": "db-s-1vcpu-1gb"}
        )["database"]["id"]
        for engine, version in (("pg", "17"), ("valkey", "8"))
    ]
    try:
        yield _ready(api, droplet, clusters, key)
    finally:
        for cluster in clusters:
            api.databases.destroy_cluster(cluster)
        api.droplets.destroy(droplet)
        api.ssh_keys.delete(known["id"])


def _ready(api: pydo.Client, droplet: int, clusters: list[str], key: Path) -> Databases:
    for cluster in clusters:
        until(partial(_online, api, cluster), "the cluster to be online")
        api.databases.update_firewall_rules(cluster, body={"rules": [{"type": "tag", "value": TAG}]})
    postgresql, valkey = (api.databases.get_cluster(one)["database"] for one in clusters)
    for name in ("gitlabhq_production", "registry"):
        api.databases.add(postgresql["id"], body={"name": name})
    password = api.databases.add_user(postgresql["id"], body={"name": "gitlab"})["user"]["password"]
    networks = api.droplets.get(droplet)["droplet"]["networks"]["v4"]
    address = next(network["ip_address"] for network in networks if network["type"] == "public")
    made = Databases(address, key, postgresql, valkey, password)
    until(lambda: _connects(address, 22), "SSH on the droplet", 60)
    made.on_droplet(INSTALL)
    # In files, so that no password is in the message of a test that fails.
    made.on_droplet(f"umask 077; echo '*:*:*:doadmin:{postgresql['connection']['password']}' > .pgpass")
    made.on_droplet(f"umask 077; echo '{valkey['connection']['password']}' > valkey-password")
    certificate = base64.b64decode(api.databases.get_ca(postgresql["id"])["ca"]["certificate"]).decode()
    made.on_droplet(f"cat > {CA_FILE} << 'EOF'\n{certificate}\nEOF")
    return made


def _online(api: pydo.Client, cluster: str) -> bool:
    return bool(api.databases.get_cluster(cluster)["database"]["status"] == "online")


def _connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def test_a_cluster_answers_its_trusted_sources_alone_and_over_tls_alone(databases: Databases) -> None:
    place = databases.postgresql["connection"]
    assert not _connects(place["host"], place["port"])
    assert databases.sql("defaultdb", "SELECT 1") == "1\n"
    assert "no encryption" in databases.sql("defaultdb", "SELECT 1", mode="disable", fails=True)


def test_nobody_is_a_superuser_and_extensions_are_those_of_the_service(databases: Databases) -> None:
    assert "Must be superuser" in databases.sql("defaultdb", "CREATE EXTENSION pageinspect", fails=True)
    assert "Must be superuser" in databases.sql("defaultdb", "CREATE EXTENSION amcheck", fails=True)
    assert databases.sql("defaultdb", "CREATE EXTENSION pg_stat_statements") == "CREATE EXTENSION\n"


def test_valkey_verifies_and_keeps_its_administration_to_itself(databases: Databases) -> None:
    place = databases.valkey["private_connection"]
    command = f"valkey-cli --tls --cacert {PUBLIC_CA_FILE} -h {place['host']} -p {place['port']}"
    script = f"export REDISCLI_AUTH=$(cat valkey-password); {command} ping; {command} config get maxmemory"
    answer = databases.on_droplet(script)
    assert answer.startswith("PONG\n")
    assert "NOPERM" in answer


def test_gitlab_does_not_start_on_a_schema_that_is_not_its_own(databases: Databases) -> None:
    databases.configure()
    assert "permission denied for schema public" in databases.on_droplet("gitlab-ctl reconfigure", fails=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrong"}, "password authentication failed"),
        ({"ca": PUBLIC_CA_FILE}, "certificate verify failed"),
        ({"redis_password": "wrong"}, "invalid username-password pair"),
        ({"redis_ca": CA_FILE}, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_gitlab_refuses_a_wrong_password_and_a_stranger(
    databases: Databases, changes: dict[str, str], words: str
) -> None:
    databases.configure(**changes)
    assert words in databases.on_droplet("gitlab-ctl reconfigure", fails=True)


def test_gitlab_and_its_registry_keep_their_tables_in_the_cluster(databases: Databases) -> None:
    for name in ("gitlabhq_production", "registry"):
        databases.sql(name, f"GRANT ALL ON DATABASE {name} TO gitlab; GRANT ALL ON SCHEMA public TO gitlab")
    databases.configure()
    databases.on_droplet("gitlab-ctl reconfigure")
    ready = "curl --silent --retry 20 --retry-connrefused 'http://127.0.0.1:8080/-/readiness?all=1'"
    answer = databases.on_droplet(ready)
    assert '"db_check":[{"status":"ok"}]' in answer
    assert '"sessions_check":[{"status":"ok"}]' in answer
    look = "curl --silent --retry 20 --retry-connrefused -o /dev/null -w '%{http_code}' http://127.0.0.1:5000/v2/"
    assert databases.on_droplet(look) == "401"
    tables = "SELECT count(*) > 0 FROM pg_tables WHERE schemaname = 'public'"
    assert {databases.sql(name, tables) for name in ("gitlabhq_production", "registry")} == {"t\n"}
    read = "SELECT count(*) FROM batched_background_migrations"
    assert "permission denied" in databases.sql("gitlabhq_production", read, fails=True)
    assert "No such file" in databases.on_droplet("gitlab-psql -d gitlabhq_production -tAc 'SELECT 1'", fails=True)


def test_browsers_are_signed_out_when_valkey_forgets_them(databases: Databases) -> None:
    cache = databases.valkey["private_connection"]
    look = "curl --silent --cookie jar --cookie-jar jar --output page --write-out '%{http_code} %{redirect_url}\\n'"
    answer = databases.on_droplet(f"""
        {look} http://127.0.0.1:8080/users/sign_in > /dev/null
        word=$(sed -n 's/.*name="authenticity_token" value="\\([^"]*\\)".*/\\1/p' page | head -n 1)
        {look} --data-urlencode "authenticity_token=$word" --data login=root \\
          --data-urlencode 'password={PASSWORD}' http://127.0.0.1:8080/users/sign_in > /dev/null
        {look} http://127.0.0.1:8080/
        export REDISCLI_AUTH=$(cat valkey-password)
        valkey-cli --tls --cacert {PUBLIC_CA_FILE} -h {cache["host"]} -p {cache["port"]} flushall > /dev/null
        {look} http://127.0.0.1:8080/
    """)
    signed_in, forgotten = answer.splitlines()
    assert signed_in.startswith("200")
    assert "/users/sign_in" in forgotten


def test_keys_are_copied_into_the_cluster_and_back_with_their_expiry(databases: Databases) -> None:
    cache = databases.valkey["private_connection"]
    answer = databases.on_droplet(f"""
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valkey-server > /dev/null 2>&1
        valkey-server --port 0 --unixsocket /run/keys.socket --daemonize yes > /dev/null
        here=$(printf 'socket\\t/run/keys.socket')
        there=$(printf 'tls\\t%s\\t%s\\t%s\\t%s' {cache["host"]} {cache["port"]} {CA_FILE} "$(cat valkey-password)")
        cat > keys.py << 'EOF'\n{script("database/keys.py")}\nEOF
        cli="valkey-cli -s /run/keys.socket"
        until $cli set session:gitlab:2::abc text px 600000 > /dev/null; do :; done
        $cli rpush queue:default one two > /dev/null
        $cli zadd schedule 1.5 later > /dev/null
        printf '%s\\n' "$here" "$there" | python3 keys.py copy slipway 00ff: copy
        $cli flushall > /dev/null
        printf '%s\\n' "$there" "$here" | python3 keys.py copy slipway 00ff: copy
        $cli lrange queue:default 0 -1
        $cli zscore schedule later
        test "$($cli pttl session:gitlab:2::abc)" -gt 0 && $cli get session:gitlab:2::abc
        printf '%s\\n' "$there" | python3 keys.py check | tail -n 1
    """)
    assert answer.splitlines() == ["3", "3", "one", "two", "1.5", "text", "slipway 00ff: copy"]


def test_a_backup_of_gitlab_is_restored_into_the_cluster(databases: Databases) -> None:
    read = "gitlab-rails runner 'puts User.find_by_username(%(root)).name'"
    answer = databases.on_droplet(f"""
        gitlab-backup create SKIP=registry > /dev/null
        gitlab-rails runner 'User.find_by_username(%(root)).update!(name: %(Changed))'
        {read}
        gitlab-ctl stop puma > /dev/null
        backup=$(ls /var/opt/gitlab/backups | sed 's/_gitlab_backup.tar$//')
        gitlab-backup restore BACKUP="$backup" force=yes > /dev/null 2>&1
        gitlab-ctl start puma > /dev/null
        {read}
    """)
    assert answer == "Changed\nAdministrator\n"


def test_backups_go_from_one_server_into_the_other_and_the_bundled_one_keeps_its_data_meanwhile(
    databases: Databases,
) -> None:
    def restored(name: str, change: str) -> str:
        """Restore a backup into the server of `gitlab.rb`, and make another one of it with a change."""
        return databases.on_droplet(f"""
            gitlab-ctl reconfigure > /dev/null
            gitlab-ctl stop puma > /dev/null
            GITLAB_ASSUME_YES=1 gitlab-backup restore BACKUP={name} SKIP=registry > /dev/null 2>&1
            gitlab-ctl start puma > /dev/null
            gitlab-rails runner 'puts User.find_by_username(%(root)).name'
            gitlab-rails runner 'User.find_by_username(%(root)).update!(name: %({change}))'
            gitlab-backup create BACKUP={change} SKIP=registry > /dev/null
        """)

    databases.on_droplet("gitlab-backup create BACKUP=Managed SKIP=registry > /dev/null")
    databases.configure_bundled()
    assert restored("Managed", "Bundled") == "Administrator\n"
    assert databases.on_droplet("gitlab-psql -tAc 'SELECT name FROM users'") == "Bundled\n"
    databases.configure()
    assert restored("Bundled", "Later") == "Bundled\n"
    assert databases.on_droplet("gitlab-rails runner 'puts User.first.name'") == "Later\n"
    databases.configure_bundled()
    databases.on_droplet("gitlab-ctl reconfigure > /dev/null")
    assert databases.on_droplet("gitlab-psql -tAc 'SELECT name FROM users'") == "Bundled\n"
