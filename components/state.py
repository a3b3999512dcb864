"""What a stack runs until now, and which settings may follow."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

import pulumi

from components.settings import DnsZone, Settings, SettingsError, Storage
from components.versions import GITLAB_LAST_KNOWN_MAJOR, GITLAB_REQUIRED_STOPS

_READ_AGAIN_SECONDS: Final = 5
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)-ce\.(\d+)")


@dataclass(frozen=True)
class Deployment:
    """The settings of the last update that came to its end, as far as later ones depend on them.

    `kept` tells whether volume, bucket and domain are protected; `has_bucket` and `has_domain` whether the stack made
    them. `projects` are the numbers of its projects by their paths, `adopted` those that were there before it.
    """

    gitlab_version: str
    region: str
    domain: str
    has_domain: bool
    has_bucket: bool
    spaces_region: str
    kept: bool
    projects: Mapping[str, str] = field(default_factory=dict)
    adopted: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Self | None:
        """What this very stack remembers; None before the first update has come to its end.

        The stack's outputs are read by a function of the engine and not by a `StackReference`: that would be a
        resource, with a copy of all outputs in the state and a drift at every refresh after an update.
        """
        stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
        found: Mapping[str, Any] | None = _outputs_of(stack).get("deployed")
        return cls(**found) if found else None

    @classmethod
    def next(cls, settings: Settings, previous: Self | None) -> Self:
        """What follows `previous` with `settings`: what is protected stays in the graph, wanted or not.

        Raises:
            SettingsError: with every reason why it cannot follow, before anything is registered.
        """
        if previous:
            previous._check(settings)
        protected = previous if previous and previous.kept else None
        return cls(
            gitlab_version=settings.gitlab.version,
            region=settings.region,
            domain=settings.domain,
            has_domain=settings.dns.zone is DnsZone.CREATE or (protected is not None and protected.has_domain),
            has_bucket=settings.registry.storage is Storage.SPACES or (protected is not None and protected.has_bucket),
            spaces_region=protected.spaces_region if protected and protected.has_bucket else settings.spaces_region,
            kept=settings.keep_data,
            projects=protected.projects if protected else {},
            adopted={project.path: project.import_id for project in settings.projects if project.import_id},
        )

    def remember(self, gitlab_version: str, projects: Mapping[str, str]) -> dict[str, Any]:
        """For `pulumi.export`, once it is known which GitLab is installed, and what it calls its projects."""
        return asdict(replace(self, gitlab_version=gitlab_version, projects=dict(projects)))

    def _check(self, settings: Settings) -> None:
        mistakes = upgrade_mistakes(self.gitlab_version, settings.gitlab.version)
        for number, project in enumerate(settings.projects):
            adopted = self.adopted.get(project.path, project.import_id)
            if project.import_id != adopted:
                mistakes.append(
                    f"projects[{number}].importId: {project.path} was adopted as {adopted}; without that number its "
                    "pipeline and settings would be written over, and it would be removed with the stack. "
                    f'Put importId: "{adopted}" back, or take the project out for one update first'
                )
        if self.kept:
            mistakes += self._moved("region", self.region, settings.region, "the volume and all that GitLab keeps")
            if self.has_domain:
                mistakes += self._moved("domain", self.domain, settings.domain, "the domain")
            if self.has_bucket and settings.registry.storage is Storage.SPACES:
                now = settings.spaces_region
                mistakes += self._moved("registry.spacesRegion", self.spaces_region, now, "the bucket with all images")
        if mistakes:
            raise SettingsError(mistakes)

    @staticmethod
    def _moved(path: str, now: str, wanted: str, what: str) -> list[str]:
        if now == wanted:
            return []
        return [
            f"{path}: {wanted} cannot follow {now}; {what} would have to be made anew, and is protected. Set it back "
            f"to {now}; or, if the data may be lost, bring removal: everything up first"
        ]


def _outputs_of(stack: str) -> Mapping[str, Any]:
    deadline = time.monotonic() + _READ_AGAIN_SECONDS
    while True:
        try:
            return dict(pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", {"name": stack}).value["outputs"])
        except Exception as error:
            # An engine whose state is a file writes it as an update begins, and may not be done with it.
            if "failed to load checkpoint: EOF" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def upgrade_mistakes(deployed: str, wanted: str) -> list[str]:
    """What speaks against `wanted` after `deployed`: a step back, or over a release where every upgrade has to stop."""
    now, then = _parts(deployed), _parts(wanted)
    if then < now:
        return [
            f"gitlab.version: {wanted} is older than {deployed}, which runs; its database could not be read. "
            f"Take {deployed} or a later one, or restore a backup of the older version"
        ]
    skipped = [stop for stop in GITLAB_REQUIRED_STOPS if now[:2] < stop < then[:2]]
    if skipped:
        major, minor = skipped[0]
        return [
            f"gitlab.version: {wanted} cannot follow {deployed}; an upgrade has to stop at {major}.{minor}, "
            f"where data is migrated, and would fail without. Set it to the newest {major}.{minor} first"
        ]
    if then[0] > GITLAB_LAST_KNOWN_MAJOR:
        return [
            f"gitlab.version: {wanted} is beyond {GITLAB_LAST_KNOWN_MAJOR}, and where upgrades to it have to stop is "
            "not known here; data could be lost. Add its stops to components/versions.py first"
        ]
    return []


def _parts(version: str) -> tuple[int, ...]:
    found = _VERSION.fullmatch(version)
    return tuple(int(part) for part in found.groups()) if found else (0, 0, 0, 0)
