"""Destroy a stack, whatever state it is in, and say what is left of it.

`pulumi destroy` does the work and asks nothing of GitLab or of the machines: what is inside a machine is deleted with
it. Four things are added. What would keep the VPC from being deleted is named before anything is deleted, because the
provider reports only after two minutes that there is something. So are records of others in the stack's zone, which
DigitalOcean would delete with it. If deletions fail, those resources are compared with
the account and the destroy is repeated once: the provider cannot delete what somebody else has deleted already. And
what is kept is listed, with its price.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus

from rich.prompt import Confirm

from components.api import RefusedError, every
from components.cost import price_of
from components.trust import bundle
from components.zone import records_of_others
from tools import processes
from tools.progress import ToolError, say
from tools.state import Resource, StackState

#: How a member of a VPC is deleted, by the kind in its URN: `do:KIND:ID`.
_DELETIONS = {
    "droplet": "doctl compute droplet delete {}",
    "loadbalancer": "doctl compute load-balancer delete {}",
    "kubernetes": "doctl kubernetes cluster delete {}",
    "dbaas": "doctl databases delete {}",
}
#: The kinds in the URNs of what a stack has in its VPC, by their types.
_MEMBERS = {"DatabaseCluster": "dbaas", "Droplet": "droplet", "KubernetesCluster": "kubernetes"}
#: Why something stays that is not protected.
_REASONS = {
    "Domain": "dns.zone is existing, so it is left to whoever else uses it",
    "Vpc": "the default network of its region cannot be deleted",
}
_LEFT = "the stack leaves it where it is"
#: What an interrupt makes Pulumi end with; then nothing is repeated.
_INTERRUPTED = 130


def down(stack: str | None, options: Sequence[str], *, file: str | None = None, confirmed: bool) -> int:
    """Destroy what the stack does not protect; returns Pulumi's exit code. Unless `confirmed`, ask first.

    `options` are for `pulumi destroy`; `file` is the stack file if it is not at its usual place.

    Raises:
        ToolError: something in the VPC is not the stack's and would keep it from being deleted, or something in the
            zone is not and would be deleted; nothing was deleted.
    """
    before = StackState.of_stack(stack)
    if reasons := [*obstacles(before), *lost_records(before)]:
        raise ToolError("\n".join(["nothing was deleted, because of what is not this stack's:", *reasons]))
    which = [*(["--stack", stack] if stack else []), *(["--config-file", file] if file else [])]
    command = ["pulumi", "destroy", *which, "--exclude-protected", *options]
    if not confirmed:
        if code := _run([*command, "--preview-only"]):
            return code
        if not Confirm.ask("Delete this?", default=False):
            raise ToolError("nothing was deleted")
    command += ["--yes", "--skip-preview", "--continue-on-error"]
    with trust_files(before):
        code = _run(command)
        left = StackState.of_stack(stack)
        if code not in {0, _INTERRUPTED} and (remaining := [one for one in left.cloud if not one.is_protected]):
            say("some deletions failed; comparing what is left with the account, then trying once more")
            targets = [option for one in remaining for option in ("--target", one.urn)]
            code = _run(["pulumi", "refresh", *which, "--yes", "--skip-preview", *targets]) or _run(command)
            left = StackState.of_stack(stack)
    for line in report(before, left):
        print(line)
    return code


@contextmanager
def trust_files(state: StackState) -> Iterator[None]:
    """Give the `gitlab` provider its file of trusted certificates, which a new checkout does not have.

    The provider does not start without it, although a destroy sends it no request. The next update writes the real one.
    """
    missing = [file for file in state.provider_files if not file.exists()]
    for file in missing:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(bundle(state.ca_certificate), encoding="utf-8")
    try:
        yield
    finally:
        for file in missing:
            file.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> int:
    return processes.run_attached(command, os.environ)


def obstacles(state: StackState) -> Iterator[str]:
    """What is in the stack's VPC without being the stack's, each with the command that deletes it."""
    own = {f"do:{kind}:{one.id}" for noun, kind in _MEMBERS.items() for one in state.of(noun)}
    own |= {f"do:droplet:{node}" for node in nodes_of(state)}
    for vpc in state.of("Vpc"):
        if vpc.is_retained or vpc.is_protected:
            continue
        for member in _listed(f"/v2/vpcs/{vpc.id}/members", "members"):
            if member["urn"] in own:
                continue
            _, kind, identifier = str(member["urn"]).split(":", 2)
            name, network = member.get("name") or member["urn"], vpc.values.get("name")
            command = _DELETIONS.get(kind, "").format(identifier)
            advice = f"Delete it if nobody needs it: {command}" if command else "Move it to another network"
            yield f"  {kind} {name} (ID {identifier}) is in the VPC {network}, and not in this stack. {advice}"


def nodes_of(state: StackState) -> Iterator[str]:
    """The droplets that are nodes of the stack's clusters: DigitalOcean makes and deletes them."""
    for cluster in state.of("KubernetesCluster"):
        for node in _listed(f"/v2/droplets?tag_name=k8s:{cluster.id}", "droplets"):
            yield str(node["id"])


