"""Conditions of `rules:if` and `only:variables`, such as `$CI_COMMIT_BRANCH == "main" && $DEPLOY !~ /^no/i`.

As GitLab documents them: `&&` binds more tightly than `||`, an unknown variable is null, and a bare variable is true if
it has a non-empty value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

TOKEN = re.compile(
    r"""\s*(?:(?P<variable>\$[a-zA-Z_]\w*)|(?P<text>"[^"]*"|'[^']*')|(?P<pattern>/(?:\\.|[^/\\])+/[a-z]*)
    |(?P<null>null\b)|(?P<operator>==|!=|=~|!~|&&|\|\||\(|\)))""",
    re.VERBOSE,
)
FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}
Value = str | None


class ExpressionError(ValueError):
    """The text is no condition."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def evaluate(text: str, variables: Mapping[str, str]) -> bool:
    """Whether a condition holds. Raises `ExpressionError` for what is no condition."""
    parser = _Parser(_tokens(text), variables)
    result = parser.disjunction()
    parser.finish()
    return result


def check(text: str) -> None:
    """Refuse what is no condition."""
    evaluate(text, {})


def pattern(text: str) -> re.Pattern[str] | None:
    """A regular expression written as `/text/flags`; nothing when it is none."""
    match = re.match(r"/(.+)/([a-z]*)\Z", text, re.DOTALL)
    if not match:
        return None
    flags = 0
    for letter in match[2]:
        flags |= FLAGS.get(letter, 0)
    try:
        return re.compile(match[1].replace(r"\/", "/").replace(r"\A", "^").replace(r"\z", r"\Z"), flags)
    except re.error:
        return None


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = TOKEN.match(text, at)
        if not match or match.lastgroup is None:
            raise ExpressionError("invalid expression syntax")
        found.append(_Token(match.lastgroup, match[match.lastgroup]))
        at = match.end()
    if not found:
        raise ExpressionError("invalid expression syntax")
    return found


class _Parser:
    """Reads and evaluates at once; both sides of an operator are always read."""

    def __init__(self, tokens: list[_Token], variables: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._variables = variables
        self._at = 0

    def disjunction(self) -> bool:
        result = self._conjunction()
        while self._take("||"):
            right = self._conjunction()
            result = result or right
        return result

    def finish(self) -> None:
        if self._at != len(self._tokens):
            raise ExpressionError("invalid expression syntax")

    def _conjunction(self) -> bool:
        result = self._comparison()
        while self._take("&&"):
            right = self._comparison()
            result = result and right
        return result

    def _comparison(self) -> bool:
        if self._take("("):
            result = self.disjunction()
            if not self._take(")"):
                raise ExpressionError("invalid expression syntax")
            return result
        left = self._value()
        operator = self._take("==", "!=", "=~", "!~")
        if operator in ("==", "!="):
            return (left == self._value()) == (operator == "==")
        if operator:
            return self._matches(left) == (operator == "=~")
        return bool(left)

    def _matches(self, left: Value) -> bool:
        token = self._next()
        text = self._variables.get(token.text[1:], "") if token.kind == "variable" else token.text
        if token.kind not in ("variable", "pattern"):
            raise ExpressionError("invalid expression syntax")
        expression = pattern(text)
        if expression is None:
            if token.kind == "pattern":
                raise ExpressionError("invalid expression syntax")
            return False
        return left is not None and expression.search(left) is not None

    def _value(self) -> Value:
        token = self._next()
        if token.kind == "variable":
            return self._variables.get(token.text[1:])
        if token.kind == "text":
            return token.text[1:-1]
        if token.kind == "null":
            return None
        raise ExpressionError("invalid expression syntax")

    def _next(self) -> _Token:
        if self._at == len(self._tokens):
            raise ExpressionError("invalid expression syntax")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, *texts: str) -> str | None:
        if self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.kind == "operator" and token.text in texts:
                self._at += 1
                return token.text
        return None
