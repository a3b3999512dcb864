"""What requests about clusters and node pools must be like, and how they are refused."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, ip_network
from typing import Literal

from pydantic import Field

from tests.sandbox import versions
from tests.sandbox.digitalocean.kubernetes.autoscaler import seconds_of
from tests.sandbox.digitalocean.models import AutoscalerConfiguration, Droplet, KubernetesCluster, Size, Taint, Vpc
from tests.sandbox.digitalocean.routes.common import Body
from tests.sandbox.digitalocean.routes.vpcs import PRIVATE, default_vpc
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import InvalidCluster

#: What the service calls its versions: that of Kubernetes, with a suffix of its own.
SLUGS = tuple(f"{version}-do.0" for version in (versions.KUBERNETES,))
#: Names of pools are the beginnings of names of nodes.
_POOL_NAME_LENGTH = 55
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SMALLEST_MB = 2048
#: The ranges that clusters get when they ask for none, and that of their services.
_POD_RANGES = (IPv4Network("10.244.0.0/16"), *IPv4Network("10.108.0.0/14").subnets(new_prefix=16))
_SERVICE_RANGE = IPv4Network("10.245.0.0/16")


class FirewallBody(Body):
    enabled: bool = False
    allowed_addresses: list[str] = Field(default_factory=list)


class AutoscalerBody(Body):
    scale_down_utilization_threshold: float | None = None
    scale_down_unneeded_time: str | None = None
    expanders: list[Literal["random", "priority", "least_waste"]] | None = None


class PolicyBody(Body):
    start_time: str | None = None
    day: Literal["any", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] | None = None


class TaintBody(Body):
    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class PoolBody(Body):
    """A new pool, or what becomes of one; absent fields stay as they are."""

    name: str | None = None
    size: str | None = None
    count: int | None = None
    tags: list[str] | None = None
    labels: dict[str, str] | None = None
    taints: list[TaintBody] | None = None
    auto_scale: bool | None = None
    min_nodes: int | None = None
    max_nodes: int | None = None


class ClusterBody(Body):
    """What can be said of a cluster, at first or later."""

    name: str | None = None
    tags: list[str] | None = None
    maintenance_policy: PolicyBody | None = None
    auto_upgrade: bool | None = None
    surge_upgrade: bool | None = None
    ha: bool | None = None
    control_plane_firewall: FirewallBody | None = None
    cluster_autoscaler_configuration: AutoscalerBody | None = None


class NewCluster(ClusterBody):
    region: str | None = None
    version: str | None = None
    vpc_uuid: str | None = None
    cluster_subnet: str | None = None
    service_subnet: str | None = None
    node_pools: list[PoolBody] = Field(default_factory=list)


def check_name(cloud: Cloud, name: str | None, own_id: str | None = None) -> str:
    """A cluster's name. Raises InvalidCluster."""
    if not name or not _NAME.fullmatch(name):
        # The rule is documented, its words are not.
        raise InvalidCluster("name must consist of lower case alphanumeric characters or '-'")
    if any(other.id != own_id for other in cloud.store.where(KubernetesCluster, name=name)):
        raise InvalidCluster("a cluster with this name already exists")
    return name


def check_version(slug: str | None) -> str:
    """A version that is offered; `latest` and a beginning such as `1.36` stand for the newest that fits."""
    for offered in SLUGS:
        if slug in ("latest", offered) or (slug and offered.startswith(f"{slug.removesuffix('-latest')}.")):
            return offered
    raise InvalidCluster("invalid version slug")


def check_region(cloud: Cloud, slug: str | None) -> str:
    """A region that takes clusters."""
    region = cloud.catalog.regions.get(slug or "")
    if region is None or not region.available or region.slug in cloud.config.closed_regions:
        raise InvalidCluster("invalid region")
    return region.slug


def sizes_of(cloud: Cloud) -> list[Size]:
    """The sizes that nodes can have."""
    return [size for size in cloud.catalog.sizes.values() if size.memory >= _SMALLEST_MB]


def check_vpc(cloud: Cloud, uuid: str | None, region: str) -> Vpc:
    """The network of a cluster, which must be in its region."""
    if not uuid:
        return default_vpc(cloud, region)
    vpc = cloud.store.get(Vpc, uuid)
    if vpc is None or vpc.region != region:
        raise InvalidCluster("invalid vpc uuid")
    return vpc


