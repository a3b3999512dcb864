"""`python -m tools pipeline`: what is missing is reported at once, and which job gets which variable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gitlab
import pytest

from tools import pipeline
from tools.clients import Outputs
from tools.pipeline import Variable
from tools.progress import ToolError

BUCKET = "s3://states?endpoint=https://nyc3.digitaloceanspaces.com&region=nyc3"
ENVIRONMENT = {
    "DIGITALOCEAN_TOKEN": "dop_v1_update",
    "PREVIEW_DIGITALOCEAN_TOKEN": "dop_v1_read",
    "PULUMI_BACKEND_URL": BUCKET,
    "PULUMI_CONFIG_PASSPHRASE": "correct-horse",
    "AWS_ACCESS_KEY_ID": "DO00UPDATE",
    "AWS_SECRET_ACCESS_KEY": "secret-of-update",
    "PREVIEW_AWS_ACCESS_KEY_ID": "DO00READ",
    "PREVIEW_AWS_SECRET_ACCESS_KEY": "secret-of-read",
    "HOME": "/root",
}


@pytest.fixture
def stack_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "Pulumi.production.yaml"
    file.write_text("config:\n  slipway:adminCidrs: [198.51.100.0/24]\nencryptionsalt: v1:abc\n")
    monkeypatch.setattr(pipeline, "stack_file", lambda name: tmp_path / f"Pulumi.{name}.yaml")
    return tmp_path


def values(scope: str, environment: dict[str, str]) -> dict[str, str]:
    return {one.key: one.value for one in pipeline.variables("production", environment) if one.scope == scope}


def test_updates_get_protected_variables_and_previews_others_of_the_same_names() -> None:
    found = list(pipeline.variables("production", ENVIRONMENT))
    assert {one.scope: {one.protected} for one in found} == {"production": {True}, "preview/production": {False}}
    update, preview = values("production", ENVIRONMENT), values("preview/production", ENVIRONMENT)
    assert update.keys() == preview.keys()
    assert update == {
        "DIGITALOCEAN_TOKEN": "dop_v1_update",
        "PULUMI_BACKEND_URL": BUCKET,
        "PULUMI_CONFIG_PASSPHRASE_FILE": "correct-horse",
        "AWS_ACCESS_KEY_ID": "DO00UPDATE",
        "AWS_SECRET_ACCESS_KEY": "secret-of-update",
    }
    assert preview == {
        **update,
        "DIGITALOCEAN_TOKEN": "dop_v1_read",
        "AWS_ACCESS_KEY_ID": "DO00READ",
        "AWS_SECRET_ACCESS_KEY": "secret-of-read",
    }


def test_a_passphrase_becomes_a_file_wherever_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "phrase").write_text("from a file\n")
    environment = ENVIRONMENT | {"PULUMI_CONFIG_PASSPHRASE_FILE": str(tmp_path / "phrase")}
    [one, _] = [one for one in pipeline.variables("production", environment) if one.file]
    assert (one.key, one.value) == ("PULUMI_CONFIG_PASSPHRASE_FILE", "from a file")
    assert "PULUMI_CONFIG_PASSPHRASE" not in values("production", environment)


@pytest.mark.parametrize(
    ("variable", "masked"),
    [
        (Variable("A", "a-long-value", "*"), True),
        (Variable("A", "short", "*"), False),
        (Variable("A", "has a space", "*"), False),
        (Variable("A", "a-long-value", "*", secret=False), False),
    ],
)
def test_what_gitlab_can_mask_is_hidden(variable: Variable, masked: bool) -> None:
    assert variable.flags["masked"] is masked
    assert variable.flags["raw"] is True
    assert ("hidden" in pipeline._line(variable)) is masked


def mistakes(environment: dict[str, str], stack: str = "production") -> list[str]:
    return list(pipeline._mistakes(stack, environment))


@pytest.mark.usefixtures("stack_files")
def test_a_complete_environment_is_accepted() -> None:
    assert mistakes(ENVIRONMENT) == []
    cloud = {"PULUMI_ACCESS_TOKEN": "pul-update", "PREVIEW_PULUMI_ACCESS_TOKEN": "pul-read"}
    tokens = {name: ENVIRONMENT[name] for name in ("DIGITALOCEAN_TOKEN", "PREVIEW_DIGITALOCEAN_TOKEN")}
    assert mistakes({**tokens, **cloud, "PULUMI_CONFIG_PASSPHRASE": "correct-horse"}) == []


@pytest.mark.usefixtures("stack_files")
def test_everything_that_is_missing_is_reported_at_once() -> None:
    text = "\n".join(mistakes({}))
    for word in ("DIGITALOCEAN_TOKEN is not set", "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE_FILE is not set"):
        assert word in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PREVIEW_DIGITALOCEAN_TOKEN": ""}, "PREVIEW_DIGITALOCEAN_TOKEN is not set"),
        ({"PREVIEW_DIGITALOCEAN_TOKEN": "dop_v1_update"}, "PREVIEW_DIGITALOCEAN_TOKEN is DIGITALOCEAN_TOKEN again"),
        ({"PREVIEW_AWS_SECRET_ACCESS_KEY": ""}, "PREVIEW_AWS_SECRET_ACCESS_KEY is not set"),
        ({"PULUMI_BACKEND_URL": "file:///srv/pulumi"}, "a folder of this machine that no job sees"),
    ],
)
@pytest.mark.usefixtures("stack_files")
def test_each_mistake_names_its_variable(change: dict[str, str], message: str) -> None:
    [found] = mistakes(ENVIRONMENT | change)
    assert message in found


@pytest.mark.usefixtures("stack_files")
def test_a_stack_without_a_file_is_refused() -> None:
    [found] = mistakes(ENVIRONMENT, "qa")
    assert found.startswith("stacks/Pulumi.qa.yaml cannot be read")


@pytest.mark.parametrize(
    "url", ["ops/slipway", "http://gitlab.example.com/ops/slipway", "https://gitlab.example.com/x"]
)
def test_an_address_that_is_none_of_a_project_is_refused(url: str) -> None:
    with pytest.raises(ToolError, match="is not the address of a project"):
        pipeline.project_at(url, "production", {"GITLAB_TOKEN": "token"})


def test_a_project_elsewhere_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        url, api_token = "https://gitlab.example.com", "the-stacks-own"

    monkeypatch.setattr(Outputs, "of_stack", lambda _: Own)
    with pytest.raises(ToolError, match="GITLAB_TOKEN is not set"):
        pipeline.project_at("https://gitlab.com/ops/slipway", "production", {})


class FakeVariables:
    """The variables of a project, and what was asked of them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *words, **options: self.calls.append((name, *words, options))


