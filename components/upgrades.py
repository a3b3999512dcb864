"""Which version of GitLab can follow another one. Imports nothing of Pulumi's: the tools ask it too."""

from __future__ import annotations

import re
from typing import Final

from components.versions import GITLAB_LAST_KNOWN_MAJOR, GITLAB_REQUIRED_STOPS

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)-ce\.(\d+)")


def upgrade_errors(deployed: str, wanted: str) -> list[str]:
    """Return why GitLab cannot go from `deployed` to `wanted`: a downgrade, or an upgrade that skips a stop."""
    now, then = _parts(deployed), _parts(wanted)
    if then < now:
        return [
            f"gitlab.version: {wanted} is older than the running {deployed}, whose database it cannot read. "
            f"Set it to {deployed} or later. To go back, restore a backup from before the upgrade in a new "
            "environment that has this version: make backups, then make restore STACK=new FROM=stack:ID"
        ]
    skipped = [stop for stop in GITLAB_REQUIRED_STOPS if now[:2] < stop < then[:2]]
    if skipped:
        major, minor = skipped[0]
        return [
            f"gitlab.version: {wanted} cannot follow {deployed}; upgrades must stop at {major}.{minor}, "
            f"which migrates data, and fail without it. Set it to the latest {major}.{minor} first"
        ]
    if then[0] > GITLAB_LAST_KNOWN_MAJOR:
        return [
            f"gitlab.version: {wanted} is later than {GITLAB_LAST_KNOWN_MAJOR}, and the required stops on the way to "
            "it are not known; data could be lost. Add its stops to components/versions.py first"
        ]
    return []


def _parts(version: str) -> tuple[int, ...]:
    found = _VERSION.fullmatch(version)
    return tuple(int(part) for part in found.groups()) if found else (0, 0, 0, 0)
