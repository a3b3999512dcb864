"""Stack files as tools read and change them: complete, with their defaults and their secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from components.settings import Settings
from components.settings.validation import validate
from tools.clients import CheckError, run, try_run
from tools.environment import ROOT
from tools.progress import ToolError
from tools.stack import stack_file

_PREFIX: Final = "slipway:"


def read_settings(stack: str, file: Path | None = None) -> Settings:
    """The settings of a stack, from its stack file or from another `file`.

    Secrets are decrypted, if there are any: that takes the stack and its passphrase or key.

    Raises:
        ToolError: there is no such file, it has errors, or its secrets cannot be decrypted.
    """
    path = file or stack_file(stack)
    values = {key.removeprefix(_PREFIX): value for key, value in read_config(path).items() if key.startswith(_PREFIX)}
    if _is_encrypted(values):
        values = _decrypted(stack, path)
    found = validate(values)
    if found.errors:
        lines = "\n".join(f"  - {line}" for line in found.errors)
        message = f"{path.name} cannot be read; nothing was changed. Correct it first:\n{lines}"
        raise ToolError(message)
    return found.settings


def change(stack: str, values: Mapping[str, Any], secrets: Mapping[str, str], removed: list[str]) -> None:
    """Change settings in a stack file, by their paths. Comments and everything else in the file are left untouched.

    Raises:
        ToolError: Pulumi cannot change them.
    """
    for path in removed:
        _pulumi("config", "rm", "--stack", stack, "--path", _PREFIX + path)
    plain = [word for path, value in values.items() for word in ("--plaintext", f"{_PREFIX}{path}={_text(value)}")]
    # Pulumi stores such a string as a number or a Boolean unless it is given the type.
    typed = {path: value for path, value in values.items() if isinstance(value, str) and _looks_typed(value)}
    if plain:
        _pulumi("config", "set-all", "--stack", stack, "--path", *plain)
    for path, value in typed.items():
        _pulumi("config", "set", "--stack", stack, "--path", "--type", "string", _PREFIX + path, "--", value)
    for path, value in secrets.items():
        _pulumi("config", "set", "--stack", stack, "--path", "--secret", "--raw", _PREFIX + path, stdin=value)


def read_config(path: Path) -> Mapping[str, Any]:
    """What is below `config` in a stack file; secrets stay encrypted.

    Raises:
        ToolError: there is no such file, or it cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        folder = path.parent
        known = sorted(one.name.split(".")[1] for one in folder.glob("Pulumi.*.yaml")) if folder.is_dir() else []
        raise ToolError(f"there is no stack file {path.name}. Use one of: {', '.join(known)}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ToolError(f"{path.name} cannot be read: {error}") from error
    config = content.get("config") if isinstance(content, Mapping) else None
    return config if isinstance(config, Mapping) else {}


def _is_encrypted(value: Any) -> bool:
    if isinstance(value, Mapping):
        return set(value) == {"secure"} or any(_is_encrypted(one) for one in value.values())
    return isinstance(value, list) and any(_is_encrypted(one) for one in value)


def _decrypted(stack: str, path: Path) -> dict[str, Any]:
    words = ("config", "--json", "--show-secrets", "--stack", stack, "--config-file", str(path))
    try:
        found = json.loads(run("pulumi", *words, "--non-interactive"))
    except CheckError as error:
        message = f"the secrets of stack {stack} cannot be decrypted ({error}): set the passphrase or key of that stack"
        raise ToolError(message) from error
    return {
        key.removeprefix(_PREFIX): one.get("objectValue", one.get("value"))
        for key, one in found.items()
        if key.startswith(_PREFIX)
    }


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _looks_typed(value: str) -> bool:
    return not isinstance(yaml.safe_load(value), str) if len(value) < 40 and "\n" not in value else False  # noqa: PLR2004


def _pulumi(*words: str, stdin: str = "") -> None:
    done = try_run("pulumi", *words, "--non-interactive", stdin=stdin, cwd=ROOT)
    if done.returncode != 0:
        raise ToolError(f"pulumi {words[0]} {words[1]} failed: {(done.stderr or done.stdout).strip()}")