def check_subnets(cloud: Cloud, body: NewCluster) -> tuple[str, str]:
    """The ranges of pods and of services: apart from each other, from all networks and from the pods of others."""
    taken = [IPv4Network(vpc.ip_range) for vpc in cloud.store.all(Vpc)]
    taken += [IPv4Network(other.cluster_subnet) for other in cloud.store.all(KubernetesCluster)]
    services = _range("service_subnet", body.service_subnet) if body.service_subnet else _SERVICE_RANGE
    if body.cluster_subnet:
        pods = _range("cluster_subnet", body.cluster_subnet)
    else:
        free = [one for one in _POD_RANGES if not any(one.overlaps(other) for other in (*taken, services))]
        if not free:
            raise InvalidCluster("no range is left for the cluster subnet")
        pods = free[0]
    if pods.overlaps(services) or any(pods.overlaps(other) for other in taken):
        raise InvalidCluster("cluster_subnet overlaps with another network")
    if any(services.overlaps(IPv4Network(vpc.ip_range)) for vpc in cloud.store.all(Vpc)):
        raise InvalidCluster("service_subnet overlaps with another network")
    return str(pods), str(services)


def _range(name: str, text: str) -> IPv4Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise InvalidCluster(f"{name} is not a valid CIDR") from error
    if not isinstance(network, IPv4Network) or not any(network.subnet_of(private) for private in PRIVATE):
        raise InvalidCluster(f"{name} must be in a private range")
    return network


def check_pool(cloud: Cloud, body: PoolBody, others: list[str], where: str = "worker_node_pool_spec") -> None:
    """Whether a pool can be like this. `others` are the names of the cluster's other pools."""
    if not body.name or not _NAME.fullmatch(body.name):
        raise InvalidCluster(f"{where}.pool names must consist of lower case alphanumeric characters or '-'")
    if len(body.name) > _POOL_NAME_LENGTH:
        raise InvalidCluster(f"{where}.pool names cannot be greater than {_POOL_NAME_LENGTH} characters")
    if body.name in others:
        raise InvalidCluster(f"{where}.pool names must be unique within a cluster")
    if body.size not in {size.slug for size in sizes_of(cloud)}:
        raise InvalidCluster("invalid droplet size")
    if body.auto_scale:
        lowest, highest = body.min_nodes or 0, body.max_nodes or 0
        if lowest < 0:
            raise InvalidCluster(f"{where}.min nodes must be greater than or equal to 0")
        if highest < max(1, lowest):
            raise InvalidCluster(f"{where}.max nodes must be greater than or equal to min nodes")
    elif (body.count or 0) < 1:
        raise InvalidCluster(f"{where}.count must be greater than or equal to 1")


def check_limits(cloud: Cloud, more: int, most: int) -> None:
    """Whether the account may have so many more nodes now, and by its autoscaler."""
    free = cloud.droplet_limit - len(cloud.store.all(Droplet))
    if more > max(free, 0):
        raise InvalidCluster(f"{more} additional nodes but not enough available droplet limit")
    if most > max(free, 0):
        raise InvalidCluster(
            f"autoscale desired max nodes exceed limits, {most} additional nodes but not enough available droplet limit"
        )


def autoscaler_of(body: AutoscalerBody | None, before: AutoscalerConfiguration) -> AutoscalerConfiguration:
    """The autoscaler's configuration after a request."""
    if body is None:
        return before
    changes = body.model_dump(exclude_none=True)
    threshold = changes.get("scale_down_utilization_threshold", before.scale_down_utilization_threshold)
    if not 0 <= threshold <= 1:
        raise InvalidCluster("scale_down_utilization_threshold must be between 0 and 1")
    if seconds_of(changes.get("scale_down_unneeded_time", before.scale_down_unneeded_time)) is None:
        raise InvalidCluster("scale_down_unneeded_time is not a valid duration")
    return before.model_copy(update=changes)


def check_addresses(allowed: list[str]) -> list[str]:
    """Addresses that a firewall of a control plane lets through."""
    for text in allowed:
        try:
            ip_network(text, strict=False)
        except ValueError as error:
            raise InvalidCluster(f"control_plane_firewall.allowed_addresses: {text!r} is not an address") from error
    return allowed


def taints_of(bodies: list[TaintBody]) -> list[Taint]:
    """Taints as they are kept."""
    return [Taint(**body.model_dump()) for body in bodies]
