"""A droplet without a firewall is open to the internet on every port."""

from __future__ import annotations

from pulumi_policy import PolicyResource, ReportViolation, StackValidationArgs, StackValidationPolicy

from policies.reading import items


def check(args: StackValidationArgs, report: ReportViolation) -> None:
    """Look for a firewall of each droplet: one with a tag that it has, or one that names it."""
    firewalls = [one for one in args.resources if one.resource_type == "digitalocean:index/firewall:Firewall"]
    for droplet in args.resources:
        is_droplet = droplet.resource_type == "digitalocean:index/droplet:Droplet"
        if is_droplet and not any(_covers(firewall, droplet) for firewall in firewalls):
            report(
                f"{droplet.name} has no firewall: all of its ports are open to the internet. Give it a tag that a "
                "firewall has",
                droplet.urn,
            )


def _covers(firewall: PolicyResource, droplet: PolicyResource) -> bool:
    named = {one.urn for one in firewall.property_dependencies.get("dropletIds", ())}
    # A tag that is still to be created is known by the resource that creates it.
    made = {one.urn for one in firewall.property_dependencies.get("tags", ())}
    tags = {str(tag).lower() for tag in items(firewall.props, "tags")}
    return (
        droplet.urn in named
        or not made.isdisjoint(one.urn for one in droplet.property_dependencies.get("tags", ()))
        or not tags.isdisjoint(str(tag).lower() for tag in items(droplet.props, "tags"))
    )


POLICY = StackValidationPolicy(
    name="droplets-behind-firewalls",
    description="Every droplet is behind a cloud firewall.",
    validate=check,
)
