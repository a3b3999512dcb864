"""GitLab itself: its version and where its packages come from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydantic import ConfigDict, Field, SecretStr, field_validator

from components import versions
from components.settings.gitlab_rb import errors_of, used_secrets
from components.settings.limits import Limits
from components.settings.section import ENVIRONMENT, PROMOTED, Contradiction, Section, refuse
from components.settings.shown import shown
from components.settings.strings import SIGNING_KEY_URL, Fingerprint, HttpsUrl, PublicText, SigningKeyUrl

#: Of secrets, as shells and Ruby have them.
_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_VERSION: Final = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})-ce\.\d", re.ASCII)


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
    metrics: bool = Field(
        default=False,
        description="Whether Prometheus and GitLab's exporters run, on the server's loopback address alone. They need "
        "about 300 MB of memory, and so a server with 8 GB.",
        json_schema_extra={**ENVIRONMENT},
    )
    limits: Limits = Field(default=Limits(), description="What GitLab takes of one client at most.")
    extra_configuration: PublicText = Field(
        default="",
        description="Lines of `gitlab.rb` that are appended to the stack's own, for what has no setting. Keys that the "
        "stack owns are refused; what GitLab refuses fails the update, which puts the previous file back.",
        examples=["gitlab_rails['gitlab_default_theme'] = 2"],
        json_schema_extra={**ENVIRONMENT, "unset": "none"},
    )
    extra_secrets: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Secrets for `extraConfiguration` by name: letters, digits and underscores. A line uses one as "
        "`secrets['NAME']`.",
        json_schema_extra={**ENVIRONMENT},
    )

    @field_validator("version")
    @classmethod
    def _is_supported(cls, value: str) -> str:
        found = _VERSION.fullmatch(value)
        if not found:
            message = (
                f"{shown(value)} is not a package version; apt would not find it. Use one such as {versions.GITLAB}"
            )
            raise ValueError(message)
        if tuple(int(part) for part in found.groups()) < versions.GITLAB_OLDEST:
            oldest = ".".join(str(part) for part in versions.GITLAB_OLDEST)
            message = (
                f"{shown(value)} is older than {oldest}; its registry fails on object storage. Use {versions.GITLAB}"
            )
            raise ValueError(message)
        return value

    @field_validator("extra_secrets")
    @classmethod
    def _have_names(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        refuse(
            f"{shown(name)} is not a name; no line could use it. Use letters, digits and underscores, such as "
            "IMAP_PASSWORD"
            for name in value
            if not _NAME.fullmatch(name)
        )
        refuse(
            f"{name} is empty; the service that it is for would reject it. Set it with: pulumi config set --secret "
            f"--path gitlab.extraSecrets.{name} …"
            for name, secret in value.items()
            if not secret.get_secret_value()
        )
        return value

    def contradictions(self) -> Iterator[Contradiction]:
        """Lines that set what is the stack's own, or use secrets that are not there; and secrets that none uses."""
        keys = ("extraConfiguration", "extraSecrets")
        for message in errors_of(self.extra_configuration, frozenset(self.extra_secrets)):
            yield Contradiction(keys, message, "extraConfiguration")
        for name in sorted(self.extra_secrets.keys() - used_secrets(self.extra_configuration)):
            message = (
                "is not used by gitlab.extraConfiguration; it would have no effect. "
                f"Use it there as secrets['{name}'], or remove it"
            )
            yield Contradiction(keys, message, f"extraSecrets.{name}")