def lost_records(state: StackState) -> Iterator[str]:
    """Records of the stack's zone that are not the stack's, and that would be deleted with it."""
    own = {(str(one.values.get("name")), str(one.values.get("type"))) for one in state.of("DnsRecord")}
    for zone in state.of("Domain"):
        if zone.is_retained or zone.is_protected:
            continue
        listed = _listed(f"/v2/domains/{zone.id}/records", "domain_records")
        if lost := records_of_others([(one["name"], one["type"], one["data"]) for one in listed], own):
            yield (
                f"  the zone {zone.id} would be deleted with records that are not in this stack: {', '.join(lost)}. "
                "Delete them if nobody needs them; or set dns.zone to existing and run an update, and the zone stays"
            )


def _listed(path: str, root: str) -> list[dict[str, str]]:
    try:
        return list(every(path, root))
    except RefusedError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return []
        raise ToolError(str(error)) from error
    except RuntimeError as error:
        raise ToolError(str(error)) from error


def report(before: StackState, left: StackState) -> Iterator[str]:
    """What is left in the account after a destroy, with what each costs per month, and what is left in the state."""
    gone = {one.urn for one in before.cloud} - {one.urn for one in left.cloud}
    retained = [one for one in before.cloud if one.urn in gone and one.is_retained]
    items = [(price_of(one.noun, one.values), described(one)) for one in left.cloud]
    items += [(0.0, f"{described(one)}: {_REASONS.get(one.noun, _LEFT)}") for one in retained]
    if not items:
        yield "Nothing of this stack is left in the account."
        return
    yield "Left in the account, in US dollars per month:"
    for price, what in sorted(items, key=lambda item: (-item[0], item[1])):
        yield f"  {price:8.2f}  {what}"
    yield f"  {sum(price for price, _ in items):8.2f}  in total"
    inside = [one.name for one in left.resources if one.raw.get("custom") and not one.is_cloud]
    others = sorted(name for name in inside if not name.startswith("default"))
    if others:
        yield f"Left in the stack's state, free of charge: {', '.join(others)}."
    if left.cloud:
        yield "The next update continues with all of it. To delete it, set removal to everything, and run up and down."


def described(resource: Resource) -> str:
    """A resource of the account as people know it, with what is worth knowing about it."""
    values = resource.values
    name = values.get("name") or values.get("ipAddress") or resource.id
    details = {
        "Volume": f"volume {name}, {values.get('size', 0):g} GiB",
        "SpacesBucket": f"bucket {name}; the price is that of one subscription for all Spaces of the account",
        "DatabaseCluster": f"database cluster {name}, {values.get('nodeCount', 0):g} x {values.get('size')}",
        "ReservedIp": f"reserved address {name}",
        "Domain": f"DNS zone {name}",
        "DnsRecord": f"DNS record {values.get('fqdn')} {values.get('type')} {values.get('value')}",
        "Vpc": f"VPC {name}",
        "SpacesKey": f"Spaces key {name}, {_rights(values)}",
    }
    return details.get(resource.noun, f"{resource.noun} {name}")


def _rights(values: dict[str, object]) -> str:
    grants = values.get("grants")
    found = [grant for grant in grants if isinstance(grant, dict)] if isinstance(grants, list) else []
    if any(grant.get("permission") == "fullaccess" for grant in found):
        return (
            "with full access to every bucket of the account: the bucket is managed with it. To be without, export a "
            "Spaces key of your own and run an update (see docs/settings.md)"
        )
    return f"for {', '.join(str(grant.get('bucket')) for grant in found)}"
