"""What GitLab says of a project that the settings cannot know, and that an update would fail over, or silently lose."""

from __future__ import annotations

from typing import Final

import pulumi

PIPELINE_FILE: Final = ".gitlab-ci.yml"


def require_pipeline(path: str, archived: bool | None, registry: str | None, file: str | None) -> None:
    """Raise an error if a project that existed before the stack is set up so that its pipeline could not succeed."""
    problem = None
    if archived:
        problem = "is archived; GitLab would reject the commit. Unarchive it in GitLab"
    elif registry == "disabled":
        problem = "has no container registry; its images could not be pushed. Turn the registry on in GitLab"
    elif file not in (None, "", PIPELINE_FILE):
        problem = f"has its pipeline in {file}; GitLab would ignore the stack's. Clear that setting in GitLab"
    if problem:
        message = f"Project {path} {problem}, or set pipeline to false"
        raise pulumi.RunError(message)


def require_same_root(now: str, namespace: str) -> None:
    """Raise an error if a project would move to another top-level namespace, where its images could not follow."""
    old, new = now.partition("/")[0], namespace.partition("/")[0]
    if old.lower() != new.lower():
        message = (
            f"Project {now} cannot move to {namespace}; GitLab moves a project with images only within its top-level "
            f"namespace, which is {old}. Set its group back; or delete its images, transfer it in GitLab under "
            "Settings > General > Advanced, and run pulumi refresh before the next update"
        )
        raise pulumi.RunError(message)
