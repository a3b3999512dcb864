"""Resources as Pulumi shows them to policies, and what the policies of the project say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pulumi_policy import (
    Policy,
    PolicyCustomTimeouts,
    PolicyResource,
    PolicyResourceOptions,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.policy import _NotApplicableError
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

from policies import pack

DROPLET = "digitalocean:index/droplet:Droplet"
FIREWALL = "digitalocean:index/firewall:Firewall"
COMMAND = "command:remote:Command"
VOLUME = "digitalocean:index/volume:Volume"
BUCKET = "digitalocean:index/spacesBucket:SpacesBucket"
#: What a preview does not know.
UNKNOWN = UNKNOWN_STRING_VALUE


@dataclass(frozen=True)
class Resource:
    """One resource of a program: the inputs that a preview knows, and what each of them depends on."""

    type: str
    props: dict[str, Any]
    name: str = "it"
    protect: bool = False
    depends: dict[str, list[str]] = field(default_factory=dict)

    @property
    def urn(self) -> str:
        """Its URN, which ends in its name."""
        return f"urn:pulumi:production::slipway::{self.type}::{self.name}"

    @property
    def options(self) -> PolicyResourceOptions:
        """Its options."""
        return PolicyResourceOptions(self.protect, [], None, [], PolicyCustomTimeouts(0, 0, 0), [])


def violations(*resources: Resource) -> dict[str, list[str]]:
    """What each policy reports about these resources, by its name; policies without a violation are left out."""
    found = {policy.name: reports_of(policy, resources) for policy in pack.policies()}
    return {name: messages for name, messages in found.items() if messages}


def reports_of(policy: Policy, resources: Sequence[Resource]) -> list[str]:
    """What one policy reports."""
    messages: list[str] = []

    def report(message: str, urn: str | None = None) -> None:
        del urn
        messages.append(message)

    if isinstance(policy, StackValidationPolicy):
        policy.validate(StackValidationArgs(_linked(resources)), report)
    elif isinstance(policy, ResourceValidationPolicy):
        for one in resources:
            props = unknown_checking_proxy(one.props)
            try:
                policy.validate(ResourceValidationArgs(one.type, props, one.urn, one.name, one.options, None), report)
            except _NotApplicableError:
                continue
    return messages


def _linked(resources: Sequence[Resource]) -> list[PolicyResource]:
    made = {
        one.name: PolicyResource(
            one.type, unknown_checking_proxy(one.props), one.urn, one.name, one.options, None, None, [], {}
        )
        for one in resources
    }
    for one in resources:
        for key, names in one.depends.items():
            made[one.name].property_dependencies[key] = [made[name] for name in names]
    return [*made.values()]
