"""What every machine of an installation has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_digitalocean as digitalocean

from components.keys import AdminKey
from components.network import Network


@dataclass(frozen=True)
class Site:
    """Where an installation is, what its things are called, and who may log in. Plain data, not a component.

    `prefix` begins every name in the cloud; `region` is a slug. Pulumi logs in with `admin_key`, whose public half is
    `ssh_key` in the account; people log in with `authorized_keys`, in OpenSSH's format. With `keep_data` the volume,
    the bucket, the domain and the projects outlive a destroy. `images` are what droplets start from, by their names,
    where it is not the slug in the settings.
    """

    prefix: str
    region: str
    network: Network
    admin_key: AdminKey
    ssh_key: digitalocean.SshKey
    authorized_keys: Sequence[str]
    keep_data: bool
    images: Mapping[str, str] = field(default_factory=dict)

    @property
    def login_keys(self) -> pulumi.Output[str]:
        """Every public key that may log in to a machine, one per line, Pulumi's first."""
        return self.admin_key.public_key.apply(lambda key: "\n".join([key, *self.authorized_keys]))
