"""Which jobs a pipeline has: `rules`, and the older `only` and `except`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from . import expressions, keywords
from .documents import ConfigurationError, Document, Files, match_paths

SOURCES = {
    "pushes": "push",
    "web": "web",
    "api": "api",
    "schedules": "schedule",
    "triggers": "trigger",
    "pipelines": "pipeline",
    "merge_requests": "merge_request_event",
}
VARIABLE = re.compile(r"\$\$|\$(?:\{(\w+)\}|(\w+))|%(\w+)%")


@dataclass(frozen=True)
class Context:
    """What a pipeline is made for.

    `predefined` are the weakest variables and `settings` (of the project, of whoever starts the pipeline) the
    strongest; those of the file are between. `changes` answers nothing when everything counts as changed.
    """

    ref: str
    tag: bool
    source: str
    files: Files
    changes: Callable[[], list[str] | None]
    predefined: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)
    #: What has changed since a branch, tag or commit; nothing when there is none of that name.
    changes_since: Callable[[str], list[str] | None] = lambda _: None

    def with_variables(self, variables: Mapping[str, str]) -> Context:
        """The same with more variables of the file."""
        return replace(self, written={**self.written, **variables})

    def known(self) -> dict[str, str]:
        """All variables, those inside of others expanded."""
        return expand_all({**self.predefined, **self.written, **self.settings})

    def expand(self, text: str) -> str:
        """A text with its variables."""
        return expand(text, self.known())


def expand(text: str, variables: Mapping[str, str], keep: bool = False) -> str:
    """Put variables into a text; unknown ones become nothing, or stay as they are with `keep`."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[3]
        if name is None:
            return match[0]
        return variables.get(name, match[0] if keep else "")

    return VARIABLE.sub(value, text)


def expand_all(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables with those inside of them; one that is in itself stays as it is written."""
    done: dict[str, str] = {}

    def resolve(name: str, above: frozenset[str]) -> str:
        if name in done:
            return done[name]

        def inner(match: re.Match[str]) -> str:
            other = match[1] or match[2] or match[3]
            if other is None or other in above or other not in variables:
                return match[0]
            return resolve(other, above | {other})

        text = VARIABLE.sub(inner, variables[name])
        if len(above) == 1:
            done[name] = text
        return text

    for name in variables:
        resolve(name, frozenset({name}))
    return done


def choose(rules: list[Document], context: Context, name: str) -> Document | None:
    """The first rule that holds. Raises `ConfigurationError` for one that cannot be decided, with whose rule it is."""
    known = context.known()
    try:
        return next((rule for rule in rules if _holds(rule, context, known)), None)
    except ConfigurationError as error:
        raise ConfigurationError(f"Failed to parse rule for {name}: {error}") from None


def applies(job: Document, context: Context) -> bool:
    """Whether `only` and `except` let a job in; without both it is for branches and tags."""
    only = _policy(job.get("only"), {"refs": ["branches", "tags"]})
    left_out = _policy(job.get("except"), {})
    if not all(_meets(key, value, context) for key, value in only.items()):
        return False
    return not any(_meets(key, value, context) for key, value in left_out.items())


def _holds(rule: Document, context: Context, known: dict[str, str]) -> bool:
    if "if" in rule and not expressions.evaluate(str(rule["if"]), known):
        return False
    if "changes" in rule and not _rule_changed(rule["changes"], context, known):
        return False
    if "exists" in rule:
        patterns = [expand(path, known) for path in keywords.paths("exists", rule["exists"])]
        present = context.files.paths()
        return any(match_paths(pattern, present) for pattern in patterns)
    return True


def _rule_changed(said: object, context: Context, known: dict[str, str]) -> bool:
    patterns = keywords.paths("changes", said)
    if not isinstance(said, dict) or "compare_to" not in said:
        return _changed(patterns, context, known)
    changed = context.changes_since(expand(str(said["compare_to"]), known))
    if changed is None:
        raise ConfigurationError("rules:changes:compare_to is not a valid ref")
    return any(match_paths(expand(pattern, known), changed) for pattern in patterns)


def _changed(patterns: list[str], context: Context, known: dict[str, str]) -> bool:
    changed = context.changes()
    return changed is None or any(match_paths(expand(pattern, known), changed) for pattern in patterns)


def _policy(value: object, default: Document) -> Document:
    if value is None:
        return default
    if isinstance(value, str | list):
        return {"refs": keywords.as_list(value)}
    if not isinstance(value, dict):
        raise ConfigurationError("only config should be an array of strings or regexps, or a hash")
    keywords.check_keys("only", value, {"refs", "variables", "changes", "kubernetes"})
    return {**default, **value} if default else value


def _meets(key: str, value: list[str], context: Context) -> bool:
    if key == "refs":
        return any(_is_ref(str(entry), context) for entry in value)
    if key == "variables":
        known = context.known()
        return any(expressions.evaluate(text, known) for text in value)
    if key == "changes":
        return _changed(list(value), context, context.known())
    return False


def _is_ref(entry: str, context: Context) -> bool:
    name, _, _ = entry.partition("@")
    if name == "branches":
        return not context.tag and context.source != "merge_request_event"
    if name == "tags":
        return context.tag
    if name in SOURCES:
        return context.source == SOURCES[name]
    if context.source == "merge_request_event":
        return False
    expression = expressions.pattern(name)
    if expression is not None:
        return expression.search(context.ref) is not None
    return name == context.ref
