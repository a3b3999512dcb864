"""Droplets whose host key is known before the first connection, and the first connection to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.keys import HostKeys
from components.lost_answers import DROPLET, once
from components.network import MachineGroup
from components.remote import BOOT_DIALS, Machine, run_script
from components.rendering import render
from components.shutdown import shut_down_before_resize
from components.site import Site

#: The only user that can log in. Fixed, because it is part of `user_data`, and changing that replaces the droplet.
ADMIN_USER: Final = "slipway"


@dataclass(frozen=True)
class DropletArgs:
    """Inputs of a droplet. `region` and `size` are slugs, `image` is a slug or the ID of a snapshot.

    `group` gives it its tag and its firewall. Without `vpc_id` it is in the default VPC of its region.
    """

    region: str
    vpc_id: pulumi.Input[str] | None
    ssh_key: digitalocean.SshKey
    group: MachineGroup
    name: str
    size: str
    image: str
    host_keys: HostKeys

    @classmethod
    def at(cls, site: Site, *, group: MachineGroup, name: str, size: str, image: str, host_keys: HostKeys) -> Self:
        """Return the inputs of a droplet of an installation. It starts from a snapshot, if there is one for it."""
        return cls(
            region=site.region,
            vpc_id=site.network.vpc_id,
            ssh_key=site.ssh_key,
            group=group,
            name=name,
            size=size,
            image=site.images.get(name, image),
            host_keys=host_keys,
        )


def create_droplet(
    parent: Component, suffix: str, args: DropletArgs, depends_on: Sequence[pulumi.Resource] = ()
) -> digitalocean.Droplet:
    """Declare a droplet whose first boot creates the administrator and presents the first-contact host key."""
    user_data = pulumi.Output.all(
        admin_key=args.ssh_key.public_key,
        host_private_key=args.host_keys.first_contact_private_key,
        host_public_key=args.host_keys.first_contact_public_key,
    ).apply(lambda values: render("cloud-config.yaml.j2", admin_user=ADMIN_USER, **values))
    return digitalocean.Droplet(
        parent.child_name(suffix),
        name=args.name,
        region=args.region,
        size=args.size,
        image=args.image,
        vpc_uuid=args.vpc_id,
        tags=[args.group.tag],
        # Without a key DigitalOcean would generate a root password and send it by email.
        ssh_keys=[args.ssh_key.fingerprint],
        user_data=user_data,
        # The disk keeps its size, so that the droplet can go back to a smaller one.
        resize_disk=False,
        # File systems on a volume are unmounted before the volume is attached elsewhere.
        graceful_shutdown=True,
        opts=parent.child_options(
            depends_on=[*depends_on, args.group.firewall],
            # Volume and address are attached to one droplet at a time: the old one has to be deleted first.
            delete_before_replace=True,
            # A shutdown takes time; of the provider's own limit of a minute most is spent between its requests.
            custom_timeouts=pulumi.CustomTimeouts(delete="15m"),
            # To resize a droplet, the provider cuts its power.
            hooks=once(DROPLET, parent.child_name(suffix), before_update=[shut_down_before_resize]),
        ),
    )


def install_host_key(
    parent: Component,
    suffix: str,
    *,
    droplet: digitalocean.Droplet,
    address: pulumi.Input[str],
    private_key: pulumi.Input[str],
    host_keys: HostKeys,
    ready: Sequence[pulumi.Resource] = (),
) -> Machine:
    """Connect to a droplet for the first time, at its own address, and install its permanent host key.

    Connections to the machine that is returned go to `address`, are pinned to the permanent key, and wait for its
    installation and for everything in `ready`.
    """
    permanent = Machine(
        address=address,
        user=ADMIN_USER,
        private_key=private_key,
        host_key=host_keys.permanent_public_key,
        droplet=droplet,
    )
    booting = dataclasses.replace(
        permanent, address=droplet.ipv4_address, host_key=host_keys.first_contact_public_key, dials=BOOT_DIALS
    )
    installed = run_script(
        parent,
        suffix,
        machine=booting,
        file="install-host-key.sh",
        values={"HOST_PUBLIC_KEY": host_keys.permanent_public_key},
        secrets={"HOST_PRIVATE_KEY": host_keys.permanent_private_key},
        timeout_seconds=600,
        # The key that this connection is pinned to is removed from the machine: it can succeed once per droplet only.
        ignore_changes=["create", "stdin", "connection", "logging"],
    )
    return dataclasses.replace(permanent, ready=(installed, *ready))
