"""Which version of GitLab may follow which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import pulumi

from components.settings import SettingsError
from components.versions import GITLAB_REQUIRED_STOPS

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)-ce\.(\d+)")

#: The output that remembers which version a stack runs.
DEPLOYED_VERSION: Final = "gitlab_version"


def checked(wanted: str) -> pulumi.Output[str]:
    """`wanted`, if it may follow the version that this stack runs; what depends on it waits for the answer.

    The stack's own outputs are read by a function of the engine, not by a `StackReference`: that would be a resource,
    with a copy of all outputs in the state and a drift at every refresh after an update.

    Raises:
        SettingsError: inside the output, and so at preview.
    """
    stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    found = pulumi.runtime.invoke_output("pulumi:pulumi:readStackOutputs", {"name": stack})

    def check(answer: Mapping[str, Any]) -> str:
        deployed = answer["outputs"].get(DEPLOYED_VERSION)
        if deployed is not None:
            check_upgrade(str(deployed), wanted)
        return wanted

    # Other outputs of the stack are secret; the version that was asked for is not.
    return pulumi.Output.unsecret(found.apply(check))


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
