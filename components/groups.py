"""All groups of a stack, each in the one around it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pulumi

from components.component import Component
from components.gitlab_connection import GitLabConnection
from components.gitlab_leftovers import GitLabApi, mark_of
from components.group import Group, GroupArgs
from components.group_checks import require_empty
from components.settings import GroupSettings
from components.site import Site


@dataclass(frozen=True)
class GroupsArgs:
    """Inputs of `Groups`.

    `known_ids` are the IDs, by path in lowercase, of groups that an earlier update created and kept. `removed_ids` are
    those of groups that this update deletes, and `leaving_ids` the IDs of projects that leave them before that.
    """

    site: Site
    gitlab: GitLabConnection
    groups: Sequence[GroupSettings]
    known_ids: Mapping[str, str]
    removed_ids: Mapping[str, str]
    leaving_ids: Collection[str]


class Groups(Component):
    """The groups of the settings.

    Owns their order, and the check that a group which leaves the stack takes nothing of anybody else's with it: GitLab
    deletes a group with everything in it. A group with another path is another group.
    """

    #: By path in lowercase.
    ids: Mapping[str, pulumi.Output[int]]

    def __init__(self, name: str, args: GroupsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the groups.

        Raises:
            pulumi.RunError: a group that is to be deleted has something in it; raised when GitLab has answered.
        """
        super().__init__("Groups", name, opts)
        ids: dict[str, pulumi.Output[int]] = {}
        for settings in sorted(args.groups, key=lambda one: one.key.count("/")):
            group_args = GroupArgs(
                gitlab=args.gitlab,
                settings=settings,
                around=dict(ids),
                mark=mark_of(args.site.prefix),
                keep_data=args.site.keep_data,
                known_id=args.known_ids.get(settings.key),
            )
            ids[settings.key] = Group(self.child_name(settings.key), group_args, self.child_options()).group_id
        self.ids = ids
        # Awaited, so that nothing is deleted before it is known.
        self.register_outputs({"groups": sorted(ids), "removed": self._checked(args)})

    def group_ids(self) -> pulumi.Output[dict[str, str]]:
        """Return the ID of each group by its path."""
        return pulumi.Output.all(**{path: number.apply(str) for path, number in self.ids.items()})

    def _checked(self, args: GroupsArgs) -> pulumi.Output[list[str]] | list[str]:
        """The paths of the groups that this update deletes, once nothing is found in them."""
        if not args.removed_ids:
            return []

        async def checked(given: Sequence[str]) -> list[str]:
            api = GitLabApi(given[0], given[1], args.gitlab.ca_certificate)
            await asyncio.to_thread(require_empty, api, args.removed_ids, args.leaving_ids)
            return sorted(args.removed_ids)

        # The paths are no secret.
        return pulumi.Output.unsecret(pulumi.Output.all(args.gitlab.url, args.gitlab.api_token).apply(checked))
