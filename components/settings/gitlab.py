"""GitLab itself: which version, and from where."""

from __future__ import annotations

import re
from typing import Final

from pydantic import field_validator

from components import versions
from components.settings.section import Section
from components.settings.texts import Fingerprint, HttpsUrl

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)-ce\.\d+")


class Packages(Section):
    """Where GitLab's packages come from: another `url` for a mirror, another key for a mirror that signs anew.

    `key_fingerprint` is `unpinned` where the key is trusted because HTTPS delivered it.
    """

    url: HttpsUrl = "https://packages.gitlab.com/gitlab/gitlab-ce"
    key_url: HttpsUrl = "https://packages.gitlab.com/gpgkey/gpg.key"
    key_fingerprint: Fingerprint = versions.GITLAB_PACKAGES_KEY


class GitLab(Section):
    """GitLab itself: the version of its package, as apt names it."""

    version: str = versions.GITLAB
    packages: Packages = Packages()

    @field_validator("version")
    @classmethod
    def _supported(cls, value: str) -> str:
        found = _VERSION.fullmatch(value)
        if not found:
            message = f"{value} is not a package version; apt would not find it. Write it like {versions.GITLAB}"
            raise ValueError(message)
        if tuple(int(part) for part in found.groups()) < versions.GITLAB_OLDEST:
            oldest = ".".join(str(part) for part in versions.GITLAB_OLDEST)
            message = f"{value} is older than {oldest}; its registry fails on object storage. Take {versions.GITLAB}"
            raise ValueError(message)
        return value
