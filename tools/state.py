"""What a stack has in its state, as `pulumi stack export` prints it. Secrets stay encrypted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tools.clients import CheckError, run
from tools.environment import ROOT
from tools.progress import ToolError

#: Begins the types of what is in the account.
CLOUD = "digitalocean:"
#: How Pulumi marks a secret in a state (sdk/go/common/resource/sig).
_SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}


@dataclass(frozen=True)
class Resource:
    """One resource of a state, or one that is still to be deleted (`is_pending`) because it was replaced."""

    raw: dict[str, Any]

    @property
    def urn(self) -> str:
        """Its URN."""
        return str(self.raw["urn"])

    @property
    def type(self) -> str:
        """Its type token."""
        return str(self.raw["type"])

    @property
    def noun(self) -> str:
        """The last part of the type, such as `Droplet`."""
        return self.type.rsplit(":", 1)[-1]

    @property
    def name(self) -> str:
        """Its logical name."""
        return self.urn.rsplit("::", 1)[-1]

    @property
    def id(self) -> str:
        """Its ID; empty for components."""
        return str(self.raw.get("id") or "")

    @property
    def values(self) -> dict[str, Any]:
        """Its outputs, and its inputs where it has no such output."""
        return {**(self.raw.get("inputs") or {}), **(self.raw.get("outputs") or {})}

    @property
    def is_protected(self) -> bool:
        """Whether a destroy has to leave it where it is."""
        return bool(self.raw.get("protect"))

    @property
    def is_retained(self) -> bool:
        """Whether it stays in the account when it leaves the state."""
        return bool(self.raw.get("retainOnDelete"))

    @property
    def is_pending(self) -> bool:
        """Whether it is only there to be deleted."""
        return bool(self.raw.get("delete"))

    @property
    def is_cloud(self) -> bool:
        """Whether it is something in the account."""
        return bool(self.raw.get("custom")) and self.type.startswith(CLOUD)


@dataclass(frozen=True)
class StackState:
    """The resources of one stack."""

    stack: str | None
    raw: dict[str, Any]

    @classmethod
    def of_stack(cls, stack: str | None) -> Self:
        """Read the state of a stack, or of the selected one.

        Raises:
            ToolError: Pulumi cannot read it.
        """
        try:
            return cls(stack, json.loads(run("pulumi", "stack", "export", *(["--stack", stack] if stack else []))))
        except CheckError as error:
            raise ToolError(str(error)) from error

    @cached_property
    def resources(self) -> list[Resource]:
        """Everything that is in it."""
        return [Resource(one) for one in (self.raw.get("deployment") or {}).get("resources") or []]

    @property
    def ca_certificate(self) -> str | None:
        """The stack's own certificate authorities, as PEM; None if only public ones issue its certificates.

        They are an output. Before the first update that has it, what the `gitlab` provider reads is used, if this
        checkout has that file.
        """
        if roots := next((one.values.get("ca_certificate") for one in self.resources if one.noun == "Stack"), None):
            return str(roots)
        return next((file.read_text(encoding="utf-8") for file in self.provider_files if file.is_file()), None)

    @property
    def provider_files(self) -> list[Path]:
        """The files of trusted authorities that `gitlab` providers read: one, or one more while it is replaced."""
        providers = [one.values for one in self.resources if one.type == "pulumi:providers:gitlab"]
        return [ROOT / str(one["cacertFile"]) for one in providers if one.get("cacertFile")]

    @property
    def pending(self) -> list[dict[str, Any]]:
        """Operations that Pulumi has started, and of whose end it knows nothing."""
        return (self.raw.get("deployment") or {}).get("pending_operations") or []

    @property
    def cloud(self) -> list[Resource]:
        """What is in the account."""
        return [one for one in self.resources if one.is_cloud]

    def of(self, noun: str) -> list[Resource]:
        """What is in the account, of one kind."""
        return [one for one in self.cloud if one.noun == noun]


def all_stacks() -> list[str]:
    """The stacks of this project in the back end that Pulumi is logged in to.

    Raises:
        ToolError: Pulumi cannot list them.
    """
    try:
        return [str(one["name"]) for one in json.loads(run("pulumi", "stack", "ls", "--json"))]
    except CheckError as error:
        raise ToolError(str(error)) from error


def secret(value: str) -> dict[str, str]:
    """A secret as a state has it that was exported with `--show-secrets`."""
    return {**_SECRET, "plaintext": json.dumps(value)}


def put_outputs(which: list[str], urn: str, outputs: Mapping[str, object], identifier: str | None = None) -> None:
    """Give a resource other outputs, and another ID: the one whose URN ends with `urn`. There is no import for keys.

    The state is changed the way Pulumi documents it: export, edit, import. Outputs that it does not have stay away.

    Raises:
        CheckError: Pulumi cannot do it.
        ValueError: there is no such resource.
    """
    state = json.loads(run("pulumi", "stack", "export", "--show-secrets", *which))
    [resource] = [one for one in state["deployment"]["resources"] if one["urn"].endswith(urn)]
    resource["outputs"] |= {name: value for name, value in outputs.items() if name in resource["outputs"]}
    if identifier is not None:
        resource["id"] = identifier
    run("pulumi", "stack", "import", *which, stdin=json.dumps(state), timeout=300)
