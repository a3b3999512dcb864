"""Data of production must survive a destroy, and a mistake in the stack file."""

from __future__ import annotations

from typing import Final

import pulumi
from pulumi_policy import ReportViolation, ResourceValidationArgs, ResourceValidationPolicy

from policies.pack import MANDATORY_STACKS
from policies.reading import known

#: What cannot be created again, by type.
DATA: Final = {
    "digitalocean:index/volume:Volume": "the data on it",
    "digitalocean:index/spacesBucket:SpacesBucket": "everything in it",
    "digitalocean:index/databaseCluster:DatabaseCluster": "its databases",
    "digitalocean:index/domain:Domain": "all records of the zone",
}


def check(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Look at what holds data: whether the engine refuses to delete it."""
    lost = DATA.get(args.resource_type)
    if lost is None:
        return
    if pulumi.get_stack() not in MANDATORY_STACKS:
        args.not_applicable("the stack is not production")
    if not args.opts.protect:
        report(
            f"{args.name} is not protected: a destroy, or a setting that replaces it, would delete {lost}. "
            "Set removal to keep-data, or protect the resource",
            args.urn,
        )
    if known(args.props, "forceDestroy"):
        report(
            f"{args.name} is deleted with its content (forceDestroy): a destroy would delete {lost}. "
            "Set removal to keep-data",
            args.urn,
        )


POLICY = ResourceValidationPolicy(
    name="data-is-protected",
    description="Volumes, Spaces, databases and zones of production are protected.",
    validate=check,
)
