"""The machine that GitLab runs on: droplet, data volume, reserved address, and a first hardening."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_digitalocean as digitalocean
from pulumi_command import remote

from components.component import Component
from components.keys import Keys
from components.network import Network
from components.remote import BOOT_DIALS, Machine, run_script
from components.rendering import render

#: The only user that can log in. Fixed, because it is part of `user_data` and a change of that replaces the droplet.
ADMIN_USER: Final = "slipway"


@dataclass(frozen=True)
class GitLabServerArgs:
    """Inputs of `GitLabServer`. Sizes are slugs, `volume_size_gb` is in GiB."""

    prefix: str
    region: str
    size: str
    image: str
    volume_size_gb: int
    fqdn: str
    keys: Keys
    network: Network
    public_ports: Sequence[int]
    authorized_keys: Sequence[str]
    keep_data: bool


class GitLabServer(Component):
    """A hardened machine with its data on a volume and its address reserved.

    Owns the droplet, the data volume, the reserved address and what ties them together; on the machine the SSH host
    key, the administrator, `ufw`, and the mounts of `/etc/gitlab`, `/var/opt/gitlab` and `/var/log/gitlab` on the
    volume. Volume, address and host key are nodes of their own: they outlive a droplet that is replaced.

    Refuses to own GitLab itself, and puts nothing into `user_data` that can be applied in place.
    """

    address: pulumi.Output[str]
    machine: Machine

    def __init__(self, name: str, args: GitLabServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the machine; it is ready when the last of its children is."""
        super().__init__("GitLabServer", name, opts)
        self._args = args
        volume = self._volume()
        reserved = digitalocean.ReservedIp(self.child_name("address"), region=args.region, opts=self.child_options())
        droplet = self._droplet(volume, reserved)
        ties = self._tie(droplet, volume, reserved)
        self.address = reserved.ip_address

        adopted = self._adopt_host_key(droplet, ties)
        lasting = self._machine(droplet, args.keys.host_public_key, (adopted,))
        prepared = self._prepare(lasting, volume)
        self.machine = self._machine(droplet, args.keys.host_public_key, (prepared,))
        self.register_outputs({"address": self.address})

    def _volume(self) -> digitalocean.Volume:
        return digitalocean.Volume(
            self.child_name("data"),
            name=f"{self._args.prefix}-data",
            region=self._args.region,
            size=self._args.volume_size_gb,
            description="Everything that GitLab keeps",
            opts=self.child_options(keep=self._args.keep_data),
        )

    def _droplet(self, volume: digitalocean.Volume, reserved: digitalocean.ReservedIp) -> digitalocean.Droplet:
        keys, network = self._args.keys, self._args.network
        ssh_key = digitalocean.SshKey(
            self.child_name("ssh-key"),
            name=f"{self._args.prefix}-admin",
            public_key=keys.admin_public_key,
            opts=self.child_options(),
        )
        user_data = pulumi.Output.all(
            admin_key=keys.admin_public_key,
            host_private_key=keys.first_contact_private_key,
            host_public_key=keys.first_contact_public_key,
        ).apply(lambda values: render("cloud-config.yaml.j2", admin_user=ADMIN_USER, **values))
        return digitalocean.Droplet(
            self.child_name("droplet"),
            name=self._args.prefix,
            region=self._args.region,
            size=self._args.size,
            image=self._args.image,
            vpc_uuid=network.vpc_id,
            tags=[network.server_tag],
            # Without a key the service would make a root password and send it by mail.
            ssh_keys=[ssh_key.fingerprint],
            user_data=user_data,
            # The disk stays as it is, so that a larger size can be taken back.
            resize_disk=False,
            # File systems on the volume are unmounted before the volume goes elsewhere.
            graceful_shutdown=True,
            opts=self.child_options(
                # The droplet is deleted before what it depends on: the volume is free then, and so is the address.
                depends_on=[volume, reserved, network.firewall],
                delete_before_replace=True,
                # GitLab takes its time to shut down; the provider's own limit of a minute is mostly spent on pauses.
                custom_timeouts=pulumi.CustomTimeouts(delete="15m"),
            ),
        )

    def _tie(
        self, droplet: digitalocean.Droplet, volume: digitalocean.Volume, reserved: digitalocean.ReservedIp
    ) -> tuple[pulumi.Resource, ...]:
        droplet_id = droplet.id.apply(int)
        attachment = digitalocean.VolumeAttachment(
            self.child_name("data-attachment"),
            droplet_id=droplet_id,
            volume_id=volume.id,
            # It ends with the droplet: the service detaches on its own, after the shutdown.
            opts=self.child_options(deleted_with=droplet, delete_before_replace=True),
        )
        assignment = digitalocean.ReservedIpAssignment(
            self.child_name("address-assignment"),
            droplet_id=droplet_id,
            ip_address=reserved.ip_address,
            # A droplet takes one event at a time and refuses a second one while the first is pending.
            opts=self.child_options(deleted_with=droplet, delete_before_replace=True, depends_on=[attachment]),
        )
        return attachment, assignment

    def _machine(
        self, droplet: digitalocean.Droplet, host_key: pulumi.Output[str], ready: tuple[pulumi.Resource, ...]
    ) -> Machine:
        return Machine(
            address=self.address,
            user=ADMIN_USER,
            private_key=self._args.keys.admin_private_key,
            host_key=host_key,
            droplet=droplet,
            ready=ready,
        )

    def _adopt_host_key(self, droplet: digitalocean.Droplet, ties: tuple[pulumi.Resource, ...]) -> remote.Command:
        keys = self._args.keys
        booting = self._machine(droplet, keys.first_contact_public_key, ties)
        return run_script(
            self,
            "host-key",
            machine=dataclasses.replace(booting, dials=BOOT_DIALS),
            file="adopt-host-key.sh",
            values={"HOST_PRIVATE_KEY": keys.host_private_key, "HOST_PUBLIC_KEY": keys.host_public_key},
            timeout_seconds=600,
            # The key that this is pinned to is gone from the machine afterwards: only a new droplet can run it again.
            ignore_changes=["create", "stdin", "connection", "logging"],
        )

    def _prepare(self, machine: Machine, volume: digitalocean.Volume) -> remote.Command:
        args = self._args
        return run_script(
            self,
            "preparation",
            machine=machine,
            file="prepare-server.sh",
            values={
                "ADMIN_USER": ADMIN_USER,
                "AUTHORIZED_KEYS": args.keys.admin_public_key.apply(
                    lambda key: "\n".join([key, *args.authorized_keys])
                ),
                "FQDN": args.fqdn,
                "PUBLIC_PORTS": " ".join(str(port) for port in args.public_ports),
                "VOLUME_NAME": volume.name,
                "VOLUME_SIZE_GB": volume.size.apply(str),
            },
            timeout_seconds=900,
        )
