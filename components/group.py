"""A group in GitLab: its settings and its members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_gitlab as gitlab
from pydantic.alias_generators import to_camel

from components.component import Component
from components.gitlab_connection import GitLabConnection
from components.gitlab_leftovers import before_create, refuse_group
from components.members import Members, MembersArgs
from components.namespaces import group_id
from components.settings import GroupSettings

#: The properties of a group that GitLab has a value for, whether the stack file sets them or not.
_PROPERTIES: Final = tuple(to_camel(name) for name, one in vars(gitlab.GroupArgs).items() if isinstance(one, property))


@dataclass(frozen=True)
class GroupArgs:
    """Inputs of `Group`. `around` are the IDs of the stack's own groups that it may be in, by path in lowercase.

    With `keep_data` the group outlives a destroy. `known_id` is its ID if an earlier update created it and it was
    kept; it is found again by that ID.
    """

    gitlab: GitLabConnection
    settings: GroupSettings
    around: Mapping[str, pulumi.Output[int]]
    mark: str
    keep_data: bool
    known_id: str | None


class Group(Component):
    """A group whose projects belong to the stack, or to whoever works in it.

    Owns the group and the memberships that the settings name. It is deleted only if nothing in it belongs to anybody
    else; see `Groups`. An imported group keeps what the settings do not set, and is never deleted. Refuses to own what
    is in it, and other members.
    """

    group_id: pulumi.Output[int]

    def __init__(self, name: str, args: GroupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the group.

        Raises:
            pulumi.RunError: GitLab has no group around it, or no user who is named; raised when GitLab has answered.
        """
        super().__init__("Group", name, opts)
        self._args = args
        group = self._group()
        self.group_id = group.id.apply(int)
        if args.settings.members:
            members = MembersArgs(
                gitlab=args.gitlab,
                members=args.settings.members,
                place=f"groups[{args.settings.path}].members",
                group_id=self.group_id,
                mark=args.mark,
                owner=self._owner(group),
            )
            Members(self.child_name("members"), members, self.child_options())
        self.register_outputs({"path": group.full_path})

    def _group(self) -> gitlab.Group:
        args, settings = self._args, self._args.settings
        around, _, path = settings.path.rpartition("/")
        parent_id = group_id(self, args.gitlab, around, args.around, f"the group {path}") if around else None
        return gitlab.Group(
            self.child_name("group"),
            name=settings.name or path,
            path=path,
            parent_id=parent_id,
            description=settings.description,
            visibility_level=settings.visibility or (None if settings.imported else "private"),
            opts=self.child_options(
                provider=args.gitlab.provider,
                deleted_with=args.gitlab.server.droplet,
                import_=settings.import_id or args.known_id,
                ignore_changes=self._unmanaged(),
                # A group that existed before the stack stays when the stack is destroyed, and so does kept data.
                retain=settings.imported or args.keep_data,
                hooks=before_create(self, "group", args.gitlab, args.mark, refuse_group),
            ),
        )

    def _unmanaged(self) -> list[str]:
        """Properties that keep their present values: of an imported group, all that the stack file does not set."""
        settings = self._args.settings
        if not settings.imported:
            return []
        asked = {
            "description": settings.description,
            "name": settings.name,
            "visibilityLevel": settings.visibility,
        }
        return sorted(name for name in _PROPERTIES if asked.get(name) is None)

    def _owner(self, group: gitlab.Group) -> pulumi.Resource:
        """What a membership is deleted with: a kept group stays in GitLab when it leaves the stack."""
        is_kept = self._args.settings.imported or self._args.keep_data
        return self._args.gitlab.server.droplet if is_kept else group
