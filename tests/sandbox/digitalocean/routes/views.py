"""The JSON of records."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from tests.sandbox import layout
from tests.sandbox.digitalocean.models import (
    Action,
    Domain,
    Droplet,
    Firewall,
    FirewallRule,
    Image,
    ProjectMember,
    Region,
    ReservedIp,
    Size,
    Snapshot,
    SpacesKey,
    Tag,
    Volume,
    Vpc,
)
from tests.sandbox.digitalocean.models.catalog import REGION_FEATURES
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.projects import default_project

Json = dict[str, Any]

#: The number of the image of all nodes of Kubernetes clusters.
_NODE_IMAGE = 195_000_001

#: Resource types that a tag counts, in the API's order.
TAGGABLE = ("droplets", "images", "volumes", "volume_snapshots", "databases")


def region_json(cloud: Cloud, region: Region) -> Json:
    """A region; one that takes no droplets has no sizes."""
    is_open = region.available and region.slug not in cloud.config.closed_regions
    return {
        "name": region.name,
        "slug": region.slug,
        "features": list(REGION_FEATURES),
        "available": is_open,
        "sizes": cloud.catalog.sizes_in(region.slug) if is_open else [],
    }


def region_of(cloud: Cloud, slug: str) -> Json:
    """The region of a record."""
    return region_json(cloud, cloud.catalog.regions[slug])


def size_json(size: Size) -> Json:
    """A size with its prices."""
    return {
        "slug": size.slug,
        "memory": size.memory,
        "vcpus": size.vcpus,
        "disk": size.disk,
        "transfer": size.transfer,
        "price_monthly": size.price_monthly,
        "price_hourly": size.price_hourly,
        "regions": sorted(size.regions),
        "available": True,
        "description": size.description,
        "disk_info": _disk_info(size.disk),
    }


def _disk_info(gigabytes: int) -> list[Json]:
    return [{"type": "local", "size": {"amount": gigabytes, "unit": "gib"}}]


def image_json(cloud: Cloud, image: Image) -> Json:
    """A public base image."""
    return {
        "id": image.id,
        "name": image.name,
        "distribution": image.distribution,
        "slug": image.slug,
        "public": True,
        "regions": sorted(cloud.catalog.regions),
        "created_at": image.created_at,
        "min_disk_size": image.min_disk_size,
        "type": "base",
        "size_gigabytes": image.size_gigabytes,
        "description": f"{image.distribution} {image.name}",
        "tags": [],
        "status": "available",
        "error_message": "",
    }


def private_image_json(snapshot: Snapshot) -> Json:
    """A snapshot of a droplet, as one of the images."""
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "distribution": snapshot.distribution,
        "slug": None,
        "public": False,
        "regions": [snapshot.region],
        "created_at": snapshot.created_at,
        "min_disk_size": snapshot.min_disk_size,
        "type": "snapshot",
        "size_gigabytes": snapshot.size_gigabytes,
        "description": None,
        "tags": snapshot.tags,
        "status": snapshot.status,
        "error_message": "",
    }


def snapshot_json(snapshot: Snapshot) -> Json:
    """A snapshot of a droplet, as one of the snapshots of the account."""
    return {
        "id": snapshot.key,
        "name": snapshot.name,
        "created_at": snapshot.created_at,
        "regions": [snapshot.region],
        "min_disk_size": snapshot.min_disk_size,
        "size_gigabytes": snapshot.size_gigabytes,
        "resource_id": str(snapshot.droplet_id),
        "resource_type": "droplet",
        "tags": snapshot.tags,
    }


def _node_image_json(droplet: Droplet) -> Json:
    """The image of a node of a Kubernetes cluster, which is the service's own: it has a name, but no slug."""
    return {
        "id": _NODE_IMAGE,
        "name": f"do-{droplet.image}",
        "distribution": "Debian",
        "slug": None,
        "public": False,
        "regions": [droplet.region],
        "created_at": droplet.created_at,
        "min_disk_size": 20,
        "type": "snapshot",
        "size_gigabytes": 1.2,
        "description": "",
        "tags": [],
        "status": "available",
        "error_message": "",
    }


def _image_of(cloud: Cloud, droplet: Droplet) -> Json | None:
    image = cloud.catalog.image(droplet.image)
    if image is not None:
        return image_json(cloud, image)
    if droplet.pod_cidr:
        return _node_image_json(droplet)
    snapshot = cloud.store.get(Snapshot, droplet.image)
    return private_image_json(snapshot) if snapshot else None


def droplet_json(cloud: Cloud, droplet: Droplet) -> Json:
    """A droplet with everything it is made of."""
    snapshots = cloud.store.where(Snapshot, droplet_id=droplet.id, status="available")
    size = size_json(cloud.catalog.sizes[droplet.size])
    return {
        "id": droplet.id,
        "name": droplet.name,
        "memory": droplet.memory,
        "vcpus": droplet.vcpus,
        "disk": droplet.disk,
        "disk_info": _disk_info(droplet.disk),
        "locked": bool(cloud.pending(droplet)),
        "status": droplet.status,
        "kernel": None,
        "created_at": droplet.created_at,
        "features": droplet.features,
        "backup_ids": [],
        "next_backup_window": None,
        "snapshot_ids": [snapshot.id for snapshot in snapshots],
        "image": _image_of(cloud, droplet),
        "volume_ids": [volume.id for volume in cloud.store.where(Volume, droplet_id=droplet.id)],
        "size": size,
        "size_slug": droplet.size,
        "networks": _networks(cloud, droplet),
        "region": region_of(cloud, droplet.region),
        "tags": droplet.tags,
        "vpc_uuid": droplet.vpc_uuid,
    }


