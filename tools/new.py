"""Writes the stack file of a new environment: asks for what has no default, and checks all of it first.

Descriptions and defaults come from the settings model, as those of `docs/settings.md` do. A stack file that exists is
overwritten only on request, unless it is still one of the examples that come with the project: those are filled in.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.settings import Settings, read
from tools.docs import Reference, Setting, TopLevel
from tools.environment import ROOT
from tools.progress import ToolError
from tools.stack import stack_file

PROJECT: Final = "slipway"
#: What stands in the examples of this project, and nowhere else: RFC 2606 and RFC 5737 keep them for documentation.
_EXAMPLE: Final = re.compile(r"\bexample\.(com|org|net)\b|\b203\.0\.113\.\d")

#: Asks a person: takes what is asked, and returns the answer.
Ask = Callable[[str], str]


@dataclass(frozen=True)
class _Section:
    """One top-level key as it is written."""

    description: str
    lines: list[str]


def new(stack: str, answers: list[str], *, force: bool, ask: Ask | None, folder: Path = ROOT) -> Path:
    """Write the stack file of a new environment, and return its path.

    Args:
        stack: its name, with the organization before it or without.
        answers: settings as `PATH=VALUE`; entries of lists are separated by commas.
        force: whether a stack file that exists is overwritten.
        ask: how to ask for what has no default; None if nobody is there to answer.
        folder: the checkout.

    Raises:
        ToolError: the file exists, an answer is missing, or the settings are not valid; nothing is written.
    """
    name = stack.rsplit("/", 1)[-1]
    file = folder / stack_file(name).relative_to(ROOT)
    template = file.read_text(encoding="utf-8") if file.exists() and not force else ""
    kept = _values(template)
    if template and not _EXAMPLE.search(json.dumps(kept)):
        raise ToolError(
            f"{file.relative_to(folder)} exists, and is not an example any more. Edit it, choose another name, or add "
            '--force to overwrite it: make new STACK=… ARGS="--force"'
        )
    values = _answered(kept, [_parsed(answer) for answer in answers], ask)
    _check(name, values)
    file.parent.mkdir(exist_ok=True)
    file.write_text(_filled_in(template, kept, values) if template else _rendered(name, values), encoding="utf-8")
    return file


def ask_a_person(question: str) -> str:
    """Ask on standard error, so that standard output stays what the command reports."""
    print(f"{question}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _values(text: str) -> dict[str, Any]:
    config = (yaml.safe_load(text) or {}).get("config", {}) if text else {}
    return {key.removeprefix(f"{PROJECT}:"): value for key, value in config.items()}


def _answered(kept: Mapping[str, Any], given: list[tuple[list[str], str]], ask: Ask | None) -> dict[str, Any]:
    """What the example has, changed by what is given and by the answers to what is open."""
    values: dict[str, Any] = json.loads(json.dumps(kept))
    for path, value in given:
        _put(values, path, value)
    missing = []
    for path, description in _open_questions(values):
        answer = ask(f"{description}\n{'.'.join(path)}") if ask else ""
        if answer:
            _put(values, path, answer)
        else:
            missing.append(".".join(path))
    if missing:
        words = " ".join(f"--set {path}=…" for path in missing)
        raise ToolError(f"{', '.join(missing)}: no value; nothing was written. Add {words}")
    return values


def _open_questions(values: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    """The settings without a default, and those that still have the value of an example."""
    schema = Settings.model_json_schema()
    for setting in Reference(schema).settings():
        path = setting.key.split(".")
        value = _at(values, path)
        is_open = value is None and len(path) == 1 and path[0] in schema["required"]
        if is_open or (value is not None and _EXAMPLE.search(json.dumps(value))):
            yield path, setting.description.replace("`", "")


def _at(values: Mapping[str, Any], path: list[str]) -> Any:
    found: Any = values
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _put(values: dict[str, Any], path: list[str], answer: str) -> None:
    setting = next(
        (one for one in Reference(Settings.model_json_schema()).settings() if one.key == ".".join(path)), None
    )
    for key in path[:-1]:
        values = values.setdefault(key, {})
    values[path[-1]] = _typed(setting, answer)


def _typed(setting: Setting | None, answer: str) -> Any:
    if setting and setting.value == "list of strings":
        return [entry.strip() for entry in answer.split(",") if entry.strip()]
    if setting and setting.value.endswith("string"):
        return answer
    return yaml.safe_load(answer)


def _parsed(answer: str) -> tuple[list[str], str]:
    path, found, value = answer.partition("=")
    if not found or not path:
        raise ToolError(f"{answer!r} is not a setting and its value. Write it as --set server.size=s-4vcpu-8gb")
    return path.split("."), value


def _check(stack: str, values: Mapping[str, Any]) -> None:
    """The checks of the program, but for those that need the account."""
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))["config"]
    defaults = {key: one["default"] for key, one in declared.items() if "default" in one}
    config = {
        f"{PROJECT}:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in {**defaults, **values}.items()
    }
    reading = read(PROJECT, stack, config, [], {"DIGITALOCEAN_TOKEN": "not needed for this"})
    if reading.errors:
        lines = "\n".join(f"  - {error}" for error in reading.errors)
        raise ToolError(f"the settings are not valid; nothing was written.\n{lines}")


def _filled_in(template: str, kept: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """The text of an example with the values of this environment; comments and order stay."""
    for key, value in values.items():
        if kept.get(key) == value:
            continue
        written = f"{_yaml({f'{PROJECT}:{key}': value})}"
        block = rf"(?m)^  {PROJECT}:{key}:.*\n(?:^    .*\n|^  - .*\n)*"
        template, count = re.subn(block, written.replace("\\", r"\\"), template)
        if not count:
            template = template.replace("config:\n", f"config:\n{written}", 1)
    lines = [line for line in template.splitlines(keepends=True) if not line.startswith("# Fill in: ")]
    return "".join(lines)


def _yaml(value: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=1000)
    # Lists are indented below their key, as everywhere in the examples.
    return "".join(f"  {'  ' if line.startswith('- ') else ''}{line}\n" for line in text.splitlines())


def _rendered(stack: str, values: Mapping[str, Any]) -> str:
    reference = Reference(Settings.model_json_schema())
    below = list(reference.settings())
    templates = Environment(  # noqa: S701 - YAML, not HTML
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    sections = [_section(top, below, values) for top in reference.top_level()]
    return templates.get_template("stack-file.yaml.j2").render(stack=stack, sections=sections)


def _section(top: TopLevel, settings: list[Setting], values: Mapping[str, Any]) -> _Section:
    if top.key in values:
        lines = [line.removeprefix("  ") for line in _yaml({f"{PROJECT}:{top.key}": values[top.key]}).splitlines()]
    elif top.type == "object":
        below = [one for one in settings if one.key.startswith(f"{top.key}.") and one.key.count(".") == 1]
        defaults = [f"#   {one.key.split('.')[1]}: {_default(one)}" for one in below]
        lines = [f"# {PROJECT}:{top.key}:", *defaults]
    else:
        lines = [f"# {PROJECT}:{top.key}: {json.dumps(top.default)}"]
    return _Section(top.description, lines)


def _default(setting: Setting) -> str:
    found = re.fullmatch(r"`([^`]*)`", setting.default)
    return found[1] if found else f"…  # by default: {setting.default.replace('`', '')}"
