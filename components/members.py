"""Who may work in a project or a group: users of GitLab, and their access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gitlab as gitlab

from components.component import Component
from components.gitlab_connection import GitLabConnection
from components.gitlab_leftovers import before_create, remove_group_member, remove_member
from components.settings import Member


@dataclass(frozen=True)
class MembersArgs:
    """Inputs of `Members`, of a project or a group.

    `place` is the key path of the members; memberships are deleted with `owner`.
    """

    gitlab: GitLabConnection
    members: Sequence[Member]
    place: str
    mark: str
    owner: pulumi.Resource
    project_id: pulumi.Output[int] | None = None
    group_id: pulumi.Output[int] | None = None


class Members(Component):
    """The direct members of one project or group that the settings name.

    Owns their memberships: one that a person has already becomes the stack's, with the access of the settings, and ends
    when it leaves them. Refuses to own users, who sign in or are created by an administrator, and other members.
    """

    def __init__(self, name: str, args: MembersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare a membership for each user.

        Raises:
            pulumi.RunError: GitLab has no such user; raised when GitLab has answered.
        """
        super().__init__("Members", name, opts)
        memberships = [self._membership(args, number).id for number in range(len(args.members))]
        self.register_outputs({"memberships": memberships})

    def _membership(self, args: MembersArgs, number: int) -> gitlab.ProjectMembership | gitlab.GroupMembership:
        member, user_id = args.members[number], self._user_id(args, number)
        suffix = member.user.lower()
        removal = remove_member if args.group_id is None else remove_group_member
        opts = self.child_options(
            provider=args.gitlab.provider,
            deleted_with=args.owner,
            # GitLab refuses a second membership of the same user.
            delete_before_replace=True,
            hooks=before_create(self, suffix, args.gitlab, args.mark, removal),
        )
        if args.group_id is not None:
            return gitlab.GroupMembership(
                self.child_name(suffix),
                group_id=args.group_id,
                user_id=user_id,
                access_level=member.access,
                # Without it, GitLab ends all memberships in the group's projects as well, whoever has made them.
                skip_subresources_on_destroy=True,
                opts=opts,
            )
        return gitlab.ProjectMembership(
            self.child_name(suffix),
            project=pulumi.Output.from_input(args.project_id).apply(str),
            user_id=user_id,
            access_level=member.access,
            opts=opts,
        )

    def _user_id(self, args: MembersArgs, number: int) -> pulumi.Output[int]:
        user, connection = args.members[number].user, args.gitlab
        # A search, because a lookup by name ends the program with a traceback if there is no such user.
        found = gitlab.get_users_output(
            username=connection.once_there(user),
            opts=pulumi.InvokeOptions(parent=self, provider=connection.provider),
        )
        return found.apply(lambda answer: _id_of(f"{args.place}[{number}].user", user, answer))


def _id_of(place: str, user: str, answer: gitlab.GetUsersResult) -> int:
    """The ID of a user among those that GitLab has found; it ignores the case of names."""
    for found in answer.users:
        if found.username.lower() == user.lower():
            return found.id
    message = (
        f"{place}: GitLab has no user {user}; nobody would become a member. Let the person sign in once, or create the "
        "user in GitLab under Admin > Users; or remove the member"
    )
    raise pulumi.RunError(message)
