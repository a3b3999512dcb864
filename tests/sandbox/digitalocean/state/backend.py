"""The interface between the emulated API and the machines behind it.

The emulator owns the API's rules and state; a `Backend` owns real machines, links, disks and object storage. They meet
only here, so the API can be tested without machines and the machines without the API.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.sandbox.digitalocean.state.clusters import Clusters


@dataclass(frozen=True)
class MachineSpec:
    """One machine to boot. Sizes in MB and GB as the API states them; `image` is a slug or a snapshot's number."""

    id: int
    name: str
    image: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    public_ipv4: str
    anchor_ipv4: str
    private_ipv4: str | None = None
    vpc_cidr: str | None = None
    public_ipv6: str | None = None
    user_data: str = field(default="", repr=False)
    ssh_keys: tuple[str, ...] = ()
    #: Root password for machines made without an SSH key; the real service sends it by mail.
    region: str = ""
    #: Addresses of pods, which are routed to the machine inside its VPC.
    pod_cidr: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class VolumeSpec:
    """One block device. `filesystem` is `ext4`, `xfs` or empty for a raw device."""

    id: str
    name: str
    size_gb: int
    filesystem: str = ""
    label: str = ""


@dataclass(frozen=True)
class Rule:
    """One firewall rule, resolved to addresses: the API's tags and droplet ids are already looked up.

    `ports` is `all`, one port or `from-to`; empty for `icmp`. `peers` are CIDRs, sources of an inbound rule and
    destinations of an outbound one.
    """

    protocol: str
    ports: str
    peers: tuple[str, ...]


@dataclass(frozen=True)
class MachineFirewall:
    """The union of all firewalls on one machine. A machine without any firewall is not listed and is open."""

    machine_id: int
    inbound: tuple[Rule, ...]
    outbound: tuple[Rule, ...]


@dataclass(frozen=True)
class NetworkPicture:
    """All that routing and filtering depend on. Applied as a whole: what is not in it is closed or gone."""

    firewalls: tuple[MachineFirewall, ...] = ()
    #: Reserved address -> id of the machine that it is assigned to.
    reserved: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DatabaseServer:
    """What the server on a node of a managed database is like: `pg` or `valkey`, with TLS only.

    The first user administers it. Databases and users that the server has beyond these stay, except for dropped ones.
    """

    engine: str
    version: str
    port: int
    connections: int
    memory_mb: int
    certificate: str
    private_key: str = field(repr=False)
    users: dict[str, str] = field(repr=False)
    databases: tuple[str, ...] = ()
    dropped_users: tuple[str, ...] = ()
    dropped_databases: tuple[str, ...] = ()
    eviction_policy: str = "noeviction"


@dataclass(frozen=True)
class Grant:
    """What a Spaces key may do. An empty bucket with `fullaccess` means everything."""

    bucket: str
    permission: str


class Backend(Protocol):
    """Real machinery. Every call is idempotent and returns when its effect can be observed."""

    @property
    def clusters(self) -> Clusters:
        """The API servers of Kubernetes clusters."""

    @property
    def kubernetes_versions(self) -> tuple[str, ...]:
        """Versions of Kubernetes that `prepare_kubernetes` can provide, the newest first."""

    async def prepare_kubernetes(self, version: str) -> None:
        """Have the image `kubernetes-VERSION`. Nothing to do where it is there."""

    async def create_machine(self, machine: MachineSpec) -> None:
        """Boot a new machine; returns when its init system runs (SSH follows a moment later)."""

    async def destroy_machine(self, machine_id: int) -> None:
        """End a machine and its root disk. Unknown ids are fine."""

    async def power_on(self, machine_id: int) -> None:
        """Boot a machine that is off, with the same root disk and links."""

    async def power_off(self, machine_id: int) -> None:
        """Pull the plug."""

    async def shut_down(self, machine_id: int) -> None:
        """Ask the machine to shut down, and wait until it is off."""

    async def reboot(self, machine_id: int) -> None:
        """Shut down and boot again."""

    async def resize_machine(self, machine_id: int, vcpus: int, memory_mb: int, disk_gb: int) -> None:
        """Change the size of a machine that is off."""

    async def rename_machine(self, machine_id: int, name: str) -> None:
        """Change the name that the machine is known by from outside."""

    async def rebuild_machine(self, machine: MachineSpec) -> None:
        """Replace the root disk by a fresh one of `machine.image`."""

    async def create_snapshot(self, machine_id: int, snapshot_id: int) -> float:
        """Keep the root disk as it is now, to be booted as the image of that number; answer its size in GB."""

    async def delete_snapshot(self, snapshot_id: int) -> None:
        """Remove a root disk that was kept. Unknown ids are fine; machines that were made from it stay."""

    async def running(self, machine_id: int) -> bool:
        """Whether the machine is powered on."""

    async def create_volume(self, volume: VolumeSpec) -> None:
        """Make a device of `size_gb` with its filesystem."""

    async def delete_volume(self, volume_id: str) -> None:
        """Remove a detached device and its content."""

    async def resize_volume(self, volume_id: str, size_gb: int) -> None:
        """Let a device grow; its filesystem is the owner's affair."""

    async def attach_volume(self, volume_id: str, machine_id: int) -> None:
        """Show the device as `/dev/disk/by-id/scsi-0DO_Volume_<name>` in the machine."""

    async def detach_volume(self, volume_id: str, machine_id: int) -> None:
        """Take the device away from the machine."""

    async def apply_network(self, picture: NetworkPicture) -> None:
        """Make filtering and reserved addresses exactly what `picture` says."""

    async def apply_database(self, machine_id: int, server: DatabaseServer) -> None:
        """Install the server on a machine that runs, or make it what `server` says. It accepts connections then."""

    async def put_spaces_key(self, access_key: str, secret_key: str, grants: Sequence[Grant]) -> None:
        """Make or change an object storage key so that it may do just what `grants` say."""

    async def delete_spaces_key(self, access_key: str) -> None:
        """Revoke an object storage key at once."""

    async def spaces_buckets(self) -> dict[str, str]:
        """Buckets that exist now, name -> region."""

    async def reset(self) -> None:
        """Remove every machine, volume, key and bucket."""
