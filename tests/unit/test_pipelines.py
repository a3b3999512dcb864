"""Which pipeline of a project counts as its last one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from gitlab.v4.objects import Project

from tools.clients import CheckError
from tools.pipelines import last_pipeline


def project(*statuses: str) -> Project:
    """A project with pipelines of its default branch, the newest first."""
    found = [SimpleNamespace(id=number, status=status) for number, status in enumerate(statuses)]

    def listed(query_parameters: dict[str, str], **_: Any) -> list[SimpleNamespace]:
        assert query_parameters["ref"] == "main"
        return found[: int(query_parameters["per_page"])]

    pipelines = SimpleNamespace(list=listed, get=lambda number: found[number])
    return cast(
        "Project", SimpleNamespace(default_branch="main", path_with_namespace="root/hello", pipelines=pipelines)
    )


@pytest.mark.parametrize(
    ("statuses", "last"),
    [
        (["success", "failed"], 0),
        (["skipped", "skipped", "failed", "success"], 2),
        # Nothing has ever run: that is reported, and not waited for.
        (["skipped"], 0),
        (["manual", "success"], 0),
    ],
)
def test_a_pipeline_that_was_skipped_is_passed_over(statuses: list[str], last: int) -> None:
    assert last_pipeline(project(*statuses)).id == last


@pytest.mark.parametrize("statuses", [[], ["skipped", "running", "success"]])
def test_a_pipeline_that_runs_is_waited_for(statuses: list[str]) -> None:
    with pytest.raises(CheckError, match="timed out"):
        last_pipeline(project(*statuses), seconds=0)
