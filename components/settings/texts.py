"""Kinds of text that a stack file holds, each with what is said of one that is not of its kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator


def _https(value: str) -> str:
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or re.search(r"[\s'\"?#]", value):
        message = "is not an https:// URL; GitLab would refuse or distrust it. Give the whole address, scheme first"
        raise ValueError(message)
    return value.rstrip("/")


def matching(pattern: str, complaint: str) -> Callable[[str], str]:
    """A validator that asks for the whole of a text to match, and else says `complaint`."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.DOTALL):
            raise ValueError(complaint)
        return value

    return check


HttpsUrl = Annotated[str, AfterValidator(_https)]
Endpoint = Annotated[
    HttpsUrl,
    AfterValidator(
        matching(
            r"https://[^/]+", "has a path; the bucket's name would be added to it. Give scheme, host and port only"
        )
    ),
]
Certificates = Annotated[
    str,
    AfterValidator(
        matching(
            r"\s*-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\s*",
            "is no certificate in PEM form; nginx would not start. Paste the text from -----BEGIN CERTIFICATE----- on",
        )
    ),
]
EmailAddress = Annotated[
    str,
    AfterValidator(
        matching(
            r"[^@\s']+@[^@\s']+",
            "is not an e-mail address; Let's Encrypt would refuse it. Write it like ops@example.com",
        )
    ),
]
Fingerprint = Annotated[
    str,
    AfterValidator(
        matching(
            r"[0-9A-F]{40}|unpinned",
            "is not a fingerprint; no key would match. Give 40 digits of 0 to 9 and A to F without spaces, or unpinned",
        )
    ),
]
Region = Annotated[
    str,
    AfterValidator(matching(r"[a-z]{3}\d", "is not a region; nothing could be made there. Take one like nyc3 or fra1")),
]
BucketName = Annotated[
    str,
    AfterValidator(
        matching(
            r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
            "is not the name of a bucket; it could not be found. Take 3 to 63 small letters, digits, dots and dashes",
        )
    ),
]
KeyText = Annotated[
    str,
    AfterValidator(
        matching(r"[^\s'\"\\]+", "is empty or has spaces or quotes; no store gives such keys. Copy it again")
    ),
]
