"""`.gitlab-ci.yml` as one document: reads YAML, resolves `include`, `!reference` and `extends`.

Only files of the same repository can be included: other projects, templates, components and remote files are refused
with a message of the stand-in's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import yaml

from . import expressions

MAXIMUM_DEPTH = 11
MAXIMUM_INCLUDES = 150
Document = dict[str, Any]


class ConfigurationError(Exception):
    """The file can not be used; in the words of GitLab's linter where it has some."""

    def __init__(self, *messages: str) -> None:
        super().__init__("; ".join(messages))
        self.messages = list(messages)


@dataclass(frozen=True)
class Files:
    """What of a repository is needed to read its configuration."""

    read: Callable[[str], str | None]
    paths: Callable[[], list[str]]


@dataclass(frozen=True)
class _Reference:
    path: tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """YAML with `!reference`."""


def _reference(loader: _Loader, node: yaml.Node) -> _Reference:
    if not isinstance(node, yaml.SequenceNode):
        raise ConfigurationError("!reference is not valid: it is a list of keys")
    return _Reference(tuple(str(key) for key in loader.construct_sequence(node, deep=True)))


_Loader.add_constructor("!reference", _reference)


def load(text: str, files: Files, variables: dict[str, str]) -> Document:
    """The whole document. `variables` are for `include:rules`."""
    document = _parse(text)
    document = _include(document, files, variables, [0])
    for _ in range(MAXIMUM_DEPTH):
        document, changed = _dereference(document, document)
        if not changed:
            break
    return _extend(document)


