"""What the stack's state has when a run starts. Whatever else the account has under its names is not the stack's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.state import read_while_written


@dataclass(frozen=True)
class KnownResources:
    """The resources in the state, with their outputs by URN. Those that wait for their deletion are not among them."""

    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of_type(self, noun: str) -> Iterator[Mapping[str, Any]]:
        """The outputs of all resources of a type, given by the last part of its token, such as `Volume`."""
        for urn, outputs in self.outputs.items():
            if urn.split("::")[2].endswith(f":{noun}"):
                yield outputs

    def names(self, noun: str) -> set[str]:
        """The names, in the account, of all resources of a type."""
        return {str(outputs.get("name")) for outputs in self.of_type(noun)}

    def named(self, logical_name: str) -> Mapping[str, Any]:
        """The outputs of the resource with that logical name; nothing if there is none."""
        return next((one for urn, one in self.outputs.items() if urn.endswith(f"::{logical_name}")), {})

    def has(self, logical_name: str) -> bool:
        """Whether a resource with that logical name is there."""
        return any(urn.endswith(f"::{logical_name}") for urn in self.outputs)


class StateReader:
    """Reads the resources in the state, once the provider of the stack is registered.

    A stack that has never been updated has no state, and the engine crashes if it is asked for the resources in it. So
    the provider carries a hook, which the engine calls only if it has to create the provider, at preview as well: then
    nothing that needs this provider can be in the state.
    """

    def __init__(self) -> None:
        """Nothing is known until the provider is registered."""
        self._is_new = False

    def hooks(self) -> pulumi.ResourceHookBinding:
        """The hooks for the provider."""
        options = pulumi.ResourceHookOptions(on_dry_run=True)
        return pulumi.ResourceHookBinding(
            before_create=[pulumi.ResourceHook("stack-is-new", self._note_creation, options)]
        )

    def read(self) -> KnownResources:
        """Read the state. To be called after the first answer of the provider, which implies its registration."""
        if self._is_new:
            return KnownResources()
        stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
        found = read_while_written("pulumi:pulumi:readStackResourceOutputs", {"stackName": stack})
        return KnownResources({urn: resource["outputs"] for urn, resource in found["outputs"].items()})

    def _note_creation(self, args: pulumi.ResourceHookArgs) -> None:
        del args
        self._is_new = True
