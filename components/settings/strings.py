"""Kinds of strings in a stack file, each with the error message for a value that is not of its kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from components import versions
from components.settings.section import ENVIRONMENT
from components.settings.shown import SECRET_TEXT

#: What no YAML document may contain, besides what ends lines (YAML 1.2, 5.1), and what PostgreSQL rejects.
_CONTROL: Final = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufffe\\uffff]")
#: Linux, HOST_NAME_MAX.
LONGEST_HOST_NAME: Final = 64
#: A host name or an IPv6 address.
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?|[0-9a-f:]+:[0-9a-f:.]*")


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


def _without_control_characters(value: str) -> str:
    if found := _CONTROL.search(value):
        message = (
            f"contains the control character {found[0]!a}; YAML and GitLab's database refuse it. "
            "Remove it, or write it as an escape of the program that reads the text"
        )
        raise ValueError(message)
    return value


#: A text that everybody may see, of one line or several.
PublicText = Annotated[str, AfterValidator(_without_control_characters), AfterValidator(_without_secret)]
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


def email_address(consequence: str) -> Callable[[str], str]:
    """A validator of e-mail addresses; `consequence` says what would happen with anything else."""
    return matching(
        r"[^@\s'\"<>(),;:\\]+@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,63}",
        f"is not an e-mail address; {consequence}. Use one such as ops@example.com",
    )


EmailAddress = Annotated[str, AfterValidator(email_address("Let's Encrypt and mail servers would reject it"))]
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
SnapshotName = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9._:@+-]{0,253}[A-Za-z0-9])?",
            "is not the name of a snapshot; none would be found. Give its name, as `make image` prints it, not its ID",
        )
    ),
]
Snapshot = Annotated[
    SnapshotName | None,
    Field(
        description="The name of a snapshot that a new machine starts from, with its packages installed: `make image` "
        "makes it. It has the distribution of `image`. A machine that exists stays what it is.",
        examples=["golden-server-20261128-0930"],
        json_schema_extra={**ENVIRONMENT, "unset": "the public image"},
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
            r"(?!.*(\.\.|\.-|-\.))(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
            "is not a bucket name; no bucket could be found. Use 3 to 63 lowercase letters, digits, dashes and single "
            "dots, not in the form of an IP address",
        )
    ),
]
PackageVersion = Annotated[
    str,
    AfterValidator(
        matching(
            r"(1[7-9]|[2-9]\d)\.\d{1,2}\.\d{1,2}-\d",
            "is not the version of a package from 17.0 on; apt would not find it, or it could not register. "
            f"Use one such as {versions.GITLAB_RUNNER}",
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
#: What an access key, its secret and a region consist of.
KEY_TEXT: Final = matching(
    r"(?!.*['\"\\])[\x21-\x7e]{1,512}",
    "is empty, or contains spaces, quotes, backslashes or other characters that no object store uses; it would be "
    "rejected. Copy it again",
)
KeyText = Annotated[str, AfterValidator(KEY_TEXT)]
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
