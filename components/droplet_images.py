"""What each droplet starts from: a public image, or a snapshot of the account with the packages installed."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import pulumi
import pulumi_digitalocean as digitalocean

from components.known_resources import KnownResources
from components.offer import Size
from components.survey import Survey
from components.wanted_machines import Machines, Running

#: In days. A new machine runs what has been fixed since, until it has updated itself.
_FRESH_DAYS: Final = 45

_Image = digitalocean.GetImageResult


def droplet_images(
    survey: Survey,
    machines: Sequence[Machines],
    region: str,
    sizes: Sequence[Size],
    *,
    running: Running,
    known: KnownResources,
) -> dict[str, str]:
    """Return what the droplets start from that have or get another image than the slug in the settings, by their names.

    A droplet that stays keeps the image that it was made from: another snapshot, or none any more, replaces nothing.
    The survey takes note of what is wrong with a snapshot that a droplet would start from; others are not looked at.
    """
    made_from = {str(one.get("name")): str(one.get("image")) for one in known.of_type("Droplet")}
    disks = {size.slug: size.disk for size in sizes}
    chosen: dict[str, str] = {}
    found: dict[str, _Image | None] = {}
    for one in machines:
        for name in one.names:
            if name in made_from and running.keeps(name, one):
                chosen[name] = made_from[name]
            elif one.snapshot:
                if one.snapshot not in found:
                    found[one.snapshot] = _find(survey, one)
                if (image := found[one.snapshot]) is not None:
                    survey.note(_errors(one, image, region, disks))
                    chosen[name] = str(image.id)
    _note_ages({name: image for name, image in found.items() if image is not None})
    return {
        name: image for one in machines for name, image in chosen.items() if name in one.names and image != one.image
    }


def _find(survey: Survey, machines: Machines) -> _Image | None:
    before, name = len(survey.errors), machines.snapshot or ""
    image = survey.ask(f"snapshot {name}", "image:read", partial(_read, name), absent="no user image found")
    if image is None and len(survey.errors) == before:
        survey.note([
            f"{machines.path}.snapshot: the account has no snapshot {name}; no droplet could start from it. `make "
            "image` makes one, and doctl compute snapshot list lists what there is. Without the key, the machine "
            "starts from the public image, and takes longer"
        ])  # fmt: skip
    return image


def _read(name: str, options: pulumi.InvokeOptions) -> _Image:
    return digitalocean.get_image(name=name, opts=options)


def _errors(machines: Machines, image: _Image, region: str, disks: Mapping[str, int]) -> Iterator[str]:
    path, name = machines.path, machines.snapshot
    if image.distribution.lower() != (wanted := machines.image.partition("-")[0]):
        yield (
            f"{path}.snapshot: {name} is of {image.distribution}, and {path}.image is {machines.image}; the machine "
            f"would be another one than the settings say. Use a snapshot of {wanted.capitalize()}, or another image"
        )
    if region not in image.regions:
        yield (
            f"{path}.snapshot: {name} is in {', '.join(sorted(image.regions))}, and the stack in {region}; no droplet "
            "could start from it. Make one in this region with `make image`, or copy it there in the control panel"
        )
    if disks.get(machines.size, image.min_disk_size) < image.min_disk_size:
        yield (
            f"{path}.size: {machines.size} has a disk of {disks[machines.size]} GB, and {name} needs one of "
            f"{image.min_disk_size} GB; no droplet could be created. Use a size with a larger disk"
        )


def _note_ages(images: Mapping[str, _Image]) -> None:
    """Warn at preview of snapshots that are out of date."""
    now = datetime.datetime.now(tz=datetime.UTC)
    for name, image in images.items() if pulumi.runtime.is_dry_run() else ():
        days = (now - datetime.datetime.fromisoformat(image.created)).days
        if days > _FRESH_DAYS:
            pulumi.log.warn(
                f"snapshot {name} is {days} days old: its packages are, too, until the new machine has updated itself. "
                "Make another one with `make image`"
            )
