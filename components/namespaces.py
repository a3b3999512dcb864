"""The namespace that a project or a group is in: one of the stack's own groups, or one that GitLab has."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_gitlab as gitlab

from components.gitlab_connection import GitLabConnection
from components.project_checks import require_same_root
from components.settings.gitlab_names import ADMINISTRATOR


def group_id(
    parent: pulumi.Resource, connection: GitLabConnection, path: str, own: Mapping[str, pulumi.Output[int]], what: str
) -> pulumi.Output[int]:
    """The ID of a group by its full path. `own` are the IDs of the stack's groups, by path in lowercase.

    `what` says in an error what cannot be created without the group.

    Raises:
        pulumi.RunError: GitLab has no such group; raised when GitLab has answered.
    """
    if path.lower() in own:
        return own[path.lower()]
    # A search, because a lookup by name ends the program with a traceback if there is no such group.
    found = gitlab.get_groups_output(
        search=connection.once_there(path),
        opts=pulumi.InvokeOptions(parent=parent, provider=connection.provider),
    )
    return found.apply(lambda answer: _id_of(path, answer, what))


def namespace_of_project(
    parent: pulumi.Resource,
    connection: GitLabConnection,
    group: str | None,
    moved_id: str | None,
    own: Mapping[str, pulumi.Output[int]],
) -> pulumi.Output[int | None] | None:
    """The ID of a project's namespace; None for the administrator's. `moved_id` is that of a project that may move.

    Raises:
        pulumi.RunError: GitLab has no such group, or does not move the project there; raised when GitLab has answered.
    """
    namespace: pulumi.Output[int | None] = pulumi.Output.from_input(None)
    if group is not None:
        namespace = group_id(parent, connection, group, own, "the project")
    if moved_id is None:
        return namespace if group is not None else None
    opts = pulumi.InvokeOptions(parent=parent, provider=connection.provider)
    now = gitlab.get_project_output(id=moved_id, opts=opts).path_with_namespace
    checked = now.apply(lambda path: require_same_root(path, group or ADMINISTRATOR))
    return pulumi.Output.all(namespace, checked).apply(lambda both: both[0])


def _id_of(path: str, answer: gitlab.GetGroupsResult, what: str) -> int:
    """The ID of a group among those that a search has found; GitLab ignores the case of paths."""
    for found in answer.groups:
        if found.full_path.lower() == path.lower():
            return found.group_id
    message = (
        f"GitLab has no group {path}; {what} cannot be created in it. "
        "Add it to groups, create it in GitLab first, or use its full path as its URL shows it"
    )
    raise pulumi.RunError(message)
