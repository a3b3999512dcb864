"""GitLab itself: its version and where its packages come from."""

from __future__ import annotations

import re
from typing import Final

from pydantic import ConfigDict, Field, field_validator

from components import versions
from components.settings.section import ENVIRONMENT, PROMOTED, Section
from components.settings.strings import SIGNING_KEY_URL, Fingerprint, HttpsUrl, SigningKeyUrl

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)-ce\.\d+")


class Packages(Section):
    """Where GitLab's packages come from: a mirror has its own URL, and its own key if it signs the packages again."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    url: HttpsUrl = Field(
        default="https://packages.gitlab.com/gitlab/gitlab-ce",
        description="The base URL of the apt repository; another one for a mirror.",
    )
    key_url: SigningKeyUrl = SIGNING_KEY_URL
    key_fingerprint: Fingerprint = versions.GITLAB_PACKAGES_KEY


class GitLab(Section):
    """GitLab itself: the version of its package, as apt names it."""

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    version: str = Field(
        default=versions.GITLAB,
        description=f"The version of the package; {'.'.join(map(str, versions.GITLAB_OLDEST))} or later.",
    )
    packages: Packages = Field(default=Packages(), description="Where the package comes from.")

    @field_validator("version")
    @classmethod
    def _is_supported(cls, value: str) -> str:
        found = _VERSION.fullmatch(value)
        if not found:
            message = f"{value} is not a package version; apt would not find it. Use one such as {versions.GITLAB}"
            raise ValueError(message)
        if tuple(int(part) for part in found.groups()) < versions.GITLAB_OLDEST:
            oldest = ".".join(str(part) for part in versions.GITLAB_OLDEST)
            message = f"{value} is older than {oldest}; its registry fails on object storage. Use {versions.GITLAB}"
            raise ValueError(message)
        return value