class Known:
    """A variable that GitLab has."""

    def __init__(self, key: str, scope: str, *, hidden: bool) -> None:
        self.key, self.environment_scope, self.attributes = key, scope, {"hidden": hidden}


@pytest.mark.parametrize(
    ("known", "calls"),
    [
        ([], ["create"]),
        ([Known("A", "production", hidden=True)], ["update"]),
        # GitLab neither shows a hidden one again nor hides one that was visible.
        ([Known("A", "production", hidden=False)], ["delete", "create"]),
        ([Known("A", "preview/production", hidden=True)], ["create"]),
    ],
)
def test_a_variable_is_changed_in_its_own_environment_only(known: list[Known], calls: list[str]) -> None:
    class Project:
        variables = FakeVariables()

    pipeline._set(Project, known, Variable("A", "a-long-value", "production", protected=True))  # type: ignore[arg-type]
    assert [call[0] for call in Project.variables.calls] == calls
    for name, *_, options in Project.variables.calls:
        assert name == "create" or options == {"filter": {"environment_scope": "production"}}


class FakeProject:
    """A project in GitLab, as far as its readiness goes: its branch, and the machines of its runners."""

    default_branch, path_with_namespace = "main", "ops/slipway"

    def __init__(self, *machines: str, protected: bool = True) -> None:
        self.machines, self.is_protected = machines, protected
        self.protectedbranches = self.runners = self.manager = self.gitlab = self
        self.id = 4

    def get(self, _: str) -> None:
        if not self.is_protected:
            raise gitlab.GitlabGetError("404 Not found")

    def list(self, **options: Any) -> list[FakeProject]:
        assert options["tag_list"] == pipeline.TAG
        return [self] if self.machines else []

    def http_list(self, path: str, **_: Any) -> Any:
        assert path == "/runners/4/managers"
        return [{"ip_address": address} for address in self.machines]


@pytest.mark.parametrize(
    ("project", "messages"),
    [
        (FakeProject("198.51.100.9"), []),
        # Jobs use SSH, which adminCidrs open.
        (FakeProject("198.51.100.9", "203.0.113.5"), ["#4 has the address 203.0.113.5.*Add 203.0.113.5/32 there"]),
        (FakeProject(), ["no runner of ops/slipway has the tag slipway"]),
        (FakeProject("198.51.100.9", protected=False), ["the branch main is not protected"]),
    ],
)
@pytest.mark.usefixtures("stack_files")
def test_what_would_keep_jobs_from_working_is_reported(project: Any, messages: list[str]) -> None:
    found = list(pipeline._unready(project, "production"))
    assert len(found) == len(messages)
    for line, message in zip(found, messages, strict=True):
        assert re.search(message, line)
