"""Regular expressions that users give to GitLab, which reads them with RE2, in RE2's words for what is wrong."""

from __future__ import annotations

import re
import warnings

_NOT_IN_RE2 = re.compile(r"(?P<perl>\(\?(?:<?[=!]|P=|#|>|\())|(?P<repeated>[*+?}][*+])")
_ESCAPE = re.compile(r"\\.")
_ESCAPES_NOT_IN_RE2 = re.compile(r"\\[1-9ZuUN]")
_CLASS = re.compile(r"\[\^?\]?[^\]]*\]")
_SIZE = re.compile(r"\{(\d+),?(\d*)\}")
_MOST_REPETITIONS = 1000
#: What Python says, by what RE2 says.
_WORDS = {
    "nothing to repeat": "no argument for repetition operator",
    "multiple repeat": "bad repetition operator",
    "missing ), unterminated subpattern": "missing )",
    "unbalanced parenthesis": "unexpected )",
    "unterminated character set": "missing ]",
    "bad escape (end of pattern)": "trailing \\ at end of regexp",
    "bad character range": "invalid character class range",
    "min repeat greater than max repeat": "invalid repetition size",
}


def problem(pattern: str) -> str | None:
    """What RE2 has against a pattern; None if it accepts it."""
    for escape in _ESCAPE.findall(pattern):
        if _ESCAPES_NOT_IN_RE2.fullmatch(escape):
            return f"invalid escape sequence: {escape}"
    # In a class, and after a backslash, these are characters like others.
    bare = _CLASS.sub("_", _ESCAPE.sub("_", pattern))
    if found := _NOT_IN_RE2.search(bare):
        words = "invalid perl operator" if found.lastgroup == "perl" else "bad repetition operator"
        return f"{words}: {found[0]}"
    for found in _SIZE.finditer(bare):
        if max(int(one) for one in found.groups() if one) > _MOST_REPETITIONS:
            return f"invalid repetition size: {found[0]}"
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(pattern)
    except (re.error, OverflowError) as error:
        said = str(error)
        return next((f"{ours}: {pattern}" for theirs, ours in _WORDS.items() if theirs in said), said)
    return None