def _networks(cloud: Cloud, droplet: Droplet) -> Json:
    if droplet.status == "new":
        return {"v4": [], "v6": []}
    vpc = cloud.store.get(Vpc, droplet.vpc_uuid)
    v4: list[Json] = []
    if vpc is not None:
        netmask = str(IPv4Network(vpc.ip_range).netmask)
        # The document shows the string "nil" as the gateway of private networks.
        v4.append({"ip_address": droplet.private_ipv4, "netmask": netmask, "gateway": "nil", "type": "private"})
    v4.append(
        {
            "ip_address": droplet.public_ipv4,
            "netmask": str(layout.PUBLIC_NETWORK.netmask),
            "gateway": str(layout.PUBLIC_GATEWAY),
            "type": "public",
        }
    )
    v6: list[Json] = []
    if droplet.public_ipv6:
        network = layout.PUBLIC_NETWORK6
        v6.append(
            {
                "ip_address": droplet.public_ipv6,
                "netmask": network.prefixlen,
                "gateway": str(network[1]),
                "type": "public",
            }
        )
    return {"v4": v4, "v6": v6}


def action_json(cloud: Cloud, action: Action) -> Json:
    """An action. Only droplets and reserved IPs have numbers that it can point to."""
    resource_id: int | None = None
    if action.owner_kind == Droplet.kind:
        resource_id = int(action.owner_key)
    elif action.owner_kind == ReservedIp.kind:
        resource_id = int(IPv4Address(action.owner_key))
    return {
        "id": action.id,
        "status": action.status,
        "type": action.type,
        "started_at": action.started_at,
        "completed_at": action.completed_at,
        "resource_id": resource_id,
        "resource_type": action.resource_type,
        "region": region_of(cloud, action.region) if action.region else None,
        "region_slug": action.region,
    }


def volume_json(cloud: Cloud, volume: Volume) -> Json:
    """A volume."""
    return {
        "id": volume.id,
        "name": volume.name,
        "description": volume.description,
        "size_gigabytes": volume.size_gigabytes,
        "created_at": volume.created_at,
        "droplet_ids": [volume.droplet_id] if volume.droplet_id is not None else [],
        "region": region_of(cloud, volume.region),
        "filesystem_type": volume.filesystem_type,
        "filesystem_label": volume.filesystem_label,
        "tags": volume.tags,
    }


def reserved_ip_json(cloud: Cloud, ip: ReservedIp) -> Json:
    """A reserved IP with the whole droplet that it points to."""
    droplet = cloud.store.get(Droplet, ip.droplet_id) if ip.droplet_id is not None else None
    member = cloud.store.get(ProjectMember, ip.urn)
    return {
        "ip": ip.ip,
        "region": region_of(cloud, ip.region),
        "droplet": droplet_json(cloud, droplet) if droplet else None,
        "locked": bool(cloud.pending_for(ip)),
        "project_id": member.project_id if member else default_project(cloud).id,
    }


def vpc_json(vpc: Vpc) -> Json:
    """A VPC."""
    return {
        "id": vpc.id,
        "urn": vpc.urn,
        "name": vpc.name,
        "description": vpc.description,
        "region": vpc.region,
        "ip_range": vpc.ip_range,
        "created_at": vpc.created_at,
        "default": vpc.default,
    }


def firewall_json(firewall: Firewall) -> Json:
    """A firewall. `pending_changes` lists its droplets for as long as the rules are not in force."""
    waiting = firewall.status == "waiting"
    return {
        "id": firewall.id,
        "name": firewall.name,
        "status": firewall.status,
        "inbound_rules": [rule_json(rule, "sources") for rule in firewall.inbound],
        "outbound_rules": [rule_json(rule, "destinations") for rule in firewall.outbound],
        "created_at": firewall.created_at,
        "droplet_ids": firewall.droplet_ids,
        "tags": firewall.tags,
        "pending_changes": [
            {"droplet_id": droplet_id, "removing": False, "status": "waiting"}
            for droplet_id in firewall.droplet_ids
            if waiting
        ],
    }


def rule_json(rule: FirewallRule, side: str) -> Json:
    """A rule: only what its target names is in it."""
    target = {name: value for name, value in rule.target.model_dump().items() if value}
    return {"protocol": rule.protocol, "ports": rule.ports, side: target}


def tag_json(cloud: Cloud, tag: Tag) -> Json:
    """A tag with what carries it, counted by type."""
    carriers: dict[str, list[Droplet] | list[Volume]] = {
        "droplets": [d for d in cloud.store.all(Droplet) if tag.name in d.tags],
        "volumes": [v for v in cloud.store.all(Volume) if tag.name in v.tags],
    }
    resources: Json = {"count": sum(len(items) for items in carriers.values())}
    for kind in TAGGABLE:
        count = len(carriers.get(kind, []))
        resources[kind] = {"count": count}
        if count and kind in tag.last_tagged:
            resources[kind]["last_tagged_uri"] = resources["last_tagged_uri"] = tag.last_tagged[kind]
    return {"name": tag.name, "resources": resources}


def spaces_key_json(key: SpacesKey, *, with_secret: bool = False) -> Json:
    """A Spaces key; its secret is shown once, in the answer to its creation."""
    view: Json = {
        "name": key.name,
        "access_key": key.access_key,
        "grants": [grant.model_dump() for grant in key.grants],
        "created_at": key.created_at,
    }
    return view | {"secret_key": key.secret_key} if with_secret else view


def domain_json(domain: Domain, zone_file: str | None) -> Json:
    """A domain; a fresh one has no zone file yet."""
    return {"name": domain.name, "ttl": domain.ttl, "zone_file": zone_file}
