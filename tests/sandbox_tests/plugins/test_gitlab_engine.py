"""The provider `gitlab` in the real engine, on the GitLab stand-in: one of every type, up, round and down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox_tests.support.gitlab_instance import Instance, running
from tests.sandbox_tests.support.pulumi_engine import Engine

_VALUE = "the-value-of-the-variable"
#: Everything in the stack, which is one thing itself.
_ALL = 16


def headers(instance: Instance) -> dict[str, str]:
    return {"authorization": f"Bearer {instance.token}"}


class Forge:
    """An instance, and the program `forge` for it."""

    def __init__(self, instance: Instance, folder: Path) -> None:
        self.instance = instance
        user = {"username": "ada", "name": "Ada", "email": "ada@example.com", "password": "kX9-vbq-Trz-73"}
        self.user = self.ask("POST", "/users", {**user, "skip_confirmation": True})["id"]
        self.engine = Engine(
            folder,
            "forge",
            {
                "token": instance.token,
                "baseUrl": f"{instance.url}/api/v4/",
                "description": "What we ship",
                "cleanup": "false",
                "force": "false",
                "value": _VALUE,
                "user": str(self.user),
                "level": "developer",
                "code": "console.log('hello')\n",
                "timeout": "3600",
            },
        )

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask GitLab past the plugin."""
        url = f"{self.instance.url}/api/v4{path}"
        answer = httpx.request(method, url, headers=headers(self.instance), json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def project(self) -> Any:
        """The project as GitLab tells it."""
        return self.ask("GET", "/projects/team%2Fapp")


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with running(tmp_path_factory.mktemp("gitlab")) as instance:
        forge = Forge(instance, tmp_path_factory.mktemp("stack"))
        forge.engine.up()
        yield forge
        forge.engine.destroy()


def test_a_preview_before_the_token_is_known_asks_nothing_and_knows_nothing(tmp_path: Path) -> None:
    (tmp_path / "gitlab").mkdir()
    with running(tmp_path / "gitlab") as instance:
        engine = Forge(instance, tmp_path / "stack").engine
        assert engine.changes() == {"create": _ALL}
        told = engine.run("preview").partition("Outputs:")[2]
        outputs = dict(re.findall(r"^ {4}(\w+) *: (.*)$", told, re.MULTILINE))
        assert {"address", "bot", "commit", "deploy", "runner"} <= outputs.keys()
        assert set(outputs.values()) == {"[unknown]"}
        assert httpx.get(f"{instance.url}/api/v4/groups", headers=headers(instance)).json() == []


def test_what_is_made_is_what_was_asked_for(forge: Forge) -> None:
    project = forge.project()
    assert project["shared_runners_enabled"] is False
    assert project["container_expiration_policy"]["enabled"] is False
    assert project["container_expiration_policy"]["name_regex"] == "^branch-.*"
    assert project["default_branch"] == "main"
    assert forge.engine.outputs()["address"] == project["web_url"]
    assert forge.engine.outputs()["user"] == "root"
    assert forge.ask("GET", "/application/settings")["signup_enabled"] is False


def test_nothing_changes_without_a_change_also_not_after_a_refresh(forge: Forge) -> None:
    assert forge.engine.changes() == {"same": _ALL}
    forge.engine.up()
    forge.engine.run("refresh", "--yes", "--skip-preview")
    assert forge.engine.changes() == {"same": _ALL}
    assert f"{_ALL} unchanged" in forge.engine.up()


def test_secrets_are_nowhere_in_the_state_in_clear(forge: Forge) -> None:
    outputs = forge.engine.outputs()
    state = forge.engine.run("stack", "export")
    hidden = [_VALUE, forge.instance.token, outputs["bot"], outputs["runner"], outputs["deploy"]["token"]]
    assert all(hidden)
    assert [secret for secret in hidden if secret in state] == []
    assert outputs["deploy"]["username"] in state


def test_each_change_touches_only_what_it_is_about(forge: Forge) -> None:
    before = forge.engine.outputs()
    forge.engine.configure(
        {
            "description": "Something else",
            "cleanup": "true",
            "force": "true",
            "level": "maintainer",
            "code": "console.log('changed')\n",
            "timeout": "7200",
        }
    )
    assert forge.engine.changes() == {"same": _ALL - 5, "update": 5}
    forge.engine.up()
    after = forge.engine.outputs()
    assert after["commit"] != before["commit"]
    assert (after["runner"], after["deploy"]) == (before["runner"], before["deploy"])
    project = forge.project()
    assert project["description"] == "Something else"
    assert project["container_expiration_policy"]["enabled"] is True
    forge.engine.run("refresh", "--yes", "--skip-preview")
    assert forge.engine.changes() == {"same": _ALL}


def test_what_was_changed_or_removed_by_hand_is_set_right(forge: Forge) -> None:
    number = forge.project()["id"]
    forge.ask("PUT", f"/projects/{number}", {"shared_runners_enabled": True, "issues_access_level": "disabled"})
    forge.ask("DELETE", f"/projects/{number}/variables/PASSPHRASE")
    forge.engine.run("refresh", "--yes", "--skip-preview")
    assert forge.engine.changes() == {"same": _ALL - 2, "update": 1, "create": 1}
    forge.engine.up()
    project = forge.project()
    assert project["shared_runners_enabled"] is False
    # The program says nothing about it.
    assert project["issues_access_level"] == "disabled"
    assert forge.ask("GET", f"/projects/{number}/variables/PASSPHRASE")["value"] == _VALUE


def test_after_destroying_all_of_it_is_gone_and_can_be_made_again(forge: Forge) -> None:
    forge.engine.destroy()
    assert forge.ask("GET", "/projects?search=other") == []
    assert forge.ask("GET", "/runners/all") == []
    assert forge.ask("GET", "/application/settings")["signup_enabled"] is False
    forge.engine.up()
    assert forge.engine.changes() == {"same": _ALL}


def test_a_project_that_is_there_already_is_adopted(tmp_path: Path) -> None:
    (tmp_path / "gitlab").mkdir()
    with running(tmp_path / "gitlab") as instance:
        body = {"name": "old", "initialize_with_readme": True, "description": "older than the stack"}
        url = f"{instance.url}/api/v4/projects"
        made = httpx.post(url, headers=headers(instance), json=body).raise_for_status().json()
        settings = {"token": instance.token, "baseUrl": f"{instance.url}/api/v4/", "description": body["description"]}
        engine = Engine(tmp_path / "stack", "adopting", settings)
        assert engine.changes() == {"create": 2, "import": 1}
        engine.up()
        assert engine.resources()["old"]["id"] == str(made["id"])
        assert engine.changes() == {"same": 3}
        engine.configure({"description": "changed"})
        assert engine.changes() == {"same": 2, "update": 1}
