"""Values of a stack file in messages: on one line, not too long, and without secrets."""

from __future__ import annotations

import re
from typing import Final

#: Private keys, access tokens of GitLab, DigitalOcean and GitHub, and passwords in URLs, unless they are variables.
SECRET_TEXT: Final = re.compile(
    r"PRIVATE KEY-----|\b(glpat-|gldt-|glrt-|dop_v1_|ghp_)\w{8}|://[^/\s:@'\"]*:[^/\s@$'\"]+@", re.ASCII
)
#: Names that people give to secrets.
SECRET_NAME: Final = re.compile(
    r"PASS(WORD|WD|PHRASE)?(_|$)|PWD|SECRET|TOKEN|CREDENTIAL|KEY(_|$)|(^|_)AUTH(_|$)", re.IGNORECASE
)
_LONGEST: Final = 80


def shown(value: object) -> str:
    """The value for a message; in quotes if it could not be told from the text around it."""
    text = str(value)
    if SECRET_TEXT.search(text):
        return "what looks like a secret"
    short = on_one_line(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
    return short if short and short == short.strip() else f"'{short}'"


def on_one_line(text: str) -> str:
    """The text with line breaks and everything else that is not printable as escapes, as Python and YAML write them."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
