"""The base of all components: how children are named, and how they are tied to their parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

#: The types of components above those of the installation.
_ABOVE: list[str] = []


def place_below(*types: str) -> None:
    """Note that the components of the installation are below others; those of the program are below the stack alone."""
    _ABOVE[:] = types


def ancestry() -> str:
    """Return how the URNs of the installation's components begin, after the project: empty in the program."""
    return "".join(f"{type_}$" for type_ in _ABOVE)


class Component(pulumi.ComponentResource):
    """A component whose children are named after it.

    Owns the naming rule and nothing else. A child's logical name is its parent's name, a dash and a suffix. Suffixes
    never change: to Pulumi a changed logical name is a different resource.
    """

    def __init__(
        self,
        noun: str,
        name: str,
        opts: pulumi.ResourceOptions | None = None,
        inputs: Mapping[str, pulumi.Input[str]] | None = None,
    ) -> None:
        """Register the component under the type token `slipway:index:<noun>`, with `inputs` for people to review."""
        super().__init__(f"slipway:index:{noun}", name, dict(inputs or {}), opts)
        self.component_name = name

    def child_name(self, suffix: str) -> str:
        """Return the logical name of a child."""
        return f"{self.component_name}-{suffix}"

    def child_options(
        self,
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        provider: pulumi.ProviderResource | None = None,
        deleted_with: pulumi.Resource | None = None,
        keep: bool = False,
        retain: bool = False,
        **extra: Any,
    ) -> pulumi.ResourceOptions:
        """Return the options of a child: this component as its parent, and the options given here.

        `keep` marks data that outlives the stack: it is protected, and retained if it leaves the graph regardless.
        `retain` marks what belongs to somebody else by then: it leaves the graph and stays where it is.
        """
        return pulumi.ResourceOptions(
            parent=self,
            depends_on=list(depends_on),
            provider=provider,
            deleted_with=deleted_with,
            protect=True if keep else None,
            retain_on_delete=True if keep or retain else None,
            **extra,
        )
