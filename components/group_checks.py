"""What a group that leaves the stack would take with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import pulumi

from components.gitlab_leftovers import GitLabApi, NotFoundError

_MOST_SHOWN: Final = 5


def require_empty(api: GitLabApi, removed: Mapping[str, str], leaving: Collection[str]) -> None:
    """Raise an error if groups that an update deletes have projects or groups in them that it does not delete.

    Args:
        api: for reads alone.
        removed: the IDs of the groups by their paths.
        leaving: the IDs of projects that the update deletes, or moves to another group, before it deletes a group.

    Raises:
        pulumi.RunError: there is something in them, or GitLab does not respond.
    """
    problems = []
    for path, number in removed.items():
        try:
            inside = list(_inside(api, number, removed, leaving))
        except NotFoundError:
            continue
        except RuntimeError as error:
            message = f"GitLab does not say what is in the group {path}, which leaves the stack: {error}"
            raise pulumi.RunError(message) from error
        if inside:
            more = f" and {len(inside) - _MOST_SHOWN} more" if len(inside) > _MOST_SHOWN else ""
            problems.append(
                f"groups: {path} leaves the stack, and GitLab would delete it with everything in it: "
                f"{', '.join(inside[:_MOST_SHOWN])}{more}, which the stack does not own. Move or delete what is in it "
                f'in GitLab; or keep the group: add it again, for one update with importId: "{number}", after which it '
                "stays in GitLab when it leaves the stack"
            )
    if problems:
        raise pulumi.RunError("\n".join(problems))


def _inside(api: GitLabApi, number: str, removed: Mapping[str, str], leaving: Collection[str]) -> Iterator[str]:
    """What is in a group at any depth, without what waits for its deletion or is about to leave."""
    # Not those of other groups that are shared with this one.
    for project in api.every(f"/groups/{number}/projects?include_subgroups=true&with_shared=false"):
        if str(project["id"]) not in leaving and not _is_marked(project):
            yield f"project {project['path_with_namespace']}"
    for group in api.every(f"/groups/{number}/descendant_groups"):
        if str(group["id"]) not in removed.values() and not _is_marked(group):
            yield f"group {group['full_path']}"


def _is_marked(one: Mapping[str, Any]) -> bool:
    return bool(one.get("marked_for_deletion_on"))
