"""Kinds of strings in a stack file, each with the error message for a value that is not of its kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from components import versions
from components.settings.section import ENVIRONMENT

#: A host name or an IPv6 address.
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?|[0-9a-f:]+:[0-9a-f:.]*")


#: Private keys, access tokens of GitLab, DigitalOcean and GitHub, and passwords in URLs, unless they are variables.
SECRET_TEXT: Final = re.compile(
    r"PRIVATE KEY-----|\b(glpat-|gldt-|glrt-|dop_v1_|ghp_)\w{8}|://[^/\s:@'\"]*:[^/\s@$'\"]+@", re.ASCII
)


def _https(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme == "https" and _HOST.fullmatch(parts.hostname or "") and parts.port != 0
    except ValueError:
        parts, valid = urlsplit(""), False
    if "@" in parts.netloc:
        message = (
            "has a user name or a password; it would be in plain text on machines and in committed files. "
            "Give the URL without them, of a server that needs none"
        )
        raise ValueError(message)
    if not valid or re.search(r"[^\x21-\x7e]|['\"\\`$<>{}?#]", value):
        message = "is not an https:// URL; it would be rejected or not trusted. Give the whole URL, with https://"
        raise ValueError(message)
    return value.rstrip("/")


def matching(pattern: str, message: str) -> Callable[[str], str]:
    """A validator that raises `message` unless the whole string matches `pattern`."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.DOTALL | re.ASCII):
            raise ValueError(message)
        return value

    return check


def _without_secret(value: str) -> str:
    if SECRET_TEXT.search(value):
        message = (
            "contains what looks like a secret; it would be in plain text in the stack file, the state and GitLab. "
            "Replace the secret, and keep the new one in a variable of the project"
        )
        raise ValueError(message)
    return value


#: A text that everybody may see.
PublicText = Annotated[str, AfterValidator(_without_secret)]
HttpsUrl = Annotated[str, AfterValidator(_https)]
Endpoint = Annotated[
    HttpsUrl,
    AfterValidator(
        matching(
            r"https://[^/]+",
            "has a path; the bucket's name would be appended to it. Give only the scheme, host and port",
        )
    ),
]
Mirror = Annotated[
    HttpsUrl,
    AfterValidator(
        matching(
            r"https://[^/]+",
            "has a path; Docker would reject it or read it differently from Buildah. "
            "Give only the scheme, host and port",
        )
    ),
]
Certificates = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?!.*PRIVATE KEY-----).*",
            "contains a private key, which would be in plain text in the stack file and the state; anyone who can read "
            "them would have it. Replace the key, and leave only certificates here",
        )
    ),
    AfterValidator(
        matching(
            r"\s*-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\s*",
            "is not a certificate in PEM format; nginx would not start. "
            "Paste the text, including the line -----BEGIN CERTIFICATE-----",
        )
    ),
]
EmailAddress = Annotated[
    str,
    AfterValidator(
        matching(
            r"[^@\s']+@[^@\s']+",
            "is not an e-mail address; Let's Encrypt would reject it. Use one such as ops@example.com",
        )
    ),
]
Fingerprint = Annotated[
    str,
    AfterValidator(
        matching(
            r"[0-9A-F]{40}|unpinned",
            "is not a fingerprint; no key would match it. "
            "Give 40 hexadecimal digits in upper case without spaces, or unpinned",
        )
    ),
    Field(
        description="The fingerprint of that key, in 40 hexadecimal digits; or `unpinned`, which trusts whatever key "
        "HTTPS delivers.",
        json_schema_extra={**ENVIRONMENT},
    ),
]
#: One key signs the packages of GitLab and of its runner.
SIGNING_KEY_URL: Final = "https://packages.gitlab.com/gpgkey/gpg.key"
SigningKeyUrl = Annotated[
    HttpsUrl,
    Field(description="The URL of the key that signs the repository.", json_schema_extra={**ENVIRONMENT}),
]
ImageSlug = Annotated[
    str,
    AfterValidator(
        matching(
            r"ubuntu-24-04-x64|debian-1[23]-x64",
            "is not an image that GitLab has packages for; GitLab could not be installed. "
            "Use ubuntu-24-04-x64, debian-12-x64 or debian-13-x64",
        )
    ),
]
SizeSlug = Annotated[
    str,
    AfterValidator(
        matching(
            r"[a-z0-9]+-[a-z0-9.-]+",
            "is not a size; no droplet could be created. Use one such as s-4vcpu-8gb",
        )
    ),
]
Region = Annotated[
    str,
    AfterValidator(
        matching(r"[a-z]{3}\d", "is not a region; nothing can be created there. Use one such as nyc3 or fra1")
    ),
]
BucketName = Annotated[
    str,
    AfterValidator(
        matching(
            r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
            "is not a bucket name; no bucket could be found. Use 3 to 63 lowercase letters, digits, dots and dashes",
        )
    ),
]
PackageVersion = Annotated[
    str,
    AfterValidator(
        matching(
            r"\d+\.\d+\.\d+-\d+",
            f"is not a package version; apt would not find it. Use one such as {versions.GITLAB_RUNNER}",
        )
    ),
]
#: GitLab separates tags by commas, and removes spaces around them.
Tag = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?=\S)[^,\x00-\x1f]{1,255}(?<=\S)",
            "is not the tag of a runner; GitLab would change it or reject it, and its jobs would wait forever. "
            "Use a word such as arm64",
        )
    ),
]
KeyText = Annotated[
    str,
    AfterValidator(
        matching(
            r"[^\s'\"\\]+",
            "is empty or contains spaces, quotes or backslashes; no object store uses such values. Copy it again",
        )
    ),
]
Name = Annotated[
    str,
    AfterValidator(
        matching(
            r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?",
            "is not a valid name; GitLab and DigitalOcean would reject it. Use at most 40 lowercase letters, digits "
            "and dashes, starting with a letter and not ending with a dash",
        )
    ),
]
