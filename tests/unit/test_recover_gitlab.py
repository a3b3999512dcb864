"""What `make recover` takes over of a GitLab that is still there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from components.settings import Settings
from tests.unit.engine import REQUIRED
from tools import recover
from tools.clients import Outputs


def test_the_ids_of_groups_and_projects_are_those_of_gitlab_whatever_the_case_of_their_paths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lists = SimpleNamespace(
        groups=[SimpleNamespace(full_path="Team/apps", id=7), SimpleNamespace(full_path="crew", id=8)],
        projects=[
            SimpleNamespace(path_with_namespace="Team/apps/hello", id=12),
            SimpleNamespace(path_with_namespace="root/notes", id=13),
            SimpleNamespace(path_with_namespace="root/other", id=14),
        ],
    )
    client = SimpleNamespace(
        **{name: SimpleNamespace(list=lambda found=found, **_: found) for name, found in vars(lists).items()}
    )
    monkeypatch.setattr(Outputs, "of_stack", lambda _: SimpleNamespace(gitlab=lambda: client))
    groups = [{"path": "team/Apps"}, {"path": "crew", "importId": "8"}, {"path": "gone"}]
    projects = [{"path": "hello", "group": "team/apps"}, {"path": "notes"}, {"path": "other", "importId": "14"}]
    settings = Settings.model_validate({**REQUIRED, "groups": groups, "projects": projects})
    assert recover._in_gitlab("test", settings) == {
        "groups": {"team/Apps": "7"},
        "projects": {"hello": "12", "notes": "13"},
    }
