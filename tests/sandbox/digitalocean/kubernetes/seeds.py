"""What the machines of a cluster are told at their first boot, as user data.

As on the real service, whatever runs on a node and reaches the metadata service can read the node's own credentials
there; a network policy has to keep pods from it.
"""

from __future__ import annotations

import base64
import json
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import jinja2

from tests.sandbox import versions
from tests.sandbox.digitalocean.kubernetes.certificates import issue
from tests.sandbox.digitalocean.models import Droplet, KubernetesCluster, NodePool, Vpc
from tests.sandbox.digitalocean.state.clusters import Access, NodeMarks

_FOLDER = "/etc/kubernetes"
_TEMPLATES = jinja2.Environment(  # noqa: S701 - not HTML
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)
#: What pods may have of a node, as the service documents it: thousandths of processors, and memory in MB by the memory
#: of the droplet (https://docs.digitalocean.com/products/kubernetes/details/limits/#allocatable-memory).
_ALLOCATABLE_MB = ((2048, 1024), (3072, 1740), (4096, 2560), (8192, 6144), (16384, 13312), (32768, 28672))


def allocatable(vcpus: int, memory_mb: int) -> tuple[int, int]:
    """Thousandths of processors and MB that pods may have of a droplet of this size."""
    fitting = [given for memory, given in _ALLOCATABLE_MB if memory <= memory_mb]
    return vcpus * 1000 - 100, fitting[-1] if fitting else memory_mb // 2


def dns_address(cluster: KubernetesCluster) -> str:
    """The service address of the cluster's DNS."""
    return str(IPv4Network(cluster.service_subnet)[10])


def marks(cluster: KubernetesCluster, pool: NodePool, node_id: str, droplet: Droplet) -> NodeMarks:
    """Labels and taints of a node: those of its pool, and those that the service gives."""
    own = {
        "doks.digitalocean.com/node-id": node_id,
        "doks.digitalocean.com/node-pool": pool.name,
        "doks.digitalocean.com/node-pool-id": pool.id,
        "doks.digitalocean.com/version": cluster.version,
        "doks.digitalocean.com/managed": "true",
        "node.kubernetes.io/instance-type": droplet.size,
        "topology.kubernetes.io/region": droplet.region,
        "region": droplet.region,
    }
    taints = [taint.model_dump(exclude_defaults=True) for taint in pool.taints]
    return NodeMarks(pool.labels | own, taints, droplet.pod_cidr or "")


def access(cluster: KubernetesCluster) -> Access:
    """How the service reaches the cluster."""
    certificate, key = issue(cluster.secrets, "digitalocean", ["system:masters"])
    return Access(cluster.public_ipv4, cluster.secrets["ca.crt"], certificate, key)


def control_plane(cluster: KubernetesCluster) -> str:
    """User data of the control plane."""
    service = str(IPv4Network(cluster.service_subnet)[1])
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    server = issue(cluster.secrets, "kube-apiserver", hosts=[cluster.host, cluster.public_ipv4, service, *names])
    client = issue(cluster.secrets, "kube-apiserver")
    files = {
        f"{_FOLDER}/ca.crt": cluster.secrets["ca.crt"],
        f"{_FOLDER}/service-accounts.key": cluster.secrets["service-accounts.key"],
        f"{_FOLDER}/kube-apiserver.crt": server[0],
        f"{_FOLDER}/kube-apiserver.key": server[1],
        f"{_FOLDER}/kubelet-client.crt": client[0],
        f"{_FOLDER}/kubelet-client.key": client[1],
        f"{_FOLDER}/cluster.env": _render("cluster.env.j2", cluster=cluster),
        f"{_FOLDER}/tokens.kubeconfig": _render("tokens.kubeconfig.j2"),
        f"{_FOLDER}/addons.yaml": _addons(cluster),
        f"{_FOLDER}/admin.kubeconfig": _client(cluster, "kubernetes-admin", "system:masters"),
        f"{_FOLDER}/kube-controller-manager.kubeconfig": _client(cluster, "system:kube-controller-manager"),
        f"{_FOLDER}/kube-scheduler.kubeconfig": _client(cluster, "system:kube-scheduler"),
    }
    return _user_data(files, "kubernetes-control-plane.target")


