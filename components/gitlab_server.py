"""The machine that GitLab runs on: droplet, data volume, reserved address, and basic hardening."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean
from pulumi_command import remote

from components.component import Component
from components.droplets import ADMIN_USER, DropletArgs, create_droplet, install_host_key
from components.hardening import LIBRARIES, hardening
from components.keys import HostKeys
from components.lost_answers import VOLUME, once, once_assigned, once_attached, once_reserved
from components.remote import Machine, run_script
from components.settings.server import Server
from components.site import Site


@dataclass(frozen=True)
class GitLabServerArgs:
    """Inputs of `GitLabServer`. `public_ports` (TCP) are those that the machine's own firewall opens.

    `volume_id` and `reserved_address` exist already and are taken over, if a lost state had them.
    """

    site: Site
    settings: Server
    fqdn: str
    public_ports: Sequence[int]
    volume_id: str | None = None
    reserved_address: str | None = None


class GitLabServer(Component):
    """A hardened machine with its data on a volume and a reserved address.

    Owns the droplet, the data volume, the reserved address and their attachments; on the machine the SSH host key, the
    administrator, `ufw`, and the mounts of `/etc/gitlab`, `/var/opt/gitlab` and `/var/log/gitlab` on the volume.
    Volume, address and host key are resources of their own, so they outlive a droplet that is replaced, and, with kept
    data, a destroy.

    Refuses to own GitLab itself, and puts nothing into `user_data` that can be applied in place.
    """

    address: pulumi.Output[str]
    host_public_key: pulumi.Output[str]
    machine: Machine
    public_ports: str

    def __init__(self, name: str, args: GitLabServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the machine; scripts that run on `machine` wait until it is prepared."""
        super().__init__("GitLabServer", name, opts)
        self._args = args
        self.public_ports = " ".join(str(port) for port in args.public_ports)
        keep = args.site.keep_data
        host_keys = HostKeys(self.child_name("host-keys"), self.child_options(), keep=keep)
        volume = self._volume()
        reserved = digitalocean.ReservedIp(
            self.child_name("address"),
            region=args.site.region,
            opts=self.child_options(
                keep=keep, import_=args.reserved_address, hooks=once_reserved(self.child_name("address"))
            ),
        )
        droplet = create_droplet(
            self,
            "droplet",
            DropletArgs.at(
                args.site,
                group=args.site.network.server,
                name=args.site.prefix,
                size=args.settings.size,
                image=args.settings.image,
                host_keys=host_keys,
            ),
            depends_on=[volume, reserved],
        )
        attached = self._attach(droplet, volume, reserved)
        machine = install_host_key(
            self,
            "host-key",
            droplet=droplet,
            address=reserved.ip_address,
            private_key=args.site.admin_key.private_key,
            host_keys=host_keys,
            ready=attached,
        )
        machine = dataclasses.replace(machine, data=attached[0].id)
        self.address = reserved.ip_address
        self.host_public_key = host_keys.permanent_public_key
        self.machine = dataclasses.replace(machine, ready=(self._prepare(machine, volume),))
        self.register_outputs({"address": self.address, "hostPublicKey": self.host_public_key})

    def _volume(self) -> digitalocean.Volume:
        return digitalocean.Volume(
            self.child_name("data"),
            name=f"{self._args.site.prefix}-data",
            region=self._args.site.region,
            size=self._args.settings.volume_size_gb,
            description="Everything that GitLab keeps",
            opts=self.child_options(
                keep=self._args.site.keep_data,
                import_=self._args.volume_id,
                hooks=once(VOLUME, self.child_name("data")),
            ),
        )

    def _attach(
        self, droplet: digitalocean.Droplet, volume: digitalocean.Volume, reserved: digitalocean.ReservedIp
    ) -> tuple[pulumi.CustomResource, ...]:
        droplet_id = droplet.id.apply(int)
        attachment = digitalocean.VolumeAttachment(
            self.child_name("data-attachment"),
            droplet_id=droplet_id,
            volume_id=volume.id,
            # Deleted with the droplet: DigitalOcean detaches the volume by itself, after the shutdown.
            opts=self.child_options(
                deleted_with=droplet,
                delete_before_replace=True,
                hooks=once_attached(self.child_name("data-attachment")),
            ),
        )
        assignment = digitalocean.ReservedIpAssignment(
            self.child_name("address-assignment"),
            droplet_id=droplet_id,
            ip_address=reserved.ip_address,
            # A droplet runs one action at a time and refuses a second one while the first is pending.
            opts=self.child_options(
                deleted_with=droplet,
                delete_before_replace=True,
                depends_on=[attachment],
                hooks=once_assigned(self.child_name("address-assignment")),
            ),
        )
        return attachment, assignment

    def _prepare(self, machine: Machine, volume: digitalocean.Volume) -> remote.Command:
        args = self._args
        return run_script(
            self,
            "preparation",
            machine=machine,
            file="prepare-server.sh",
            libraries=LIBRARIES,
            values={
                **hardening(ADMIN_USER, args.site.login_keys, args.public_ports),
                "FQDN": args.fqdn,
                "VOLUME_NAME": volume.name,
                "VOLUME_SIZE_GB": volume.size.apply(str),
            },
            rerun_on={"attachment of the volume": machine.data},
            timeout_seconds=900,
        )
