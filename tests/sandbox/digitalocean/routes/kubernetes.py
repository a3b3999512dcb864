"""/v2/kubernetes: clusters, and what they can be made of. Node pools are in `kubernetes_pools.py`."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.kubernetes import nodes, seeds, tokens
from tests.sandbox.digitalocean.kubernetes.certificates import new_secrets
from tests.sandbox.digitalocean.kubernetes.work import firewall_name
from tests.sandbox.digitalocean.models import (
    ControlPlaneFirewall,
    Firewall,
    FirewallRule,
    KubernetesCluster,
    MaintenancePolicy,
    RuleTarget,
    Vpc,
    now,
)
from tests.sandbox.digitalocean.routes import kubernetes_checks as checks
from tests.sandbox.digitalocean.routes.common import (
    answer,
    body_of,
    cloud_of,
    find,
    gap,
    json_of,
    no_content,
    page,
    unsupported,
)
from tests.sandbox.digitalocean.routes.kubernetes_pools import make_pool, pool_json
from tests.sandbox.digitalocean.state import addresses
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import BadRequest, InvalidCluster
from tests.sandbox.digitalocean.state.projects import join_default_project
from tests.sandbox.digitalocean.state.tagging import ensure_tags

#: Parts of the service that the emulator lacks. Absent or switched off, they make no difference.
LACKING = (
    "amd_gpu_device_metrics_exporter_plugin",
    "amd_gpu_device_plugin",
    "amd_gpu_dra_driver",
    "coredns_autoscaler",
    "gpu_operator_ready",
    "isolated_workers",
    "nfs_csi_plugin",
    "nvidia_gpu_device_plugin",
    "nvidia_gpu_dra_driver",
    "p2p_oci_registry_plugin",
    "rdma_shared_dev_plugin",
    "registries",
    "registry_enabled",
    "routing_agent",
    "sso",
    "worker_subnet_uuid",
)


def cluster_json(cloud: Cloud, cluster: KubernetesCluster) -> dict[str, Any]:
    """A cluster with its pools."""
    status: dict[str, str] = {"state": cluster.status}
    return {
        "id": cluster.id,
        "name": cluster.name,
        "region": cluster.region,
        "version": cluster.version,
        "cluster_subnet": cluster.cluster_subnet,
        "service_subnet": cluster.service_subnet,
        "vpc_uuid": cluster.vpc_uuid,
        # A highly available control plane has more than one address.
        "ipv4": "" if cluster.ha or cluster.status == "provisioning" else cluster.public_ipv4,
        "endpoint": "" if cluster.status == "provisioning" else f"https://{cluster.host}",
        "tags": ["k8s", f"k8s:{cluster.id}", *cluster.tags],
        "node_pools": [pool_json(cloud, pool) for pool in nodes.pools_of(cloud, cluster)],
        "maintenance_policy": cluster.maintenance_policy.model_dump(),
        "auto_upgrade": cluster.auto_upgrade,
        "surge_upgrade": cluster.surge_upgrade,
        "ha": cluster.ha,
        "registry_enabled": False,
        "control_plane_firewall": cluster.firewall.model_dump(),
        "cluster_autoscaler_configuration": cluster.autoscaler.model_dump(),
        "status": status | ({"message": cluster.message} if cluster.message else {}),
        "created_at": cluster.created_at,
        "updated_at": cluster.updated_at,
    }


def find_cluster(request: Request) -> KubernetesCluster:
    """The cluster of a path."""
    return find(request, KubernetesCluster, request.path_params["cluster_id"])


async def show_options(request: Request) -> Response:
    cloud = cloud_of(request)
    regions = [region for region in cloud.catalog.regions.values() if region.available]
    options = {
        "regions": [{"name": region.name, "slug": region.slug} for region in regions],
        "versions": [
            {
                "slug": slug,
                "kubernetes_version": nodes.kubernetes_version(slug),
                "supported_features": ["cluster-autoscaler", "ha-control-plane", "token-authentication"],
            }
            for slug in checks.SLUGS
        ],
        "sizes": [{"name": size.slug, "slug": size.slug} for size in checks.sizes_of(cloud)],
    }
    return answer({"options": options})


async def list_clusters(request: Request) -> Response:
    cloud = cloud_of(request)
    return page(
        request, "kubernetes_clusters", cloud.store.all(KubernetesCluster), lambda one: cluster_json(cloud, one)
    )


async def _check_lacking(request: Request) -> None:
    content = await json_of(request)
    for name in LACKING:
        value = content.get(name)
        if value.get("enabled") if isinstance(value, dict) else value:
            raise gap(request, f"{name} of Kubernetes clusters")


async def create_cluster(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, checks.NewCluster)
    await _check_lacking(request)
    region, version = checks.check_region(cloud, body.region), checks.check_version(body.version)
    _check_pools(cloud, body)
    if nodes.kubernetes_version(version) not in cloud.backend.kubernetes_versions:
        raise gap(request, "Kubernetes before `python -m tests.sandbox prepare --kubernetes` has built it")
    with cloud.store.transaction():
        cluster = _make(cloud, body, region=region, version=version)
        for spec in body.node_pools:
            make_pool(cloud, cluster, spec)
        cloud.act("kubernetes.create", cluster, type_="create", region=region, public=False)
    cloud.network.changed()
    return answer({"kubernetes_cluster": cluster_json(cloud, cluster)}, 201)


def _check_pools(cloud: Cloud, body: checks.NewCluster) -> None:
    if not body.node_pools:
        raise InvalidCluster("worker_node_pool_specs: at least one node pool is required")
    names: list[str] = []
    for number, spec in enumerate(body.node_pools):
        checks.check_pool(cloud, spec, names, f"worker_node_pool_specs[{number}]")
        names.append(spec.name or "")
    scaled = [spec for spec in body.node_pools if spec.auto_scale]
    fixed = sum(spec.count or 0 for spec in body.node_pools if not spec.auto_scale)
    first = fixed + sum(spec.count or spec.min_nodes or 0 for spec in scaled)
    checks.check_limits(cloud, first, fixed + sum(spec.max_nodes or 0 for spec in scaled) if scaled else 0)


def _make(cloud: Cloud, body: checks.NewCluster, *, region: str, version: str) -> KubernetesCluster:
    number = str(uuid.uuid4())
    name, owner = checks.check_name(cloud, body.name), f"do:kubernetes:{number}"
    vpc = checks.check_vpc(cloud, body.vpc_uuid, region)
    pods, services = checks.check_subnets(cloud, body)
    cluster = KubernetesCluster(
        id=number,
        name=name,
        region=region,
        version=version,
        vpc_uuid=vpc.id,
        cluster_subnet=pods,
        service_subnet=services,
        # From the numbers of droplets, so that no machine has the number of another.
        machine_id=cloud.store.next_number("droplet", 510_000_001),
        public_ipv4=addresses.lease(cloud.store, "public", owner),
        anchor_ipv4=addresses.lease(cloud.store, "anchor", owner),
        private_ipv4=addresses.lease_private(cloud.store, vpc, owner),
        # The default of clusters from 1.36 on, as the document of the API says.
        ha=True if body.ha is None else body.ha,
        created_at=now(),
        updated_at=now(),
        secrets=new_secrets(),
    )
    _change(cloud, cluster, body)
    cloud.store.put(cluster)
    cloud.store.put(_firewall(cloud, cluster, vpc))
    join_default_project(cloud, cluster.urn)
    return cluster


def _firewall(cloud: Cloud, cluster: KubernetesCluster, vpc: Vpc) -> Firewall:
    """What the service keeps before the nodes: nothing from outside, everything from the cluster and its network."""
    inside = RuleTarget(addresses=[cluster.cluster_subnet, cluster.service_subnet, vpc.ip_range])
    outside = RuleTarget(addresses=["0.0.0.0/0", "::/0"])
    return Firewall(
        id=str(uuid.uuid4()),
        name=firewall_name(cluster),
        created_at=now(),
        inbound=[FirewallRule(protocol=one, ports="0", target=inside) for one in ("icmp", "tcp", "udp")],
        outbound=[FirewallRule(protocol=one, ports="0", target=outside) for one in ("icmp", "tcp", "udp")],
        tags=ensure_tags(cloud, [f"k8s:{cluster.id}"]),
    )


def _change(cloud: Cloud, cluster: KubernetesCluster, body: checks.ClusterBody) -> None:
    if body.tags is not None:
        kept = [tag for tag in body.tags if tag not in ("k8s", f"k8s:{cluster.id}")]
        cluster.tags = ensure_tags(cloud, kept)
    if body.maintenance_policy is not None:
        policy = body.maintenance_policy.model_dump(exclude_none=True)
        cluster.maintenance_policy = MaintenancePolicy(**(cluster.maintenance_policy.model_dump() | policy))
    if body.auto_upgrade is not None:
        cluster.auto_upgrade = body.auto_upgrade
    if body.surge_upgrade is not None:
        cluster.surge_upgrade = body.surge_upgrade
    if body.control_plane_firewall is not None:
        allowed = checks.check_addresses(body.control_plane_firewall.allowed_addresses)
        enabled = body.control_plane_firewall.enabled
        cluster.firewall = ControlPlaneFirewall(enabled=enabled, allowed_addresses=allowed)
    cluster.autoscaler = checks.autoscaler_of(body.cluster_autoscaler_configuration, cluster.autoscaler)
    cluster.updated_at = now()


async def show_cluster(request: Request) -> Response:
    return answer({"kubernetes_cluster": cluster_json(cloud_of(request), find_cluster(request))})


async def change_cluster(request: Request) -> Response:
    cloud, cluster = cloud_of(request), find_cluster(request)
    body = await body_of(request, checks.ClusterBody)
    await _check_lacking(request)
    cluster.name = checks.check_name(cloud, body.name, cluster.id)
    if body.ha is False and cluster.ha:
        # The rule is documented, its words are not.
        raise InvalidCluster("high availability cannot be disabled")
    cluster.ha = cluster.ha or bool(body.ha)
    with cloud.store.transaction():
        _change(cloud, cluster, body)
        cloud.store.put(cluster)
    cloud.network.changed()
    return answer({"kubernetes_cluster": cluster_json(cloud, cluster)}, 202)


async def delete_cluster(request: Request) -> Response:
    cloud, cluster = cloud_of(request), find_cluster(request)
    if cluster.status == "deleting":
        return no_content()
    with cloud.store.transaction():
        cluster.status, cluster.updated_at = "deleting", now()
        cloud.store.put(cluster)
        cloud.act("kubernetes.delete", cluster, type_="destroy", region=cluster.region, public=False)
    return no_content()


async def list_associated(request: Request) -> Response:
    find_cluster(request)
    return answer({"load_balancers": [], "volumes": [], "volume_snapshots": []})


def _lifetime(request: Request) -> int:
    text = request.query_params.get("expiry_seconds", "0")
    if not text.isdigit():
        raise BadRequest("invalid expiry_seconds")
    return int(text)


async def show_kubeconfig(request: Request) -> Response:
    if request.query_params.get("type", "token") != "token":
        raise gap(request, "kubeconfigs other than those with a token")
    cloud, cluster = cloud_of(request), find_cluster(request)
    token, _ = tokens.issue(cloud, cluster, _lifetime(request))
    return Response(seeds.kubeconfig(cluster, token), media_type="application/yaml")


async def show_credentials(request: Request) -> Response:
    cloud, cluster = cloud_of(request), find_cluster(request)
    token, expires_at = tokens.issue(cloud, cluster, _lifetime(request))
    return answer(
        {
            "server": f"https://{cluster.host}",
            "certificate_authority_data": seeds.base64_of(cluster.secrets["ca.crt"]),
            "client_certificate_data": None,
            "client_key_data": None,
            "token": token,
            "expires_at": expires_at,
        }
    )


async def list_upgrades(request: Request) -> Response:
    """Only one version is offered, so there is never a newer one."""
    find_cluster(request)
    return answer({"available_upgrade_versions": None})


async def show_user(request: Request) -> Response:
    find_cluster(request)
    user = {"username": cloud_of(request).config.email, "groups": ["k8saas:authenticated", "k8saas:owner"]}
    return answer({"kubernetes_cluster_user": user})


_CLUSTER = "/v2/kubernetes/clusters/{cluster_id}"
ROUTES = [
    Route("/v2/kubernetes/options", show_options, methods=["GET"]),
    Route("/v2/kubernetes/clusters", list_clusters, methods=["GET"]),
    Route("/v2/kubernetes/clusters", create_cluster, methods=["POST"]),
    Route(_CLUSTER, show_cluster, methods=["GET"]),
    Route(_CLUSTER, change_cluster, methods=["PUT"]),
    Route(_CLUSTER, delete_cluster, methods=["DELETE"]),
    Route(f"{_CLUSTER}/kubeconfig", show_kubeconfig, methods=["GET"]),
    Route(f"{_CLUSTER}/credentials", show_credentials, methods=["GET"]),
    # There are no load balancers, volumes or snapshots of clusters that could go along.
    Route(f"{_CLUSTER}/destroy_with_associated_resources/dangerous", delete_cluster, methods=["DELETE"]),
    Route(f"{_CLUSTER}/destroy_with_associated_resources", list_associated, methods=["GET"]),
    Route(f"{_CLUSTER}/upgrades", list_upgrades, methods=["GET"]),
    Route(f"{_CLUSTER}/upgrade", unsupported("upgrades of Kubernetes clusters"), methods=["POST"]),
    Route(f"{_CLUSTER}/user", show_user, methods=["GET"]),
]
