"""Which policies there are, and how strict they are."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

from pulumi_policy import EnforcementLevel, Policy

from policies import rules

#: Stacks in which a violation is an error. In others it is a warning.
MANDATORY_STACKS: Final = frozenset({"production"})


def policies() -> list[Policy]:
    """The `POLICY` of each module in `rules/`, by name: a new file there is a new policy.

    Raises:
        AttributeError: a module has none.
    """
    names = sorted(found.name for found in pkgutil.iter_modules(rules.__path__))
    return [importlib.import_module(f"{rules.__name__}.{name}").POLICY for name in names]


def enforcement_level(stack: str) -> EnforcementLevel:
    """How strict policies are that do not say it themselves; `--policy-pack-config` overrides both."""
    return EnforcementLevel.MANDATORY if stack in MANDATORY_STACKS else EnforcementLevel.ADVISORY
