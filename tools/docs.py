"""Writes the reference of all settings into `docs/settings.md` and `Pulumi.yaml`, and the links of `template/`.

The source is the settings model: its JSON schema has every key with description, default, unit and example.
`python -m tools.docs` (`make docs`) replaces the text between the markers and leaves everything else alone. With
`--check` it writes nothing, names the files that are out of date, and exits with code 1 if there are any.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.settings import Settings
from components.settings.scopes import IDENTITIES
from tools import project_template

ROOT: Final = Path(__file__).resolve().parents[1]

#: A node of a JSON schema.
Schema = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One key of a stack file, as users read about it. All texts but `key` are Markdown.

    `note` is what is worth knowing about the value in a few words: choices, unit, or that it is secret. `nested` is
    true below a list, and below names that the user chooses. `promoted` says whether `make promote` copies it; it is
    empty for what is only a list of sections.
    """

    key: str
    value: str
    default: str
    description: str
    note: str = ""
    nested: bool = False
    promoted: str = ""


@dataclass(frozen=True)
class TopLevel:
    """One key of the `config` block of `Pulumi.yaml`."""

    key: str
    type: str
    items: str | None
    default: Any
    description: str
    required: bool


class Reference:
    """Every setting of a model, read from its JSON schema."""

    def __init__(self, schema: Schema) -> None:
        """Read `schema`, which has its sections in `$defs`."""
        self._root = schema
        self._sections: dict[str, Schema] = schema["$defs"]

    def settings(self) -> Iterator[Setting]:
        """All settings outside lists, those of sections by their key paths."""
        return self._below(self._root)

    def entry(self, key: str) -> Iterator[Setting]:
        """The settings of one entry of the top-level list `key`."""
        return self._below(self._resolved(self._root["properties"][key]["items"]))

    def top_level(self) -> Iterator[TopLevel]:
        """The keys of the `config` block, each with a default: the program reports missing keys, not the engine."""
        for key, node in self._root["properties"].items():
            found = self._resolved(node)
            items = self._resolved(found["items"])["type"] if found["type"] == "array" else None
            empty = {"array": [], "boolean": False, "object": {}, "string": ""}[found["type"]]
            yield TopLevel(
                key,
                found["type"],
                items,
                empty if found["type"] == "object" else found.get("default", empty),
                self._summary(key, found),
                key in self._root["required"],
            )

    def _summary(self, key: str, node: Schema) -> str:
        section = self._resolved(node["items"]) if node["type"] == "array" else node
        keys = [one for one in self._below(section) if not one.nested] if "properties" in section else []
        parts = [_description(node)]
        if key in self._root["required"]:
            parts.append("Required.")
        if keys:
            listed = ", ".join(f"{one.key} ({one.note})" if one.note else one.key for one in keys)
            parts.append(f"Keys: {listed}.")
        return " ".join(parts).replace("`", "")

    def _below(self, section: Schema, prefix: str = "", condition: str = "", nested: bool = False) -> Iterator[Setting]:
        for key, node in section["properties"].items():
            found = self._resolved(node)
            path = f"{prefix}{key}"
            if "properties" in found:
                optional = f" if `{path}` is set" if found.get("default", {}) is None else condition
                yield from self._below(found, f"{path}.", optional, nested)
                continue
            required = key in section.get("required", [])
            default = f"required{condition}" if required else _default(found)
            scope = str(found.get("scope", section["scope"]))
            promoted = "" if _holds_sections(found) else {"promoted": "yes", "environment": "no"}[scope]
            yield Setting(path, _value(found), default, _description(found), _note(found), nested, promoted)
            if not prefix and section is self._root:
                continue
            inner = self._resolved(found.get("items") or found.get("additionalProperties") or {})
            if "properties" in inner:
                step = "[]" if found["type"] == "array" else ".NAME"
                yield from self._below(inner, f"{path}{step}.", nested=True)

    def _resolved(self, node: Schema) -> Schema:
        """The node with its reference followed and null removed from its types. Its own keys win over its section's."""
        for one in node.get("anyOf", []):
            if one != {"type": "null"}:
                node = {**one, **node}
        if "$ref" in node:
            node = {**self._sections[node["$ref"].rsplit("/", 1)[1]], **node}
        return node


