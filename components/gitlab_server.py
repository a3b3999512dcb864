"""The machine that GitLab runs on: droplet, data volume, reserved address, and a first hardening."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean
from pulumi_command import remote

from components.component import Component
from components.droplets import ADMIN_USER, DropletArgs, adopt, make_droplet
from components.keys import AdminKey, HostKeys
from components.network import Network
from components.remote import Machine, run_script


@dataclass(frozen=True)
class GitLabServerArgs:
    """Inputs of `GitLabServer`. Sizes are slugs, `volume_size_gb` is in GiB."""

    prefix: str
    region: str
    size: str
    image: str
    volume_size_gb: int
    fqdn: str
    admin_key: AdminKey
    ssh_key: digitalocean.SshKey
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
    host_public_key: pulumi.Output[str]
    machine: Machine

    def __init__(self, name: str, args: GitLabServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the machine; it is ready when the last of its children is."""
        super().__init__("GitLabServer", name, opts)
        self._args = args
        host_keys = HostKeys(self.child_name("host-keys"), self.child_options())
        volume = self._volume()
        reserved = digitalocean.ReservedIp(self.child_name("address"), region=args.region, opts=self.child_options())
        droplet = make_droplet(
            self,
            "droplet",
            DropletArgs(
                name=args.prefix,
                region=args.region,
                size=args.size,
                image=args.image,
                vpc_id=args.network.vpc_id,
                tag=args.network.server.tag,
                ssh_key=args.ssh_key,
                host_keys=host_keys,
            ),
            depends_on=[volume, reserved, args.network.server.firewall],
        )
        machine = adopt(
            self,
            "host-key",
            droplet=droplet,
            address=reserved.ip_address,
            private_key=args.admin_key.private_key,
            host_keys=host_keys,
            ties=self._tie(droplet, volume, reserved),
        )
        self.address = reserved.ip_address
        self.host_public_key = host_keys.lasting_public_key
        self.machine = dataclasses.replace(machine, ready=(self._prepare(machine, volume),))
        self.register_outputs({"address": self.address, "hostPublicKey": self.host_public_key})

    def _volume(self) -> digitalocean.Volume:
        return digitalocean.Volume(
            self.child_name("data"),
            name=f"{self._args.prefix}-data",
            region=self._args.region,
            size=self._args.volume_size_gb,
            description="Everything that GitLab keeps",
            opts=self.child_options(keep=self._args.keep_data),
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

    def _prepare(self, machine: Machine, volume: digitalocean.Volume) -> remote.Command:
        args = self._args
        return run_script(
            self,
            "preparation",
            machine=machine,
            file="prepare-server.sh",
            libraries=["apt.sh", "hardening.sh"],
            values={
                "ADMIN_USER": ADMIN_USER,
                "AUTHORIZED_KEYS": args.admin_key.public_key.apply(lambda key: "\n".join([key, *args.authorized_keys])),
                "FQDN": args.fqdn,
                "PUBLIC_PORTS": " ".join(str(port) for port in args.public_ports),
                "VOLUME_NAME": volume.name,
                "VOLUME_SIZE_GB": volume.size.apply(str),
            },
            timeout_seconds=900,
        )
