"""Regular expressions for tags of images, which GitLab and the registry evaluate with RE2."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Final

from components.settings.shown import shown

#: Lookarounds, named back references, comments, atomic groups, conditions and possessive repetitions.
_NOT_IN_RE2: Final = re.compile(r"\(\?(<?[=!]|P=|#|>|\()|[*+?}]\+")
#: Back references, and escapes of Python's.
_ESCAPES_NOT_IN_RE2: Final = frozenset("123456789ZuUN")
_ESCAPE: Final = re.compile(r"\\(.)")
_CLASS: Final = re.compile(r"\[\^?\]?[^\]]*\]")
_MOST_REPETITIONS: Final = 1000
#: GitLab stores cleanup policies of up to 255 characters; the rest is for the tags that are kept anyway.
LONGEST_KEPT: Final = 150
#: GitLab and the registry take protected tags of up to 100; the rest is what makes it match as a whole.
LONGEST_PROTECTED: Final = 94


def pattern_errors(value: str, longest: int) -> Iterator[str]:
    """Why GitLab would reject an expression for tags, or would find no tag with it."""
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        yield (
            "is empty, or has characters that no tag of an image has; it would match no tag. "
            "Use letters, digits and what regular expressions consist of"
        )
        return
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(value)
    except (re.error, OverflowError) as error:
        yield f"{shown(value)} is not a regular expression ({shown(error)}); GitLab would reject it. Correct it"
    bare = _CLASS.sub("_", _ESCAPE.sub("_", value))
    repetitions = [int(one) for one in re.findall(r"\d+(?=[,\d]*\})", bare)]
    lacking = _NOT_IN_RE2.search(bare) or not _ESCAPES_NOT_IN_RE2.isdisjoint(_ESCAPE.findall(value))
    if lacking or any(one > _MOST_REPETITIONS for one in repetitions):
        yield (
            f"{shown(value)} looks around or back, or has another construct that GitLab's expressions (RE2) lack; "
            "GitLab would reject it. Use an expression without that"
        )
    if len(value) > longest:
        yield f"has {len(value)} characters; GitLab would reject it. Use at most {longest}"
