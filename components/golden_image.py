"""An image with the packages of a machine installed, which other machines start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.droplets import ADMIN_USER, DropletArgs, create_droplet, install_host_key
from components.keys import AdminKey, HostKeys
from components.lost_answers import SSH_KEY, once
from components.network import machine_group, ssh_from
from components.remote import run_script
from components.shutdown import shut_down_before_snapshot

_SECONDS: Final = 3600


@dataclass(frozen=True)
class GoldenImageArgs:
    """Inputs of `GoldenImage`.

    `name` is that of the snapshot, and `prefix` begins those of everything else. `region` and `size` are slugs, and
    `image` is that of the public image that it is made from; the disk of `size` is the smallest one that the snapshot
    can be used with. `script` installs the packages, with `libraries` and `values`. `admin_cidrs` may use SSH.
    """

    name: str
    prefix: str
    region: str
    size: str
    image: str
    script: str
    libraries: Sequence[str]
    values: Mapping[str, str]
    admin_cidrs: Sequence[str]


class GoldenImage(Component):
    """A snapshot of a droplet on which packages were installed, and nothing was configured.

    Owns the droplet that it is made on, with its keys and its firewall, and the snapshot, which outlives all of it: a
    destroy leaves it in the account. No secret, no host key and no identity of a machine is in it. Refuses to own what
    starts from it, and snapshots of earlier runs.
    """

    snapshot_id: pulumi.Output[str]

    def __init__(self, name: str, args: GoldenImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the snapshot, and what it is made on."""
        super().__init__("GoldenImage", name, opts)
        admin_key = AdminKey(self.child_name("admin-key"), self.child_options(), keep=False)
        droplet = self._droplet(args, admin_key)
        snapshot = digitalocean.DropletSnapshot(
            self.child_name("snapshot"),
            name=args.name,
            droplet_id=droplet.id,
            opts=self.child_options(
                retain=True,
                depends_on=[self._installed],
                # What is not on the disk by then is not in the image.
                hooks=pulumi.ResourceHookBinding(
                    before_create=[pulumi.ResourceHook("shut-down-before-snapshot", shut_down_before_snapshot)]
                ),
            ),
        )
        self.snapshot_id = snapshot.id
        self.register_outputs({"snapshotId": self.snapshot_id})

    def _droplet(self, args: GoldenImageArgs, admin_key: AdminKey) -> digitalocean.Droplet:
        group = machine_group(
            self,
            tag=("tag", args.prefix),
            firewall=("firewall", args.prefix),
            inbound=[ssh_from(args.admin_cidrs, [])],
        )
        ssh_key = digitalocean.SshKey(
            self.child_name("ssh-key"),
            name=args.prefix,
            public_key=admin_key.public_key,
            opts=self.child_options(hooks=once(SSH_KEY, self.child_name("ssh-key"))),
        )
        host_keys = HostKeys(self.child_name("host-keys"), self.child_options())
        droplet = create_droplet(
            self,
            "droplet",
            DropletArgs(
                region=args.region,
                vpc_id=None,
                ssh_key=ssh_key,
                group=group,
                name=args.prefix,
                size=args.size,
                image=args.image,
                host_keys=host_keys,
            ),
        )
        machine = install_host_key(
            self,
            "host-key",
            droplet=droplet,
            address=droplet.ipv4_address,
            private_key=admin_key.private_key,
            host_keys=host_keys,
        )
        self._installed = run_script(
            self,
            "packages",
            machine=machine,
            file=args.script,
            libraries=["apt.sh", "packages.sh", "seal.sh", *args.libraries],
            values={"ADMIN_USER": ADMIN_USER, **args.values},
            timeout_seconds=_SECONDS,
        )
        return droplet
