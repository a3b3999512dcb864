"""A new environment in an account that has others: what is taken is refused before anything is created."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydo
import pytest

from tests.e2e.control import Control
from tests.e2e.stack import SANDBOX, Stack
from tools.clients import try_run
from tools.environment import ROOT

DOMAIN = "environments.test"
NAME = "another"


@pytest.fixture
def api() -> pydo.Client:
    """The official client."""
    return pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])


@pytest.fixture
def zone(api: pydo.Client) -> Iterator[str]:
    """A zone that is in the account already, with the address record of a running installation."""
    address = api.reserved_ips.create({"region": "nyc3"})["reserved_ip"]["ip"]
    api.domains.create({"name": DOMAIN})
    api.domains.create_record(DOMAIN, {"type": "A", "name": "gitlab", "data": address})
    yield DOMAIN
    api.domains.delete(DOMAIN)
    api.reserved_ips.delete(address)


@pytest.fixture
def volume(api: pydo.Client) -> Iterator[str]:
    """The ID of a volume of the name, and with the properties, that the stack's own will have."""
    wanted = {"name": f"slipway-{NAME}-data", "region": "nyc3", "size_gigabytes": 10}
    created = api.volumes.create({**wanted, "description": "Everything that GitLab keeps"})["volume"]["id"]
    yield created
    api.volumes.delete(created)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that has never been updated."""
    small: dict[str, Any] = {"registry": {"storage": "filesystem"}, "projects": [], "runners": []}
    stack = Stack.create(NAME, tmp_path, SANDBOX, domain=DOMAIN, **small)
    yield stack
    assert stack.remove()


@pytest.mark.parametrize("command", [("preview",), ("up", "--yes", "--skip-preview")], ids=["preview", "up"])
def test_taken_names_are_refused_in_one_report_before_anything_is_created(
    command: tuple[str, ...], stack: Stack, zone: str, volume: str, control: Control
) -> None:
    before = len(control.requests())
    done = stack.attempt(*command)
    assert done.returncode != 0
    assert control.writes_since(before) == []
    assert "2 errors in the configuration; nothing was changed." in done.stdout
    assert f"- dns.zone: the account has the zone {zone}" in done.stdout
    assert f"- stack: the account has a volume slipway-{NAME}-data in nyc3 (ID {volume})" in done.stdout
    # What a refused update leaves in the state does not make the names the stack's own.
    assert stack.attempt("preview").returncode != 0


def test_the_name_of_another_installation_in_the_zone_is_refused(stack: Stack, zone: str, control: Control) -> None:
    stack.set(dns={"zone": "existing"})
    before = len(control.requests())
    done = stack.attempt("up", "--yes", "--skip-preview")
    assert done.returncode != 0
    assert control.writes_since(before) == []
    assert f"- hostname: the zone {zone} has the record gitlab A " in done.stdout
    stack.set(hostname="git")
    assert stack.changes()["dns-a"] == "create"


def test_the_line_that_is_printed_takes_over_what_an_interrupted_update_left(stack: Stack, api: pydo.Client) -> None:
    stack.run("up", "--yes", "--skip-preview", "--target", "**::server", "--target", "**server-address")
    volume = {"name": f"slipway-{NAME}-data", "region": "nyc3", "size_gigabytes": 10}
    # The stack owns it once it is imported, and removes it with everything else.
    api.volumes.create({**volume, "description": "Everything that GitLab keeps"})
    done = stack.attempt("preview")
    found = re.search(r"^ *(pulumi import .*)$", done.stdout, re.MULTILINE)
    assert done.returncode != 0
    assert found, done.stdout
    line = [*shlex.split(found[1]), "--config-file", str(stack.file), "--yes", "--non-interactive"]
    imported = try_run(*line, timeout=120, cwd=ROOT)
    assert imported.returncode == 0, imported.stdout + imported.stderr
    assert "server-data" not in stack.changes()
