"""What all machines have in common: a droplet that is known before it is met, and one way in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.keys import HostKeys
from components.remote import BOOT_DIALS, Machine, run_script
from components.rendering import render

#: The only user that can log in. Fixed, because it is part of `user_data` and a change of that replaces the droplet.
ADMIN_USER: Final = "slipway"


@dataclass(frozen=True)
class DropletArgs:
    """Inputs of a droplet. `size` and `image` are slugs."""

    name: str
    region: str
    size: str
    image: str
    vpc_id: pulumi.Input[str]
    tag: pulumi.Input[str]
    ssh_key: digitalocean.SshKey
    host_keys: HostKeys


def make_droplet(
    parent: Component, suffix: str, args: DropletArgs, depends_on: Sequence[pulumi.Resource]
) -> digitalocean.Droplet:
    """A droplet whose first boot makes the administrator and shows the first-contact host key."""
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
        tags=[args.tag],
        # Without a key the service would make a root password and send it by mail.
        ssh_keys=[args.ssh_key.fingerprint],
        user_data=user_data,
        # The disk stays as it is, so that a larger size can be taken back.
        resize_disk=False,
        # File systems on a volume are unmounted before the volume goes elsewhere.
        graceful_shutdown=True,
        opts=parent.child_options(
            depends_on=depends_on,
            # The droplet goes before what it depends on: its volume and its address are free then.
            delete_before_replace=True,
            # A machine takes its time to shut down; the provider's own limit of a minute is mostly spent on pauses.
            custom_timeouts=pulumi.CustomTimeouts(delete="15m"),
        ),
    )


def adopt(
    parent: Component,
    suffix: str,
    *,
    droplet: digitalocean.Droplet,
    address: pulumi.Input[str],
    private_key: pulumi.Input[str],
    host_keys: HostKeys,
    ties: Sequence[pulumi.Resource] = (),
) -> Machine:
    """Make first contact with a droplet once `ties` are there, and give it its lasting host key.

    The machine that comes back is pinned to the lasting key, and ready when it has it.
    """
    lasting = Machine(
        address=address,
        user=ADMIN_USER,
        private_key=private_key,
        host_key=host_keys.lasting_public_key,
        droplet=droplet,
    )
    booting = dataclasses.replace(
        lasting, host_key=host_keys.first_contact_public_key, ready=tuple(ties), dials=BOOT_DIALS
    )
    adopted = run_script(
        parent,
        suffix,
        machine=booting,
        file="install-host-key.sh",
        values={
            "HOST_PRIVATE_KEY": host_keys.lasting_private_key,
            "HOST_PUBLIC_KEY": host_keys.lasting_public_key,
        },
        timeout_seconds=600,
        # The key that this is pinned to is gone from the machine afterwards: only a new droplet can run it again.
        ignore_changes=["create", "stdin", "connection", "logging"],
    )
    return dataclasses.replace(lasting, ready=(adopted,))