def _holds_sections(node: Schema) -> bool:
    return "$ref" in node.get("items", {}) or "$ref" in (node.get("additionalProperties") or {})


def _value(node: Schema) -> str:
    unit = f" {node['unit']}" if "unit" in node else ""
    if "enum" in node:
        return ", ".join(f"`{choice}`" for choice in node["enum"]) + unit
    if node["type"] == "integer":
        return f"{node['minimum']} to {node['maximum']}{unit}"
    if node["type"] == "array":
        return _values(node["items"])
    if node["type"] == "string":
        return "secret string" if node.get("writeOnly") else "string"
    return {"boolean": "`true`, `false`", "object": _named(node.get("additionalProperties") or {})}[node["type"]]


def _values(items: Schema) -> str:
    if "enum" in items:
        return "list of " + _value(items)
    noun = "numbers" if items.get("type") == "integer" else "strings"
    return f"list of {'sections' if '$ref' in items else noun}"


def _named(entry: Schema) -> str:
    """What a mapping has by names that users choose."""
    if "$ref" in entry:
        return "sections by name"
    return "secret strings by name" if entry.get("writeOnly") else "strings by name"


def _note(node: Schema) -> str:
    if "enum" in node:
        return " | ".join(str(choice) for choice in node["enum"])
    is_secret = node.get("writeOnly") or (node.get("additionalProperties") or {}).get("writeOnly")
    return str(node.get("unit", "secret" if is_secret else ""))


def _default(node: Schema) -> str:
    if "unset" in node:
        return str(node["unset"])
    value = node.get("default")
    if value is None or value in ([], {}):
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _description(node: Schema) -> str:
    examples = [f"`{example}`" for example in node.get("examples", [])]
    return f"{node['description']} Example: {', '.join(examples)}." if examples else str(node["description"])


def replaced(document: str, part: str, content: str) -> str:
    """`document` with `content` between the markers of `part`.

    Raises:
        ValueError: the document has no such markers, or more than one pair.
    """
    markers = rf"(?ms)^(?P<begin>[^\n]*\bgenerated by make docs: {part}\b[^\n]*\n).*?(?P<end>^[^\n]*\bend of {part}\b)"
    text, count = re.subn(markers, lambda found: found["begin"] + content + found["end"], document)
    if count != 1:
        message = f"expected one pair of markers of {part}, found {count}"
        raise ValueError(message)
    return text


def documents() -> dict[Path, str]:
    """Each file with generated parts, and its up-to-date content."""
    reference = Reference(Settings.model_json_schema())
    # Markdown and YAML, not HTML.
    templates = Environment(  # noqa: S701
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    # JSON is YAML, on one line.
    templates.filters["json"] = partial(json.dumps, ensure_ascii=False)
    table, config = templates.get_template("settings.md.j2"), templates.get_template("project-config.yaml.j2")
    manual, project, copied = ROOT / "docs/settings.md", ROOT / "Pulumi.yaml", ROOT / "template/Pulumi.yaml"
    text = manual.read_text(encoding="utf-8")
    text = replaced(text, "settings", table.render(settings=reference.settings()))
    for part in IDENTITIES:
        text = replaced(text, part, table.render(settings=reference.entry(part)))
    declared = config.render(settings=reference.top_level())
    # `pulumi new` writes what it has asked for as texts, which the engine would refuse for a declared list.
    asked = config.render(settings=[one for one in reference.top_level() if not (one.required and one.items)])
    return {
        manual: text,
        project: replaced(project.read_text(encoding="utf-8"), "config", declared),
        copied: replaced(copied.read_text(encoding="utf-8"), "config", asked),
    }


def outdated() -> list[Path]:
    """The files that are out of date."""
    edited = [path for path, text in documents().items() if path.read_text(encoding="utf-8") != text]
    return [*edited, *project_template.outdated(ROOT)]


def main() -> None:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description="Write the reference of all settings.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    if parser.parse_args().check:
        for path in (files := outdated()):
            print(f"{path.relative_to(ROOT)} is out of date; run make docs", file=sys.stderr)
        sys.exit(1 if files else 0)
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
    project_template.write(ROOT)


if __name__ == "__main__":
    main()
