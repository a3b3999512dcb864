"""The droplets that the settings ask for, and what becomes of those that a stack has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pulumi

from components.known_resources import KnownResources
from components.offer import Droplet
from components.settings import Reading, droplets_of


@dataclass(frozen=True)
class Machines:
    """Droplets of one kind that the settings ask for. `path` is the key path of their section.

    New ones start from the `snapshot` of that name, if there is one, which is of the same distribution as `image`.
    """

    path: str
    size: str
    image: str
    names: tuple[str, ...]
    snapshot: str | None = None


@dataclass(frozen=True)
class Running:
    """The droplets of the stack that exist, the slugs that it has deployed, and the network that they are to be in.

    `network` is the ID of a VPC, empty if there is none yet, and None if droplets stay where they are.

    What runs already continues to run where DigitalOcean no longer offers it. But a droplet that is about to be created
    or replaced needs what is offered: the old one is deleted first.
    """

    droplets: Sequence[Droplet]
    known: Collection[str]
    network: str | None

    def keeps(self, name: str, machines: Machines) -> bool:
        """Whether one of these machines exists, and stays the droplet that it is."""
        found = next((one for one in self.droplets if one.name == name), None)
        return machines.image in self.known and found is not None and stays(found, machines.image, self.network)

    def keep_image(self, machines: Machines) -> bool:
        """Whether all these machines exist, and stay the droplets that they are."""
        return all(self.keeps(name, machines) for name in machines.names)

    def keep_size(self, machines: Machines) -> bool:
        """Whether they stay, and are not resized."""
        sizes = {one.size for one in self.droplets if one.name in machines.names}
        return sizes == {machines.size} and self.keep_image(machines)


def machines_of(reading: Reading, prefix: str) -> list[Machines]:
    """The droplets that the valid part of the settings asks for. `prefix` begins their names."""
    return [*_server_and_runners(reading, prefix), *_targets(reading, prefix)]


def _server_and_runners(reading: Reading, prefix: str) -> Iterator[Machines]:
    settings = reading.settings
    if reading.has("server.size", "server.image", "server.snapshot"):
        server = settings.server
        yield Machines("server", server.size, server.image, (prefix,), server.snapshot)
    for place, runner in enumerate(settings.runners):
        if runner.is_cluster:
            # DigitalOcean creates its nodes.
            continue
        if reading.has(*(f"runners[{place}].{key}" for key in ("kind", "name", "count", "size", "image", "snapshot"))):
            names = tuple(f"{prefix}-{runner.name}-{number}" for number in range(1, runner.count + 1))
            yield Machines(f"runners[{place}]", runner.size, runner.image, names, runner.snapshot)


def _targets(reading: Reading, prefix: str) -> Iterator[Machines]:
    for place, name, _, droplet in droplets_of(reading.settings):
        if reading.has(f"{place.partition('.')[0]}.path", f"{place}.name", f"{place}.droplet"):
            yield Machines(f"{place}.droplet", droplet.size, droplet.image, (f"{prefix}-{name}",))


def is_own(droplet: Droplet, prefix: str, known: KnownResources) -> bool:
    """Whether a droplet is the stack's: by a tag of the server or the runners, or as a target in its state."""
    tags = {tag.lower() for tag in droplet.tags}
    is_target = droplet.name.startswith(f"{prefix}-target-") and droplet.name in known.names("Droplet")
    return is_target or not tags.isdisjoint({f"{prefix}-server", f"{prefix}-runner"})


def stays(droplet: Droplet, image: str, network: str | None) -> bool:
    """Whether an update leaves a droplet the one that it is: its image and its network are the ones that it has."""
    # An image that was retired has an ID and no slug any more.
    has_slug = bool(droplet.image) and not droplet.image.isdigit()
    return (droplet.image == image or not has_slug) and network in {None, droplet.vpc_uuid}


def note_losses(machines: Sequence[Machines], own: Sequence[Droplet], region: str, network: str | None) -> None:
    """Warn at preview of targets that would be replaced: what was deployed there is lost with them."""
    targets = {name: one for one in machines if one.path.startswith("projects") for name in one.names}
    for droplet in own if pulumi.runtime.is_dry_run() else ():
        wanted = targets.get(droplet.name)
        if wanted and not (droplet.region == region and stays(droplet, wanted.image, network)):
            pulumi.log.warn(
                f"{wanted.path}: {droplet.name} is replaced by this update, and nothing on it is kept: no container, "
                "no image, no volume. Afterwards, deploy again: in GitLab, on the page of the environment"
            )
