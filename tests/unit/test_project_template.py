"""The folder that `pulumi new` copies: complete, and nothing in it changes on the way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.settings import Settings
from tests.unit.engine import ROOT
from tools import project_template

TEMPLATE = ROOT / "template"


def declared() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((TEMPLATE / "Pulumi.yaml").read_text())
    return content


def test_every_file_of_the_program_is_there() -> None:
    assert project_template.outdated(ROOT) == [], "run make docs"
    links = project_template.links(ROOT)
    assert {TEMPLATE / name for name in ("__main__.py", "components/remote.py", "requirements.txt")} <= set(links)
    assert all(link.resolve().is_file() for link in links)


def test_a_missing_and_a_needless_link_are_found_and_put_right(tmp_path: Path) -> None:
    (tmp_path / "components").mkdir()
    (tmp_path / "components/new.py").touch()
    old = tmp_path / "template/components/old.py"
    old.parent.mkdir(parents=True)
    old.symlink_to("../../components/old.py")
    new = old.with_name("new.py")
    assert project_template.outdated(tmp_path) == [new, old]
    project_template.write(tmp_path)
    assert (new.resolve(), old.is_symlink()) == (tmp_path / "components/new.py", False)
    assert project_template.outdated(tmp_path) == []


def test_nothing_that_pulumi_replaces_is_in_the_program() -> None:
    placeholder = re.compile(r"\$\{(PROJECT|DESCRIPTION)\}")
    found = [link.name for link in project_template.links(ROOT) if placeholder.search(link.read_text())]
    assert found == []
    assert declared()["name"] == "${PROJECT}"


def test_it_asks_for_settings_whose_names_exist_and_for_the_token_as_a_secret() -> None:
    asked = declared()["template"]["config"]
    token = asked.pop("digitalocean:token")
    assert token["secret"] is True
    assert asked.keys() <= {field.alias for field in Settings.model_fields.values()}
    required = {field.alias for field in Settings.model_fields.values() if field.is_required()}
    assert required <= asked.keys()
    assert [key for key in required if "default" in asked[key]] == []


@pytest.mark.parametrize("key", ["runtime", "stackConfigDir"])
def test_it_runs_the_program_as_the_repository_does(key: str) -> None:
    assert declared()[key] == yaml.safe_load((ROOT / "Pulumi.yaml").read_text())[key]


def test_no_type_is_declared_for_a_list_that_is_asked_for() -> None:
    config = declared()["config"]
    assert config["domain"]["type"] == "string"
    # `pulumi new` writes a text, and the engine would refuse it.
    assert [key for key in declared()["template"]["config"] if config.get(key, {}).get("type") == "array"] == []
