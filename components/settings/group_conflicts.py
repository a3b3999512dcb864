"""Errors of groups together, and of what is in them, when each of them is valid on its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from components.settings.gitlab_names import ADMINISTRATOR
from components.settings.groups import GroupSettings
from components.settings.members import Member
from components.settings.projects import ProjectSettings
from components.settings.stack_file import Settings
from components.settings.validation import Validity

#: Each includes the ones before it.
_VISIBILITIES: Final = ("private", "internal", "public")
_LEVELS: Final = ("guest", "planner", "reporter", "developer", "maintainer", "owner")


def group_conflicts(settings: Settings, validity: Validity) -> Iterator[str]:
    """Paths that are taken, and what GitLab gives nothing inside of a group: more visibility, or less access."""
    known: dict[str, tuple[str, GroupSettings]] = {}
    imports: dict[str, str] = {}
    for number, group in enumerate(settings.groups):
        place = f"groups[{number}]"
        if not validity.has(f"{place}.path"):
            continue
        first, _ = known.setdefault(group.key, (place, group))
        if first != place:
            yield f"{place}.path: {group.path} is also the path of {first}; one would replace the other. Remove one"
        if group.key.split("/")[0] == ADMINISTRATOR:
            yield (
                f"{place}.path: {ADMINISTRATOR} is the administrator; GitLab would refuse a group of that name. "
                "Choose another path"
            )
        if group.import_id and (other := imports.setdefault(group.import_id, place)) != place:
            yield (
                f"{place}.importId: {group.import_id} is already imported as {other}; both would change the same "
                "group. Remove one of them"
            )
    groups = _Groups({key: group for key, (_, group) in known.items()}, validity)
    for place, group in known.values():
        yield from groups.conflicts_of(place, group, group.key.rpartition("/")[0])
    for number, project in enumerate(settings.projects):
        place = f"projects[{number}]"
        if validity.has(f"{place}.group") and project.group:
            yield from groups.conflicts_of(place, project, project.group.lower())
            path = f"{project.group}/{project.path}"
            if validity.has(f"{place}.path") and path.lower() in known and not project.imported:
                yield (
                    f"{place}.path: {path} is also a group; GitLab would refuse the second one of that path. "
                    "Rename one of them"
                )


class _Groups:
    """The groups of the stack file by their paths in lowercase."""

    def __init__(self, known: dict[str, GroupSettings], validity: Validity) -> None:
        self._known, self._validity = known, validity

    def conflicts_of(self, place: str, one: GroupSettings | ProjectSettings, around: str) -> Iterator[str]:
        """Errors of a group or a project in the group whose path is `around`."""
        parent = self._known.get(around)
        if parent is not None and self._validity.has("groups", f"{place}.visibility"):
            # What an imported one has is not known.
            most = parent.visibility or (None if parent.imported else _VISIBILITIES[0])
            if one.visibility and most and _VISIBILITIES.index(one.visibility) > _VISIBILITIES.index(most):
                yield (
                    f"{place}.visibility: {one.visibility} is not allowed in {parent.path}, which is {most}; GitLab "
                    f"would refuse it. Set it to {most}, or change the visibility of the group"
                )
        if self._validity.has("groups", f"{place}.members"):
            yield from self._less_access(place, one.members, around)

    def _less_access(self, place: str, members: Sequence[Member], around: str) -> Iterator[str]:
        for number, member in enumerate(members):
            for group in self._chain(around):
                above = [one for one in group.members if one.user.lower() == member.user.lower()]
                if above and _LEVELS.index(above[0].access) > _LEVELS.index(member.access):
                    yield (
                        f"{place}.members[{number}].access: {member.user} is {above[0].access} of {group.path}; GitLab "
                        f"gives nobody less inside of a group, and would refuse it. Set it to {above[0].access} or "
                        "more, or remove the member here"
                    )

    def _chain(self, path: str) -> Iterator[GroupSettings]:
        """The groups of the stack file from one outwards."""
        while path:
            if path in self._known:
                yield self._known[path]
            path = path.rpartition("/")[0]