def merge(base: Document, over: Document) -> Document:
    """Hashes merged in depth; everything else of `over` wins."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def match_paths(pattern: str, paths: list[str]) -> list[str]:
    """Paths that a pattern means. `*` stays within a folder, `**/` is any number of them, `{a,b}` one of several."""
    expression = re.compile(f"{_glob(pattern.removeprefix('/'))}\\Z")
    return [path for path in paths if expression.match(path)]


def _glob(pattern: str) -> str:
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}
    inside, text = False, ""
    for piece in re.findall(r"\*\*/|\*\*|\[[^\]]+\]|\\.|.", pattern, re.DOTALL):
        inside = piece == "{" or (inside and piece != "}")
        if piece in words and (piece != "," or inside):
            text += words[piece]
        elif piece.startswith("[") and len(piece) > 1:
            text += piece.replace("[!", "[^", 1)
        else:
            text += re.escape(piece.removeprefix("\\") or piece)
    return text


def _parse(text: str) -> Document:
    try:
        documents = list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1} column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "could not be read"
        raise ConfigurationError(f"(<unknown>): {problem}{where}") from None
    if len(documents) > 1:
        raise ConfigurationError("spec: this stand-in supports no headers with inputs")
    if not documents or documents[0] is None:
        raise ConfigurationError("Please provide content of .gitlab-ci.yml")
    if not isinstance(documents[0], dict):
        raise ConfigurationError("Invalid configuration format")
    for key in documents[0]:
        if not isinstance(key, str):
            # Unquoted, `no`, `on` and 42 are no texts, and GitLab's jobs are called by a text.
            raise ConfigurationError(f"jobs:{_in_ruby(key)} name should be a symbol")
    return dict(documents[0])


def _in_ruby(key: object) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    return "" if key is None else str(key)


def _include(document: Document, files: Files, variables: dict[str, str], count: list[int]) -> Document:
    entries = document.pop("include", [])
    merged: Document = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        for path in _included(entry, files, variables):
            count[0] += 1
            if count[0] > MAXIMUM_INCLUDES:
                raise ConfigurationError(f"Maximum of {MAXIMUM_INCLUDES} nested includes are allowed!")
            text = files.read(path)
            if text is None:
                raise ConfigurationError(f"Local file `{path}` does not exist!")
            if not text.strip():
                raise ConfigurationError(f"Local file `{path}` is empty!")
            merged = merge(merged, _include(_parse(text), files, variables, count))
    return merge(merged, document)


def _included(entry: Any, files: Files, variables: dict[str, str]) -> list[str]:
    if isinstance(entry, str):
        entry = {"remote" if "://" in entry else "local": entry}
    if not isinstance(entry, dict):
        raise ConfigurationError("include config should be an array of hashes or strings")
    kind = ", ".join(sorted(set(entry) - {"rules", "local"}))
    if "local" not in entry or kind:
        raise ConfigurationError(f"include: this stand-in supports only `local`, not `{kind}`")
    if not _wanted(entry.get("rules"), files, variables):
        return []
    path = re.sub(r"\$\{?(\w+)\}?", lambda match: variables.get(match[1], ""), str(entry["local"])).removeprefix("/")
    if not path.endswith((".yml", ".yaml")):
        raise ConfigurationError(f"Included file `{path}` does not have YAML extension!")
    if "*" in path:
        found = match_paths(path, files.paths())
        if not found:
            raise ConfigurationError(f"Local file `{path}` does not exist!")
        return sorted(found)
    return [path]


def _wanted(rules: Any, files: Files, variables: dict[str, str]) -> bool:
    """Whether the first rule that holds, if there are any, includes the file."""
    if rules is None:
        return True
    for rule in rules if isinstance(rules, list) else [rules]:
        if not isinstance(rule, dict):
            raise ConfigurationError("include:rules:rule config should be a hash")
        unknown = ", ".join(sorted(set(rule) - {"if", "exists", "when"}))
        if unknown:
            raise ConfigurationError(
                f"include:rules: this stand-in supports `if`, `exists` and `when`, not `{unknown}`"
            )
        if "if" in rule and not expressions.evaluate(str(rule["if"]), variables):
            continue
        present, wanted = files.paths() if "exists" in rule else [], rule.get("exists", [])
        if "exists" in rule and not any(match_paths(str(pattern), present) for pattern in wanted):
            continue
        return bool(rule.get("when") != "never")
    return False


def _dereference(value: Any, document: Document) -> tuple[Any, bool]:
    if isinstance(value, _Reference):
        return _look_up(value, document), True
    if isinstance(value, dict):
        pairs = {key: _dereference(item, document) for key, item in value.items()}
        return {key: item for key, (item, _) in pairs.items()}, any(changed for _, changed in pairs.values())
    if isinstance(value, list):
        items = [_dereference(item, document) for item in value]
        return [item for item, _ in items], any(changed for _, changed in items)
    return value, False


def _look_up(reference: _Reference, document: Document) -> Any:
    found: Any = document
    for key in reference.path:
        if not isinstance(found, dict) or key not in found:
            raise ConfigurationError(f"!reference {_quoted(reference.path)} could not be found")
        found = found[key]
    return deepcopy(found)


def _quoted(path: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{key}"' for key in path) + "]"


def _extend(document: Document) -> Document:
    return {key: _extended(document, key, ()) for key in document}


def _extended(document: Document, key: str, above: tuple[str, ...]) -> Any:
    entry = document[key]
    if not isinstance(entry, dict) or "extends" not in entry:
        return entry
    name = (above or (key,))[0]
    if key in above:
        raise ConfigurationError(f"{name}: circular dependency detected in `extends`")
    if len(above) >= MAXIMUM_DEPTH:
        raise ConfigurationError(f"{name}: nesting too deep in `extends`")
    bases = entry["extends"] if isinstance(entry["extends"], list) else [entry["extends"]]
    if not all(isinstance(base, str) for base in bases):
        raise ConfigurationError(f"{key}: invalid base hashes in `extends`")
    unknown = [base for base in bases if base not in document]
    if unknown:
        raise ConfigurationError(f"{key}: unknown keys in `extends` ({', '.join(unknown)})")
    merged: Document = {}
    for base in bases:
        found = _extended(document, base, (*above, key))
        if not isinstance(found, dict):
            raise ConfigurationError(f"{key}: invalid base hashes in `extends` ({base})")
        merged = merge(merged, found)
    own = {name: value for name, value in entry.items() if name != "extends"}
    return merge(merged, own)
