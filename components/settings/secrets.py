"""Secrets in plain text in a stack file.

Pulumi says of each top-level key only whether anything below it is encrypted, so one encrypted entry hides a plain one
beside it (pulumi#6531). Only the stack file itself shows which values are encrypted: there they are `secure:`.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from components.settings.errors import pulumi_path, secret_paths
from components.settings.shown import SECRET_NAME, SECRET_TEXT, shown
from components.settings.stack_file import Settings

_MASK: Final = "[secret]"
#: Shorter texts are parts of words.
_SHORTEST_SECRET: Final = 4


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


def plain_secrets(
    values: Mapping[str, Any], encrypted: Collection[str], file: Mapping[str, Any], where: str = "the stack file"
) -> list[str]:
    """Errors for all secrets among `values` that are in plain text.

    Args:
        values: all settings, decrypted.
        encrypted: the top-level keys that are encrypted, entirely or in part.
        file: the same settings as `encrypted_config` returns them.
        where: what they were read from, for the messages.
    """
    return [
        f"{pulumi_path(keys)}: is in plain text in {where}; anyone who can read the file would have it. Replace "
        "the secret, and set the new one with: pulumi config set --secret --path "
        f"{shlex.quote(pulumi_path(keys))} …"
        for path in secret_paths(Settings)
        for keys in _places(values, path)
        if (keys[0] not in encrypted or _is_plain(_at(file, keys))) and not _is_no_secret(values, keys)
    ]


def hidden_lines(file: Mapping[str, Any]) -> Iterator[str]:
    """An error if the lines of `gitlab.rb`, which previews show and the state has in plain text, are encrypted."""
    section = file.get("gitlab")
    lines = section.get("extraConfiguration") if isinstance(section, Mapping) else None
    if isinstance(lines, Mapping):
        yield (
            "gitlab.extraConfiguration: is encrypted as a whole; previews show its lines, and the state has them in "
            "plain text. Encrypt only the secrets in it: pulumi config set --secret --path gitlab.extraSecrets.NAME …; "
            "and write secrets['NAME'] in their place"
        )


def without_secrets(
    lines: Iterable[str], values: Mapping[str, Any], encrypted: Collection[str], file: Mapping[str, Any]
) -> list[str]:
    """The same messages without the values that are encrypted in the stack file, whichever settings they are.

    The arguments are those of `plain_secrets`.
    """
    texts = {text for key in encrypted for text in _encrypted_texts(values.get(key), file.get(key))}
    hidden = sorted({form for one in texts for form in (one, shown(one))}, key=len, reverse=True)
    masked = []
    for line in lines:
        for text in hidden:
            line = line.replace(text, _MASK) if len(text) >= _SHORTEST_SECRET else line  # noqa: PLW2901
        masked.append(line)
    return masked


def _encrypted_texts(value: Any, written: Any) -> Iterator[str]:
    """The texts of a setting that are encrypted, given how the stack file has it; None if that is not known."""
    if isinstance(written, Mapping) and set(written) == {"secure"}:
        yield from _texts(value)
    elif isinstance(written, Mapping) and isinstance(value, Mapping):
        for key in written.keys() & value.keys():
            yield from _encrypted_texts(value[key], written[key])
    elif isinstance(written, list) and isinstance(value, list):
        for one, other in zip(value, written, strict=False):
            yield from _encrypted_texts(one, other)
    elif written is None and isinstance(value, str):
        yield value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


#: The keys and list indexes that lead to a value.
_Keys = tuple[str | int, ...]


def _places(values: Any, path: tuple[str, ...], keys: _Keys = ()) -> Iterator[_Keys]:
    """Where all values at `path` are, through lists and chosen names."""
    if not path:
        if values is not None:
            yield keys
    elif isinstance(values, list):
        for number, value in enumerate(values):
            yield from _places(value, path, (*keys, number))
    elif isinstance(values, Mapping):
        for name in values if path[0] == "*" else {path[0]} & values.keys():
            yield from _places(values[name], path[1:], (*keys, name))


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
    return shown and not SECRET_NAME.search(str(keys[-2])) and not SECRET_TEXT.search(str(section[keys[-1]]))


def _yaml(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, Mapping) else {}
