"""What actions do once they are accepted.

Every handler can be run again from its start, because the emulator may have been stopped at any point. If the record is
gone, there is nothing left to do.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Network

from tests.sandbox.digitalocean.models import Action, Droplet, Firewall, ReservedIp, Snapshot, SpacesKey, Volume, Vpc
from tests.sandbox.digitalocean.state import addresses, backend, database_work
from tests.sandbox.digitalocean.state.cloud import Cloud, Handler
from tests.sandbox.digitalocean.state.projects import join_project, leave_projects, project_of


def machine_spec(cloud: Cloud, droplet: Droplet) -> backend.MachineSpec:
    """A droplet as the machinery needs it."""
    vpc = cloud.store.get(Vpc, droplet.vpc_uuid)
    return backend.MachineSpec(
        id=droplet.id,
        name=droplet.name,
        image=droplet.image,
        vcpus=droplet.vcpus,
        memory_mb=droplet.memory,
        disk_gb=droplet.disk,
        public_ipv4=droplet.public_ipv4,
        anchor_ipv4=droplet.anchor_ipv4,
        private_ipv4=droplet.private_ipv4,
        vpc_cidr=str(IPv4Network(vpc.ip_range)) if vpc else None,
        public_ipv6=droplet.public_ipv6,
        user_data=droplet.user_data,
        ssh_keys=tuple(droplet.ssh_keys),
        region=droplet.region,
        pod_cidr=droplet.pod_cidr,
        tags=tuple(droplet.tags),
    )


def _droplet(cloud: Cloud, action: Action) -> Droplet | None:
    return cloud.store.get(Droplet, action.owner_key)


def _set_status(cloud: Cloud, droplet_id: int, status: str) -> None:
    # Read again: tags may have changed while the backend was working.
    if droplet := cloud.store.get(Droplet, droplet_id):
        droplet.status = status
        cloud.store.put(droplet)


async def create_droplet(cloud: Cloud, action: Action) -> None:
    """Boot the machine behind its firewalls, and attach the volumes that were asked for."""
    droplet = _droplet(cloud, action)
    if droplet is None:
        return
    # Before the machine has links, so that it is never open, and after, for reserved addresses.
    cloud.network.changed()
    await cloud.network.in_force()
    await cloud.backend.create_machine(machine_spec(cloud, droplet))
    for volume_id in action.params.get("volumes", []):
        await cloud.backend.attach_volume(volume_id, droplet.id)
    cloud.network.changed()
    await cloud.network.in_force()
    _set_status(cloud, droplet.id, "active")


async def destroy_droplet(cloud: Cloud, action: Action) -> None:
    """End the machine, then forget the droplet wherever it is mentioned."""
    droplet = _droplet(cloud, action)
    if droplet is None:
        return
    for volume in cloud.store.where(Volume, droplet_id=droplet.id):
        await cloud.backend.detach_volume(volume.id, droplet.id)
    await cloud.backend.destroy_machine(droplet.id)
    with cloud.store.transaction():
        for volume in cloud.store.where(Volume, droplet_id=droplet.id):
            volume.droplet_id = None
            cloud.store.put(volume)
        for ip in cloud.store.where(ReservedIp, droplet_id=droplet.id):
            ip.droplet_id = None
            cloud.store.put(ip)
        for firewall in cloud.store.all(Firewall):
            _forget_droplet(cloud, firewall, droplet.id)
        addresses.release(cloud.store, droplet.urn)
        leave_projects(cloud, droplet.urn)
        cloud.store.delete(droplet)
    cloud.network.changed()
    await cloud.network.in_force()


def _forget_droplet(cloud: Cloud, firewall: Firewall, droplet_id: int) -> None:
    mentions = [firewall.droplet_ids, *(rule.target.droplet_ids for rule in (*firewall.inbound, *firewall.outbound))]
    if any(droplet_id in ids for ids in mentions):
        for ids in mentions:
            ids[:] = [other for other in ids if other != droplet_id]
        cloud.store.put(firewall)


async def power_on(cloud: Cloud, action: Action) -> None:
    """Boot."""
    if droplet := _droplet(cloud, action):
        await cloud.backend.power_on(droplet.id)
        _set_status(cloud, droplet.id, "active")


async def power_off(cloud: Cloud, action: Action) -> None:
    """Pull the plug."""
    if droplet := _droplet(cloud, action):
        await cloud.backend.power_off(droplet.id)
        _set_status(cloud, droplet.id, "off")


async def shut_down(cloud: Cloud, action: Action) -> None:
    """Ask the machine to end."""
    if droplet := _droplet(cloud, action):
        await cloud.backend.shut_down(droplet.id)
        _set_status(cloud, droplet.id, "off")


async def reboot(cloud: Cloud, action: Action) -> None:
    """Restart gracefully."""
    if droplet := _droplet(cloud, action):
        await cloud.backend.reboot(droplet.id)


async def power_cycle(cloud: Cloud, action: Action) -> None:
    """Pull the plug and put it back."""
    if droplet := _droplet(cloud, action):
        await cloud.backend.power_off(droplet.id)
        await cloud.backend.power_on(droplet.id)
        _set_status(cloud, droplet.id, "active")


async def resize_droplet(cloud: Cloud, action: Action) -> None:
    """Give the machine another size; its disk grows only if that was asked for."""
    droplet = _droplet(cloud, action)
    if droplet is None:
        return
    size = cloud.catalog.sizes[action.params["size"]]
    disk = size.disk if action.params["disk"] else droplet.disk
    await cloud.backend.resize_machine(droplet.id, size.vcpus, size.memory, disk)
    if droplet := _droplet(cloud, action):
        droplet.size, droplet.vcpus, droplet.memory, droplet.disk = size.slug, size.vcpus, size.memory, disk
        cloud.store.put(droplet)


async def rename_droplet(cloud: Cloud, action: Action) -> None:
    """Change the name; the machine's own host name is its owner's affair."""
    if droplet := _droplet(cloud, action):
        await cloud.backend.rename_machine(droplet.id, action.params["name"])
        if droplet := _droplet(cloud, action):
            droplet.name = action.params["name"]
            cloud.store.put(droplet)


async def rebuild_droplet(cloud: Cloud, action: Action) -> None:
    """Start over from an image."""
    if droplet := _droplet(cloud, action):
        droplet.image = action.params["image"]
        await cloud.backend.rebuild_machine(machine_spec(cloud, droplet))
        if droplet := _droplet(cloud, action):
            droplet.image, droplet.status = action.params["image"], "active"
            cloud.store.put(droplet)


async def snapshot_droplet(cloud: Cloud, action: Action) -> None:
    """Keep the disk as it is now. Until then the list of snapshots does not have it."""
    droplet = _droplet(cloud, action)
    if droplet is None:
        return
    number = action.params["id"]
    size = await cloud.backend.create_snapshot(droplet.id, number)
    base = cloud.catalog.image(droplet.image) or cloud.store.get(Snapshot, droplet.image)
    cloud.store.put(
        Snapshot(
            id=number,
            name=action.params["name"],
            droplet_id=droplet.id,
            distribution=base.distribution if base else "Unknown",
            region=droplet.region,
            min_disk_size=droplet.disk,
            size_gigabytes=size,
            created_at=action.started_at,
            status="available",
        )
    )


async def delete_snapshot(cloud: Cloud, action: Action) -> None:
    """Remove what was kept. Droplets that were made from it stay."""
    await cloud.backend.delete_snapshot(int(action.owner_key))


async def attach_volume(cloud: Cloud, action: Action) -> None:
    """Show a volume to a droplet."""
    volume = cloud.store.get(Volume, action.owner_key)
    if volume is None or action.droplet_id is None:
        return
    await cloud.backend.attach_volume(volume.id, action.droplet_id)
    volume.droplet_id = action.droplet_id
    cloud.store.put(volume)


async def detach_volume(cloud: Cloud, action: Action) -> None:
    """Take a volume away from a droplet."""
    volume = cloud.store.get(Volume, action.owner_key)
    if volume is None or action.droplet_id is None:
        return
    await cloud.backend.detach_volume(volume.id, action.droplet_id)
    volume.droplet_id = None
    cloud.store.put(volume)


async def resize_volume(cloud: Cloud, action: Action) -> None:
    """Let a volume grow."""
    if volume := cloud.store.get(Volume, action.owner_key):
        await cloud.backend.resize_volume(volume.id, action.params["size_gigabytes"])
        if volume := cloud.store.get(Volume, action.owner_key):
            volume.size_gigabytes = action.params["size_gigabytes"]
            cloud.store.put(volume)


async def create_volume(cloud: Cloud, action: Action) -> None:
    """Make the device."""
    if volume := cloud.store.get(Volume, action.owner_key):
        await cloud.backend.create_volume(
            backend.VolumeSpec(
                id=volume.id,
                name=volume.name,
                size_gb=volume.size_gigabytes,
                filesystem=volume.filesystem_type,
                label=volume.filesystem_label,
            )
        )


async def delete_volume(cloud: Cloud, action: Action) -> None:
    """Remove the device, then the record."""
    if volume := cloud.store.get(Volume, action.owner_key):
        await cloud.backend.delete_volume(volume.id)
        with cloud.store.transaction():
            leave_projects(cloud, volume.urn)
            cloud.store.delete(volume)


async def assign_reserved_ip(cloud: Cloud, action: Action) -> None:
    """Point an address to a droplet, or to nothing."""
    if ip := cloud.store.get(ReservedIp, action.owner_key):
        ip.droplet_id = action.params.get("droplet_id")
        droplet = cloud.store.get(Droplet, ip.droplet_id) if ip.droplet_id is not None else None
        with cloud.store.transaction():
            cloud.store.put(ip)
            if droplet is not None:
                join_project(cloud, ip.urn, project_of(cloud, droplet.urn))
        cloud.network.changed()
        await cloud.network.in_force()


async def put_spaces_key(cloud: Cloud, action: Action) -> None:
    """Let a key do what its grants say, once it has reached Spaces."""
    await asyncio.sleep(action.params.get("after", 0))
    if key := cloud.store.get(SpacesKey, action.owner_key):
        grants = [backend.Grant(bucket=grant.bucket, permission=grant.permission) for grant in key.grants]
        await cloud.backend.put_spaces_key(key.access_key, key.secret_key, grants)


async def delete_spaces_key(cloud: Cloud, action: Action) -> None:
    """Revoke a key, then forget it."""
    if key := cloud.store.get(SpacesKey, action.owner_key):
        await cloud.backend.delete_spaces_key(key.access_key)
        cloud.store.delete(key)


async def enable_ipv6(cloud: Cloud, action: Action) -> None:
    """Give a droplet an IPv6 address. The machine's owner has to configure it, as on the real service."""
    if droplet := _droplet(cloud, action):
        with cloud.store.transaction():
            if droplet.public_ipv6 is None:
                droplet.public_ipv6 = addresses.lease(cloud.store, "public6", droplet.urn)
                droplet.features = sorted({*droplet.features, "ipv6"})
                cloud.store.put(droplet)
        cloud.network.changed()
        await cloud.network.in_force()


HANDLERS: dict[str, Handler] = {
    **database_work.HANDLERS,
    "droplet.create": create_droplet,
    "droplet.destroy": destroy_droplet,
    "droplet.power_on": power_on,
    "droplet.power_off": power_off,
    "droplet.shutdown": shut_down,
    "droplet.reboot": reboot,
    "droplet.power_cycle": power_cycle,
    "droplet.resize": resize_droplet,
    "droplet.rename": rename_droplet,
    "droplet.rebuild": rebuild_droplet,
    "droplet.enable_ipv6": enable_ipv6,
    "droplet.snapshot": snapshot_droplet,
    "snapshot.delete": delete_snapshot,
    "volume.create": create_volume,
    "volume.delete": delete_volume,
    "volume.attach": attach_volume,
    "volume.detach": detach_volume,
    "volume.resize": resize_volume,
    "reserved_ip.assign": assign_reserved_ip,
    "reserved_ip.unassign": assign_reserved_ip,
    "spaces_key.put": put_spaces_key,
    "spaces_key.delete": delete_spaces_key,
}
