"""Merge requests of the GitLab stand-in, as a user with python-gitlab opens and watches them."""

from __future__ import annotations

from typing import Any

from tests.sandbox_tests.support.gitlab_projects import commit
from tests.sandbox_tests.support.waiting import eventually

#: Two jobs: one of merge requests, one of branches.
BOTH = """
check:
  script: make check
  rules: [{if: $CI_PIPELINE_SOURCE == "merge_request_event"}]
build:
  script: make
  rules: [{if: $CI_COMMIT_BRANCH}]
"""


def open_merge_request(project: Any, files: dict[str, str], branch: str = "feature", **more: Any) -> Any:
    """A merge request of a new branch, once GitLab has looked at it."""
    commit(project, files, branch=branch)
    wanted = {"source_branch": branch, "target_branch": "main", "title": f"Change by {branch}", **more}
    return prepared(project, project.mergerequests.create(wanted))


def prepared(project: Any, request: Any) -> Any:
    """The merge request, once GitLab has looked at it."""

    def found() -> Any:
        known = project.mergerequests.get(request.iid)
        return known if known.prepared_at else None

    return eventually(found)


def pipelines_of(request: Any) -> list[tuple[str, str]]:
    """Source and ref of its pipelines, newest first."""
    return [(found.source, found.ref) for found in request.pipelines.list(get_all=True)]
