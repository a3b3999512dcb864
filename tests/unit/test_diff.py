"""What is promoted from one environment to the next, and what differs."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import versions
from components.settings import Settings
from components.settings.scopes import scopes
from components.settings.section import Scope
from tests.unit.engine import REQUIRED
from tools import cli, diff, stack_files
from tools.diff import compare
from tools.progress import ToolError


def settings(**changes: Any) -> Settings:
    """Settings with a default for everything that is required."""
    return Settings.model_validate({**REQUIRED, **changes})


def texts(source: Settings, target: Settings) -> list[str]:
    """The differences in words."""
    return [one.text("staging", "production") for one in compare(source, target).differences]


def test_every_setting_is_promoted_or_belongs_to_an_environment() -> None:
    found = dict(scopes(Settings))
    assert len(found) > 60
    promoted = {".".join(path) for path, scope in found.items() if scope is Scope.PROMOTED}
    assert {"gitlab.version", "runners.version", "projects.pipeline", "projects.extraStages.script"} <= promoted
    for mine in ("domain", "hostname", "region", "adminCidrs", "removal", "server.size", "server.vpcCidr"):
        assert found[tuple(mine.split("."))] is Scope.ENVIRONMENT, mine
    assert {"runners.size", "runners.count", "projects.importId", "registry.s3.secretKey"}.isdisjoint(promoted)


def test_what_belongs_to_an_environment_is_no_difference() -> None:
    production = settings(domain="example.com", removal="everything", server={"size": "s-8vcpu-16gb"}, region="fra1")
    assert texts(settings(), production) == []


def test_a_setting_that_equals_the_default_is_no_difference_to_one_that_is_left_out() -> None:
    same = settings(gitlab={"version": versions.GITLAB}, registry={"keepUntagged": "24h"})
    assert texts(settings(), same) == texts(same, settings()) == []
    [line] = texts(settings(), settings(gitlab={"version": "19.2.1-ce.0"}))
    assert line == f"gitlab.version: 19.2.1-ce.0 in production, {versions.GITLAB} in staging"


def test_projects_and_runners_are_compared_by_name_and_shown_by_their_place_in_the_target() -> None:
    source = settings(
        projects=[{"path": "hello", "provenance": False}, {"path": "third", "runners": ["builder"]}],
        runners=[{"name": "builder", "version": "19.2.1-1", "size": "s-4vcpu-8gb"}, {"name": "docker-builder"}],
    )
    target = settings(
        projects=[{"path": "shop"}, {"path": "hello"}], runners=[{"name": "docker-builder"}, {"name": "builder"}]
    )
    comparison = compare(source, target)
    assert [one.path for one in comparison.differences] == [
        "projects[1].provenance",
        "projects[2].path",
        "projects[2].runners",
        "runners[1].version",
    ]
    assert comparison.only_in_target == ("projects[0]",)


def test_a_secret_is_named_and_never_printed() -> None:
    def with_variables(**values: str) -> Settings:
        return settings(projects=[{"path": "hello", "variables": {key: {"value": one} for key, one in values.items()}}])

    lines = texts(with_variables(API_KEY="of-staging-1", NEW="of-staging-2"), with_variables(API_KEY="of-production"))
    assert lines == [
        "projects[0].variables.API_KEY.value: differs (secret)",
        "projects[0].variables.NEW.value: only in staging (secret)",
    ]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of `stacks/`."""
    monkeypatch.setattr(stack_files, "stack_file", lambda name: tmp_path / f"Pulumi.{name}.yaml")
    return tmp_path


def write(folder: Path, stack: str, **changes: Any) -> None:
    """A stack file."""
    config = {f"slipway:{key}": value for key, value in {**REQUIRED, **changes}.items()}
    (folder / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump({"config": config}))


def test_the_exit_code_says_whether_there_is_a_difference(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(files, "staging", gitlab={"version": "19.2.1-ce.0"})
    write(files, "production")
    assert diff.diff("staging", "production") == 1
    assert diff.diff("staging", "staging") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"gitlab.version: {versions.GITLAB} in production, 19.2.1-ce.0 in staging",
        "staging has everything that is promoted from staging",
    ]


def test_a_stack_file_that_is_missing_or_wrong_is_reported_in_words(files: Path) -> None:
    write(files, "staging", gitlab={"version": "latest"})
    with pytest.raises(ToolError, match=r"there is no stack file Pulumi.prod.yaml. Use one of: staging"):
        stack_files.read_settings("prod")
    with pytest.raises(ToolError, match=r"Pulumi.staging.yaml cannot be read.*\n  - gitlab.version: latest is not"):
        stack_files.read_settings("staging")


def test_secrets_are_decrypted_by_pulumi_with_the_file_that_is_read(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(files, "staging", projects=[{"path": "hello", "variables": {"A": {"value": {"secure": "v1:x"}}}}])
    answer: dict[str, Any] = {
        "slipway:projects": {"objectValue": [{"path": "hello", "variables": {"A": {"value": "the-secret"}}}]}
    }
    answer |= {f"slipway:{key}": {"value": value, "objectValue": value} for key, value in REQUIRED.items()}
    program = files / "pulumi"
    program.write_text(f"#!/bin/sh\necho \"$@\" >{files}/called\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{files}:{os.environ['PATH']}")
    read = stack_files.read_settings("staging")
    assert read.projects[0].variables["A"].value.get_secret_value() == "the-secret"
    assert f"--stack staging --config-file {files}/Pulumi.staging.yaml" in (files / "called").read_text()


def test_the_command_line_takes_two_stacks(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(files, "staging")
    write(files, "production")
    with pytest.raises(SystemExit) as ended:
        cli.app(["diff", "staging", "production"])
    assert ended.value.code == 0
    assert "everything that is promoted" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.app(["diff", "staging", "nowhere"])
    assert ended.value.code == 2, "not the code of a difference"
    assert capsys.readouterr().err.startswith("error: there is no stack file Pulumi.nowhere.yaml")
