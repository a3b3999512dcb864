"""A stack whose databases are managed from its first update on, resized, recovered, moved back, and deleted.

Takes two more machines and several updates, so it is a part of `make nightly`. The tests build on each other, in order.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pydo
import pytest

from tests.e2e.control import Control
from tests.e2e.hosts import Host
from tests.e2e.stack import SANDBOX, Stack
from tests.sandbox_tests.support.gitlab_projects import make_project
from tools.clients import Outputs, try_run
from tools.environment import ROOT

BOTH: dict[str, Any] = {"postgresql": {"kind": "managed"}, "valkey": {"kind": "managed", "size": "db-s-1vcpu-1gb"}}
CLUSTERS = ("databases-postgresql", "databases-valkey")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A new stack with managed databases, in a network that is not the default one of its region."""
    networks = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"]).vpcs
    if not any(one["default"] and one["region"] == "nyc3" for one in networks.list()["vpcs"]):
        networks.create(body={"name": "the-first-of-its-region", "region": "nyc3"})
    made = Stack.create(
        "databases",
        tmp_path_factory.mktemp("databases"),
        SANDBOX,
        domain="databases.test",
        databases=BOTH,
        projects=[],
        runners=[],
        alerts={"email": ["sandbox@example.com"]},
    )
    made.up()
    yield made
    assert made.remove()


@pytest.fixture(scope="module")
def project(stack: Stack) -> int:
    """A project from before anything moves."""
    return int(make_project(stack.outputs().gitlab(), "before").id)


def verified(stack: Stack) -> None:
    done = try_run(sys.executable, "-m", "tools", "verify", "--stack", stack.name, timeout=900, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def declared(stack: Stack) -> set[str]:
    return {name for name in (urn.rsplit("::", 1)[1] for urn in stack.resources()) if name.startswith("databases-")}


def in_the_account(stack: Stack) -> dict[str, str]:
    """The IDs of the clusters and of the network that they are in."""
    found = {urn.rsplit("::", 1)[1]: str(one["id"]) for urn, one in stack.resources().items() if "id" in one}
    return {name: found[name] for name in (*CLUSTERS, "network-vpc")}


def tables_in_the_cluster(stack: Stack, database: str) -> int:
    """How many tables GitLab's own user sees there."""
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    psql = "/opt/gitlab/embedded/bin/psql -X -At"
    return int(
        Host.of(stack, "server").sudo(
            f'set -a; . /etc/slipway/database.env; PGSSLMODE=verify-full {psql} -d {database} -c "{query}"'
        )
    )


def gitlab_has(outputs: Outputs, project: int) -> bool:
    return bool(outputs.gitlab().projects.get(project).path == "before")


def test_gitlab_and_its_registry_begin_in_the_clusters_and_nothing_else_runs(stack: Stack, project: int) -> None:
    assert tables_in_the_cluster(stack, "gitlabhq_production") > 0
    registry = Host.of(stack, "server").sudo(
        "sed -n \"s/.*'dbname' => '\\([a-z0-9_]*\\)'.*/\\1/p\" /etc/gitlab/registry.rb"
    )
    assert tables_in_the_cluster(stack, registry.strip()) > 0
    services = Host.of(stack, "server").sudo("ls /opt/gitlab/service")
    assert not {"postgresql", "redis"} & set(services.split())
    assert gitlab_has(stack.outputs(), project)
    verified(stack)
    assert stack.changes() == {}
    stack.run("refresh", "--yes")
    assert stack.changes() == {}


def test_no_one_but_the_server_reaches_a_cluster(stack: Stack, project: int) -> None:
    del project
    for name in CLUSTERS:
        state = next(one for urn, one in stack.resources().items() if urn.endswith(f"::{name}"))
        with (
            pytest.raises(OSError, match=r"timed out|refused|unreachable"),
            socket.create_connection((state["outputs"]["host"], int(state["outputs"]["port"])), timeout=2),
        ):
            pass


def test_no_password_of_a_database_is_in_plain_text_in_the_state_or_readable_on_the_server(stack: Stack) -> None:
    server = Host.of(stack, "server")
    known = json.loads(server.sudo("cat /etc/gitlab/slipway-secrets.json"))
    passwords = [str(known[f"databases.{engine}"]) for engine in BOTH]
    state = stack.run("stack", "export", settings_file=False)
    assert not [one for one in passwords if one in state]
    modes = server.sudo(
        "stat -c '%a %U' /etc/gitlab/slipway-secrets.json /etc/slipway/database.env /etc/gitlab/gitlab.rb"
    )
    assert set(modes.splitlines()) == {"600 root"}
    assert not [one for one in passwords if one in server.sudo("cat /etc/gitlab/gitlab.rb /etc/gitlab/registry.rb")]


def test_another_size_changes_the_cluster_in_place(stack: Stack, project: int) -> None:
    before = next(one["id"] for urn, one in stack.resources().items() if urn.endswith("::databases-postgresql"))
    stack.set(databases={**BOTH, "postgresql": {"kind": "managed", "size": "db-s-6vcpu-16gb"}})
    assert stack.changes()["databases-postgresql"] == "update"
    stack.up()
    after = next(one for urn, one in stack.resources().items() if urn.endswith("::databases-postgresql"))
    assert (after["id"], after["outputs"]["size"]) == (before, "db-s-6vcpu-16gb")
    assert gitlab_has(stack.outputs(), project)


def test_a_lost_state_takes_the_clusters_over_in_their_network(stack: Stack, project: int) -> None:
    before = in_the_account(stack)
    stack.run("stack", "rm", "--force", "--yes", settings_file=False)
    stack.init()
    words = ("--stack", stack.name, "--config-file", str(stack.file), "--yes")
    done = try_run(sys.executable, "-m", "tools", "recover", *words, timeout=1800, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert in_the_account(stack) == before
    assert gitlab_has(stack.outputs(), project)
    assert stack.changes() == {}


def test_gitlab_takes_its_data_back_and_the_clusters_go_with_the_update_after(stack: Stack, project: int) -> None:
    stack.set(databases={})
    stack.up()
    assert gitlab_has(stack.outputs(), project)
    assert set(CLUSTERS) <= declared(stack)
    assert "db_host" not in Host.of(stack, "server").sudo("cat /etc/gitlab/gitlab.rb")
    stack.up()
    assert declared(stack) == set()
    assert httpx.get(f"{stack.outputs().url}/users/sign_in").status_code == httpx.codes.OK
    assert gitlab_has(stack.outputs(), project)
    control = Control()
    assert not control.resources().get("database_cluster")
    control.close()
    verified(stack)
