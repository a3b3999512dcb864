"""Which version of GitLab may follow which."""

from __future__ import annotations

import re
from typing import Final

import pulumi

from components.settings import SettingsError
from components.versions import GITLAB_REQUIRED_STOPS

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)-ce\.(\d+)")

#: The output that remembers which version a stack runs.
DEPLOYED_VERSION: Final = "gitlab_version"


def checked(wanted: str, previous: pulumi.StackReference) -> pulumi.Output[str]:
    """`wanted`, if it may follow the version that `previous` runs; what depends on it waits for the answer.

    Raises:
        SettingsError: inside the output, and so at preview.
    """

    def check(deployed: object) -> str:
        if isinstance(deployed, str):
            check_upgrade(deployed, wanted)
        return wanted

    answer: pulumi.Output[str] = previous.get_output(DEPLOYED_VERSION).apply(check)
    return answer


def check_upgrade(deployed: str, wanted: str) -> None:
    """Refuse a step back, and a step over a release at which every upgrade has to stop.

    Raises:
        SettingsError: with what to set instead.
    """
    now, then = _parts(deployed), _parts(wanted)
    if then < now:
        raise SettingsError(
            [
                f"gitlab.version: {wanted} is older than {deployed}, which runs; its database could not be read. "
                f"Take {deployed} or a later one, or restore a backup of the older version"
            ]
        )
    skipped = [stop for stop in GITLAB_REQUIRED_STOPS if now[:2] < stop < then[:2]]
    if skipped:
        major, minor = skipped[0]
        raise SettingsError(
            [
                f"gitlab.version: {wanted} cannot follow {deployed}; an upgrade has to stop at {major}.{minor}, "
                f"where data is migrated, and would fail without. Set it to the newest {major}.{minor} first"
            ]
        )


def _parts(version: str) -> tuple[int, ...]:
    found = _VERSION.fullmatch(version)
    if not found:
        raise SettingsError([f"gitlab.version: {version} is not a package version; upgrades cannot be checked"])
    return tuple(int(part) for part in found.groups())