def _addons(cluster: KubernetesCluster) -> str:
    """What every cluster brings along."""
    own = {"coredns": versions.COREDNS, "pause": versions.PAUSE, "dns_address": dns_address(cluster)}
    return _render("addons.yaml.j2", **own)


def worker(cluster: KubernetesCluster, pool: NodePool, node_id: str, droplet: Droplet, vpc: Vpc) -> str:
    """User data of a node."""
    found = marks(cluster, pool, node_id, droplet)
    millis, memory_mb = allocatable(droplet.vcpus, droplet.memory)
    values: dict[str, Any] = {
        "cluster": cluster,
        "droplet": droplet,
        "dns_address": dns_address(cluster),
        # The others are names that a node may not give to itself: the service gives them, once it has joined.
        "labels": ",".join(f"{name}={value}" for name, value in found.labels.items() if _may_be_own(name)),
        "taints": list(found.taints),
        "vpc_gateway": str(IPv4Network(vpc.ip_range)[1]),
        "memory_mb": memory_mb + 100,
        "millis": millis,
    }
    server = issue(cluster.secrets, droplet.name, hosts=[droplet.name, droplet.private_ipv4])
    files = {
        f"{_FOLDER}/ca.crt": cluster.secrets["ca.crt"],
        f"{_FOLDER}/kubelet.crt": server[0],
        f"{_FOLDER}/kubelet.key": server[1],
        f"{_FOLDER}/kubelet.yaml.in": _render("kubelet.yaml.j2", **values),
        f"{_FOLDER}/machine.env": _render("machine.env.j2", **values),
        f"{_FOLDER}/kube-proxy.yaml": _render("kube-proxy.yaml.j2", **values),
        f"{_FOLDER}/kubelet.kubeconfig": _client(cluster, f"system:node:{droplet.name}", "system:nodes"),
        f"{_FOLDER}/kube-proxy.kubeconfig": _client(cluster, "system:kube-proxy"),
        f"{_FOLDER}/kube-router.kubeconfig": _client(cluster, "kube-router"),
        f"{_FOLDER}/10-pods.conflist": _render("10-pods.conflist.j2", **values),
    }
    return _user_data(files, "kubernetes-worker.target")


def _may_be_own(label: str) -> bool:
    prefix = label.partition("/")[0]
    return not prefix.endswith(("kubernetes.io", "k8s.io"))


def kubeconfig(cluster: KubernetesCluster, token: str) -> str:
    """The kubeconfig of a user, as the API gives it."""
    name = f"do-{cluster.region}-{cluster.name}"
    return _kubeconfig(cluster, name, f"{name}-admin", {"token": token})


def _client(cluster: KubernetesCluster, user: str, *groups: str) -> str:
    certificate, key = issue(cluster.secrets, user, groups)
    credentials = {"client-certificate-data": base64_of(certificate), "client-key-data": base64_of(key)}
    return _kubeconfig(cluster, cluster.id, user, credentials)


def _kubeconfig(cluster: KubernetesCluster, name: str, user: str, credentials: dict[str, str]) -> str:
    return _render(
        "kubeconfig.yaml.j2",
        authority=base64_of(cluster.secrets["ca.crt"]),
        server=f"https://{cluster.host}",
        cluster=name,
        user=user,
        credentials=credentials,
    )


def _user_data(files: dict[str, str], target: str) -> str:
    content = {
        "write_files": [
            {"path": path, "permissions": "0600", "encoding": "b64", "content": base64_of(text)}
            for path, text in files.items()
        ],
        "runcmd": [["systemctl", "enable", "--now", target]],
    }
    return "#cloud-config\n" + json.dumps(content)


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _render(template: str, **values: object) -> str:
    return _TEMPLATES.get_template(template).render(**values)
