"""What is installed or run must not change by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pulumi_policy import ReportViolation, ResourceValidationArgs, ResourceValidationPolicy

from policies.reading import known, strings

_DROPLET: Final = "digitalocean:index/droplet:Droplet"
#: An image by its ID, or a slug with the version of its distribution.
_MACHINE_IMAGE: Final = re.compile(r"\d+|[a-z]+(-[a-z]+)*-\d+(-\d+)*-x64")
#: A container image in a pipeline (`image: …`) or a Dockerfile (`FROM …`).
_CONTAINER_IMAGE: Final = re.compile(
    r"^ *(?:- +)?(?:image: *|FROM +(?:--platform=\S+ +)?)[\"']?(?P<image>[\w./:@-]+)[\"']?(?: +AS +\S+)? *$",
    re.MULTILINE | re.IGNORECASE,
)


def check(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Look at images of droplets, and at images in files that a resource writes."""
    image = str(known(args.props, "image", "0"))
    if args.resource_type == _DROPLET and not _MACHINE_IMAGE.fullmatch(image):
        report(
            f"{args.name} has the image {image}, which names no version: the next droplet could be another system. "
            "Use one such as ubuntu-24-04-x64",
            args.urn,
        )
    if args.resource_type == _DROPLET:
        return
    for name in dict.fromkeys(_unpinned(args)):
        report(
            f"{args.name} uses the container image {name}, which names no version: what runs would change by itself. "
            "Add a tag with a version, or a digest",
            args.urn,
        )


def _unpinned(args: ResourceValidationArgs) -> Iterator[str]:
    for _, text in strings(args.props):
        stages = {found.lower() for found in re.findall(r"^FROM .* AS (\S+)", text, re.MULTILINE | re.IGNORECASE)}
        for found in _CONTAINER_IMAGE.finditer(text):
            name = found["image"]
            _, _, tag = name.rpartition("/")[2].partition(":")
            is_unpinned = "@" not in name and tag in {"", "latest", "stable"}
            if is_unpinned and name.lower() not in {*stages, "scratch"}:
                yield name


POLICY = ResourceValidationPolicy(
    name="versions-are-pinned",
    description="Machines and pipelines use images of a named version.",
    validate=check,
)
