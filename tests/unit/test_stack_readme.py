"""The page of a stack in Pulumi Cloud."""

from __future__ import annotations

import re
from typing import Any

from tests.unit.engine import ENVELOPE, RecordingEngine, run_program


def page(engine: RecordingEngine) -> str:
    return str(engine.exports["readme"])


def test_every_output_that_the_page_names_exists_and_is_not_secret() -> None:
    engine = run_program(projects=[{"path": "hello"}], runners=[{"name": "docker-builder"}])
    named = set(re.findall(r"\$\{outputs\.(\w+)\}", page(engine)))
    assert {"gitlab_url", "registry", "docker_login", "server_address"} <= named
    sent = engine.sent_outputs["slipway-test"]
    assert named <= sent.keys()
    assert [name for name in named if isinstance(sent[name], dict) and ENVELOPE in sent[name]] == []


def test_the_page_says_what_the_stack_is_and_what_it_builds() -> None:
    projects = [{"path": "hello"}, {"path": "shop", "group": "acme", "pipeline": False, "runners": []}]
    runners = [{"name": "docker-builder"}]
    text = page(run_program(existing_groups={"acme": 12}, projects=projects, runners=runners, removal="everything"))
    assert text.startswith("# slipway, test\n")
    assert "| [root/hello](${outputs.gitlab_url}/root/hello) | docker-builder |" in text
    assert "| [acme/shop](${outputs.gitlab_url}/acme/shop) | none |" in text
    assert "pulumi stack output --stack test --show-secrets gitlab_admin_password" in text
    assert "deletes everything" in text


def test_the_page_follows_the_settings() -> None:
    settings: dict[str, Any] = {"registry": {"storage": "filesystem"}, "backup": {"enabled": True, "times": ["03:15"]}}
    without, with_backups = page(run_program()), page(run_program(**settings))
    assert "## Projects" not in without
    assert "| backups | none |" in without
    assert "in a Space of the stack" in without
    assert "at 03:15 UTC" in with_backups
    assert "on the server's volume" in with_backups
