"""The provider `gitlab` in the real engine, on the GitLab stand-in: one of every type, up, round and down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.pulumi_engine import Engine

_VALUE = "the-value-of-the-variable"
#: Everything in the stack, which is one thing itself.
_ALL = 16


class GitLabStack:
    """The program `gitlab` on an instance."""

    def __init__(self, instance: Instance, folder: Path) -> None:
        self.instance = instance
        user = {"username": "ada", "name": "Ada", "email": "ada@example.com", "password": "kX9-vbq-Trz-73"}
        self.user = instance.request("POST", "/users", {**user, "skip_confirmation": True})["id"]
        self.engine = Engine(
            folder,
            "gitlab",
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

    def project(self) -> Any:
        """The project as GitLab has it."""
        return self.instance.request("GET", "/projects/team%2Fapp")


@pytest.fixture(scope="module")
def stack(shared_instance: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLabStack]:
    """The stack after its first update."""
    found = GitLabStack(shared_instance, tmp_path_factory.mktemp("stack"))
    found.engine.up()
    yield found
    found.engine.destroy()


@pytest.mark.new_instance
def test_a_preview_before_the_token_is_known_calls_no_api_and_shows_unknown_outputs(
    instance: Instance, tmp_path: Path
) -> None:
    engine = GitLabStack(instance, tmp_path).engine
    assert engine.changes() == {"create": _ALL}
    printed = engine.run("preview").partition("Outputs:")[2]
    outputs = dict(re.findall(r"^ {4}(\w+) *: (.*)$", printed, re.MULTILINE))
    assert {"address", "bot", "commit", "deploy", "runner"} <= outputs.keys()
    assert set(outputs.values()) == {"[unknown]"}
    assert instance.request("GET", "/groups") == []


def test_everything_is_created_as_declared(stack: GitLabStack) -> None:
    project = stack.project()
    assert project["shared_runners_enabled"] is False
    assert project["container_expiration_policy"]["enabled"] is False
    assert project["container_expiration_policy"]["name_regex"] == "^branch-.*"
    assert project["default_branch"] == "main"
    assert stack.engine.outputs()["address"] == project["web_url"]
    assert stack.engine.outputs()["user"] == "root"
    assert stack.instance.request("GET", "/application/settings")["signup_enabled"] is False


def test_a_preview_without_a_change_is_empty_before_and_after_a_refresh(stack: GitLabStack) -> None:
    assert stack.engine.changes() == {"same": _ALL}
    stack.engine.up()
    stack.engine.run("refresh", "--yes", "--skip-preview")
    assert stack.engine.changes() == {"same": _ALL}
    assert f"{_ALL} unchanged" in stack.engine.up()


def test_the_state_holds_no_secret_in_plain_text(stack: GitLabStack) -> None:
    outputs = stack.engine.outputs()
    state = stack.engine.run("stack", "export")
    hidden = [_VALUE, stack.instance.token, outputs["bot"], outputs["runner"], outputs["deploy"]["token"]]
    assert all(hidden)
    assert [secret for secret in hidden if secret in state] == []
    assert outputs["deploy"]["username"] in state


def test_each_change_updates_only_the_resources_that_it_concerns(stack: GitLabStack) -> None:
    before = stack.engine.outputs()
    stack.engine.configure(
        {
            "description": "Something else",
            "cleanup": "true",
            "force": "true",
            "level": "maintainer",
            "code": "console.log('changed')\n",
            "timeout": "7200",
        }
    )
    assert stack.engine.changes() == {"same": _ALL - 5, "update": 5}
    stack.engine.up()
    after = stack.engine.outputs()
    assert after["commit"] != before["commit"]
    assert (after["runner"], after["deploy"]) == (before["runner"], before["deploy"])
    project = stack.project()
    assert project["description"] == "Something else"
    assert project["container_expiration_policy"]["enabled"] is True
    stack.engine.run("refresh", "--yes", "--skip-preview")
    assert stack.engine.changes() == {"same": _ALL}


def test_manual_changes_are_reverted(stack: GitLabStack) -> None:
    number = stack.project()["id"]
    stack.instance.request(
        "PUT", f"/projects/{number}", {"shared_runners_enabled": True, "issues_access_level": "disabled"}
    )
    stack.instance.request("DELETE", f"/projects/{number}/variables/PASSPHRASE")
    stack.engine.run("refresh", "--yes", "--skip-preview")
    assert stack.engine.changes() == {"same": _ALL - 2, "update": 1, "create": 1}
    stack.engine.up()
    project = stack.project()
    assert project["shared_runners_enabled"] is False
    # The program says nothing about it.
    assert project["issues_access_level"] == "disabled"
    assert stack.instance.request("GET", f"/projects/{number}/variables/PASSPHRASE")["value"] == _VALUE


def test_destroy_removes_everything_and_the_next_up_creates_it_again(stack: GitLabStack) -> None:
    stack.engine.destroy()
    assert stack.instance.request("GET", "/projects?search=other") == []
    assert stack.instance.request("GET", "/runners/all") == []
    assert stack.instance.request("GET", "/application/settings")["signup_enabled"] is False
    stack.engine.up()
    assert stack.engine.changes() == {"same": _ALL}


@pytest.mark.new_instance
def test_an_existing_project_is_imported(instance: Instance, tmp_path: Path) -> None:
    body = {"name": "old", "initialize_with_readme": True, "description": "older than the stack"}
    made = instance.request("POST", "/projects", body)
    settings = {"token": instance.token, "baseUrl": f"{instance.url}/api/v4/", "description": body["description"]}
    engine = Engine(tmp_path, "importing", settings)
    assert engine.changes() == {"create": 2, "import": 1}
    engine.up()
    assert engine.resources()["old"]["id"] == str(made["id"])
    assert engine.changes() == {"same": 3}
    engine.configure({"description": "changed"})
    assert engine.changes() == {"same": 2, "update": 1}


@pytest.mark.new_instance
def test_an_import_that_ignores_every_property_changes_nothing_and_knows_the_default_branch(
    instance: Instance, tmp_path: Path
) -> None:
    policy = {"enabled": True, "keep_n": 50, "name_regex": ".*", "name_regex_keep": "v.*"}
    body = {
        "name": "Old App",
        "path": "Old_app.v1",
        "default_branch": "master",
        "initialize_with_readme": True,
        "topics": ["legacy"],
        "ci_config_path": "ci/build.yml",
        "container_registry_access_level": "private",
        "container_expiration_policy_attributes": policy,
    }
    made = instance.request("POST", "/projects", body)
    before = instance.request("GET", f"/projects/{made['id']}")
    settings = {"token": instance.token, "baseUrl": f"{instance.url}/api/v4/", "id": str(made["id"])}
    engine = Engine(tmp_path, "importing_unchanged", settings)
    assert engine.changes() == {"create": 2, "import": 1}
    assert "master" in engine.run("preview").partition("Outputs:")[2]
    engine.up()
    assert instance.request("GET", f"/projects/{made['id']}") == before
    assert engine.outputs() == {"branch": "master"}
    assert engine.changes() == {"same": 3}
