"""Whether the repositories of packages have the chosen versions: asked at preview, because apt looks only on machines.

The lists are small, and read from where Pulumi runs. A repository that only the machines can reach is not an error: the
step that installs the package finds out, before it changes anything.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from components import versions
from components.known_resources import KnownResources
from components.package_repository import RELEASES, fetch, index_of, parts_of, versions_in
from components.settings import Packages, Reading, RunnerSettings
from components.state import DeploymentState

_MOST_SUGGESTIONS: Final = 3


@dataclass(frozen=True)
class _Wanted:
    """A package of a version that a repository is to have; `path` is the key path of that version."""

    path: str
    name: str
    version: str
    url: str
    release: str


def missing_versions(reading: Reading, deployed: DeploymentState | None, known: KnownResources) -> Iterator[str]:
    """Errors for versions that are neither installed nor in their repository, as far as it can be reached."""
    roots = reading.settings.certificate.trusted_roots if reading.has("certificate") else None
    for wanted in [*_gitlab(reading, deployed), *_runners(reading, known)]:
        try:
            found = versions_in(fetch(index_of(wanted.url, wanted.release), roots), wanted.name)
        except (OSError, EOFError, zlib.error, UnicodeDecodeError):
            continue
        if wanted.version not in found:
            newest = sorted(found, key=parts_of, reverse=True)[:_MOST_SUGGESTIONS]
            advice = f"Use one that it has, such as {', '.join(newest)}" if newest else "Use another repository"
            yield (
                f"{wanted.path}: {wanted.version} is not in the repository {wanted.url} for {wanted.release}; the "
                f"update would fail when it installs {wanted.name}. {advice}"
            )


def _gitlab(reading: Reading, deployed: DeploymentState | None) -> Iterator[_Wanted]:
    gitlab = reading.settings.gitlab
    if not reading.has("gitlab", "server.image") or (deployed and deployed.gitlab_version == gitlab.version):
        return
    if gitlab.version == versions.GITLAB and gitlab.packages == Packages():
        # It is known to be there.
        return
    distribution, release = RELEASES[reading.settings.server.image]
    url = f"{gitlab.packages.url}/{distribution}/{release}"
    yield _Wanted("gitlab.version", "gitlab-ce", gitlab.version, url, release)


def _runners(reading: Reading, known: KnownResources) -> Iterator[_Wanted]:
    official = RunnerSettings().packages_url
    for place, runner in enumerate(reading.settings.runners):
        path = f"runners[{place}]"
        is_known = runner.version == versions.GITLAB_RUNNER and runner.packages_url == official
        if is_known or not reading.has(*(f"{path}.{key}" for key in ("image", "name", "packagesUrl", "version"))):
            continue
        step = known.named(f"delivery-{runner.name}-1-preparation")
        if f"\nRUNNER_VERSION={runner.version}\n" in str(step.get("stdin")):
            continue
        distribution, release = RELEASES[runner.image]
        url = f"{runner.packages_url}/{distribution}"
        yield _Wanted(f"{path}.version", "gitlab-runner", runner.version, url, release)
