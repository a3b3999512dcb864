"""Secrets in plain text in a stack file.

Pulumi says of each top-level key only whether anything below it is encrypted, so one encrypted entry hides a plain one
beside it (pulumi#6531). Only the stack file itself shows which values are encrypted: there they are `secure:`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from components.settings.errors import secret_paths
from components.settings.stack_file import Settings
from components.settings.strings import SECRET_TEXT

#: Names that people give to secrets.
_SECRET_NAME: Final = re.compile(
    r"PASS(WORD|WD|PHRASE)?(_|$)|PWD|SECRET|TOKEN|CREDENTIAL|KEY(_|$)|(^|_)AUTH(_|$)", re.IGNORECASE
)


def encrypted_config(root: Path, project: str, stack: str) -> Mapping[str, Any]:
    """The settings of `project` as its stack file has them, with encrypted values as `secure:`.

    Empty if there is no such file or it cannot be read: the configuration then comes from elsewhere, such as the option
    `--config-file` or an environment of Pulumi's, and Pulumi has read it.
    """
    folder = _yaml(root / "Pulumi.yaml").get("stackConfigDir") or "."
    config = _yaml(root / str(folder) / f"Pulumi.{stack}.yaml").get("config")
    if not isinstance(config, Mapping):
        return {}
    prefix = f"{project}:"
    return {str(key).removeprefix(prefix): value for key, value in config.items() if str(key).startswith(prefix)}


def plain_secrets(values: Mapping[str, Any], encrypted: Collection[str], file: Mapping[str, Any]) -> list[str]:
    """Errors for all secrets among `values` that are in plain text.

    Args:
        values: all settings, decrypted.
        encrypted: the top-level keys that are encrypted, entirely or in part.
        file: the same settings as `encrypted_config` returns them.
    """
    return [
        f"{place}: is in plain text in the stack file; anyone who can read the file would have it. "
        f"Replace the secret, and set the new one with: pulumi config set --secret --path {shlex.quote(place)} …"
        for path in secret_paths(Settings)
        for place, keys in _places(values, path)
        if (keys[0] not in encrypted or _is_plain(_at(file, keys))) and not _is_no_secret(values, keys)
    ]


#: The keys and list indexes that lead to a value.
_Keys = tuple[str | int, ...]


def _places(values: Any, path: tuple[str, ...], place: str = "", keys: _Keys = ()) -> Iterator[tuple[str, _Keys]]:
    """Where all values at `path` are, through lists and chosen names: in Pulumi's notation, and as keys."""
    if not path:
        if values is not None:
            yield place, keys
    elif isinstance(values, list):
        for number, value in enumerate(values):
            yield from _places(value, path, f"{place}[{number}]", (*keys, number))
    elif isinstance(values, Mapping):
        for name in values if path[0] == "*" else {path[0]} & values.keys():
            yield from _places(values[name], path[1:], f"{place}.{name}".removeprefix("."), (*keys, name))


def _at(values: Any, keys: _Keys) -> Any:
    """What is at a place, or None."""
    for key in keys:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _is_plain(value: Any) -> bool:
    """Whether a value of a stack file is there and not encrypted."""
    return value is not None and not isinstance(value, Mapping)


def _is_no_secret(values: Mapping[str, Any], keys: _Keys) -> bool:
    """Whether it is the value of a variable that job logs may show; its name and content must not say otherwise."""
    section = _at(values, keys[:-1])
    shown = isinstance(section, Mapping) and str(section.get("masked")).lower() == "false"
    return shown and not _SECRET_NAME.search(str(keys[-2])) and not SECRET_TEXT.search(str(section[keys[-1]]))


def _yaml(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, Mapping) else {}
