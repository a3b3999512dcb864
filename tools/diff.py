"""What `make promote` would change: the settings that are promoted and differ between two environments.

A setting that is left out counts with its default, so only what differs in effect is a difference. Settings that belong
to an environment are never among them, and a secret is never printed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from components.settings import Settings
from components.settings.scopes import IDENTITIES, Leaf, Path, promoted
from tools.stack_files import read_settings

#: Exit codes: for scripts, as those of `diff`. Errors have 2.
SAME, DIFFERENT = 0, 1


@dataclass(frozen=True)
class Difference:
    """One setting that differs: `path` is its place in the target's stack file, in Pulumi's notation.

    `source` and `target` are its values; None if there is none. `is_new` says that the target has no such setting.
    """

    path: str
    source: Any
    target: Any
    is_secret: bool
    is_new: bool = False

    def text(self, source: str, target: str) -> str:
        """The difference in words."""
        if self.is_secret and not self.is_new:
            return f"{self.path}: differs (secret)"
        if self.is_secret:
            return f"{self.path}: only in {source} (secret)"
        if self.is_new:
            return f"{self.path}: only in {source}: {_shown(self.source)}"
        return f"{self.path}: {_shown(self.target)} in {target}, {_shown(self.source)} in {source}"


@dataclass(frozen=True)
class Comparison:
    """All differences between two environments, and what only the target has, which a promotion leaves alone."""

    differences: tuple[Difference, ...]
    only_in_target: tuple[str, ...]


def compare(source: Settings, target: Settings) -> Comparison:
    """Compare what is promoted from `source` to `target`."""
    ours, theirs = ({leaf.path: leaf for leaf in promoted(one)} for one in (source, target))
    places = _Places(target, source)
    found = [_difference(leaf, theirs.get(path), places) for path, leaf in ours.items()]
    gone = [path for path in theirs if path not in ours]
    entries = {path[:2] for path in gone if path[0] in IDENTITIES and path[:2] not in {one[:2] for one in ours}}
    differences = [one for one in found if one]
    differences += _removed([theirs[path] for path in gone if path[:2] not in entries], places)
    return Comparison(tuple(differences), tuple(sorted(places.pulumi(entry) for entry in entries)))


def _difference(leaf: Leaf, other: Leaf | None, places: _Places) -> Difference | None:
    if other is not None and other.value == leaf.value:
        return None
    if other is None and not leaf.is_set:
        return None
    target = other.value if other else None
    return Difference(places.pulumi(leaf.path), leaf.value, target, leaf.is_secret, is_new=other is None)


def _removed(leaves: Sequence[Leaf], places: _Places) -> Iterator[Difference]:
    """What only the target has, as the whole entry that it belongs to: a variable or a stage."""
    entries = dict.fromkeys(leaf.path[:-1] for leaf in leaves)
    for entry in reversed(entries):
        yield Difference(places.pulumi(entry), None, "an entry", is_secret=False)


class _Places:
    """Where settings are in the target's stack file: new entries of a list follow those that it has."""

    def __init__(self, target: Settings, source: Settings) -> None:
        self._numbers: dict[str, dict[str, int]] = {}
        for key, identity in IDENTITIES.items():
            found = [getattr(one, identity) for settings in (target, source) for one in getattr(settings, key)]
            self._numbers[key] = {name: number for number, name in enumerate(dict.fromkeys(found))}

    def pulumi(self, path: Path) -> str:
        """A path as `pulumi config set --path` takes it."""
        head, *rest = path
        if head in self._numbers and rest:
            rest[0] = self._numbers[str(head)][str(rest[0])]
        return str(head) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)


def _shown(value: Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def diff(source: str, target: str, *, keep_secrets: bool = False) -> int:
    """Print the differences between two environments, one per line; 1 if there are any, else 0.

    With `keep_secrets`, secrets that both have are no difference.

    Raises:
        ToolError: a stack file cannot be read.
    """
    comparison = compare(read_settings(source), read_settings(target))
    for path in comparison.only_in_target:
        print(f"({path} is only in {target}; a promotion leaves it alone)")
    differences = [one for one in comparison.differences if not (keep_secrets and one.is_secret and not one.is_new)]
    for one in differences:
        print(one.text(source, target))
    if not differences:
        print(f"{target} has everything that is promoted from {source}")
    return DIFFERENT if differences else SAME
