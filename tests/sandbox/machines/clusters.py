"""Kubernetes clusters as their API servers have them: implements `Clusters` of `digitalocean/state/clusters.py`."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import tenacity

from tests.sandbox.digitalocean.state.clusters import Access, ClusterError, Load, NodeMarks, NodeView, PodView

#: Seconds that a control plane may take to answer, a node to join, and pods to leave a node.
_ANSWER_S, _JOIN_S, _DRAIN_S = 180, 300, 120
_SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
_MIRROR = "kubernetes.io/config.mirror"
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_FIELD_MANAGER = "digitalocean"

Json = dict[str, Any]


class _NotYetError(Exception):
    """What is waited for is not so."""


_WAITED_FOR = (_NotYetError, httpx.HTTPError)


class KubernetesClusters:
    """Talks to API servers by the address of their machine, with the certificate of the service."""

    async def answered(self, access: Access) -> None:
        """See `Clusters`."""
        async for attempt in _patiently("the API server does not answer", _ANSWER_S):
            with attempt:
                async with _client(access) as client:
                    # Not only alive: also what every cluster brings along.
                    await _get(client, "/readyz", plain=True)
                    await _get(client, "/apis/apps/v1/namespaces/kube-system/deployments/coredns")

    async def node_ready(self, access: Access, name: str, marks: NodeMarks) -> None:
        """See `Clusters`."""
        async for attempt in _patiently(f"node {name} did not become ready", _JOIN_S):
            with attempt:
                async with _client(access) as client:
                    node = await _get(client, f"/api/v1/nodes/{name}")
                    if not _is_ready(node):
                        raise _NotYetError
                    await _mark(client, name, marks)

    async def mark_node(self, access: Access, name: str, marks: NodeMarks) -> None:
        """See `Clusters`."""
        async with _errors(), _client(access) as client:
            await _mark(client, name, marks)

    async def remove_node(self, access: Access, name: str, *, drain: bool) -> None:
        """See `Clusters`. Pods that may not be evicted in time go with their node."""
        async with _errors(), _client(access) as client:
            cordon = {"spec": {"unschedulable": True}}
            answer = await client.patch(f"/api/v1/nodes/{name}", json=cordon, headers=_MERGE)
            if answer.status_code != 404 and drain:
                try:
                    async with asyncio.timeout(_DRAIN_S):
                        await _drain(client, name)
                except TimeoutError:
                    pass
            await client.delete(f"/api/v1/nodes/{name}")

    async def load(self, access: Access) -> Load:
        """See `Clusters`."""
        async with _errors(), _client(access) as client:
            pods = (await _get(client, "/api/v1/pods"))["items"]
            nodes = (await _get(client, "/api/v1/nodes"))["items"]
            daemons = (await _get(client, "/apis/apps/v1/daemonsets"))["items"]
        alive = [pod for pod in pods if not _is_over(pod)]
        views = [_node(node, [pod for pod in alive if pod["spec"].get("nodeName") == _name(node)]) for node in nodes]
        # A pod of a DaemonSet belongs to a node that is there: no other node is needed for it.
        waiting = [_pod(pod) for pod in alive if _has_no_room(pod) and not _stays_with_node(pod)]
        return Load(views, waiting, [_daemon(one) for one in daemons])


_MERGE = {"content-type": "application/merge-patch+json"}
_APPLY = {"content-type": "application/apply-patch+yaml"}


@asynccontextmanager
async def _client(access: Access) -> AsyncIterator[httpx.AsyncClient]:
    context = ssl.create_default_context(cadata=access.authority)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        # Mode 0600; the library reads certificates from files only.
        file.write(access.certificate + access.key)
        file.flush()
        context.load_cert_chain(Path(file.name))
    async with httpx.AsyncClient(base_url=f"https://{access.address}", verify=context, timeout=20) as client:
        yield client


@asynccontextmanager
async def _errors() -> AsyncIterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise ClusterError(f"{type(error).__name__}: {error}") from error


async def _patiently(what: str, seconds: float) -> AsyncIterator[tenacity.AttemptManager]:
    retrying = tenacity.AsyncRetrying(
        wait=tenacity.wait_fixed(0.3),
        stop=tenacity.stop_after_delay(seconds),
        retry=tenacity.retry_if_exception_type(_WAITED_FOR),
    )
    try:
        async for attempt in retrying:
            yield attempt
    except tenacity.RetryError as error:
        raise ClusterError(what) from error


async def _get(client: httpx.AsyncClient, path: str, *, plain: bool = False) -> Json:
    answer = await client.get(path)
    answer.raise_for_status()
    found: Json = {} if plain else answer.json()
    return found


async def _mark(client: httpx.AsyncClient, name: str, marks: NodeMarks) -> None:
    """Only what the service owns: labels and taints that others have set stay."""
    if (await client.get(f"/api/v1/nodes/{name}")).status_code == 404:
        return
    content: Json = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(marks.labels)},
        "spec": {"taints": [dict(taint) for taint in marks.taints]},
    }
    if marks.pod_cidr:
        content["spec"] |= {"podCIDR": marks.pod_cidr, "podCIDRs": [marks.pod_cidr]}
    query = {"fieldManager": _FIELD_MANAGER, "force": "true"}
    answer = await client.patch(f"/api/v1/nodes/{name}", params=query, json=content, headers=_APPLY)
    answer.raise_for_status()


async def _drain(client: httpx.AsyncClient, name: str) -> None:
    """Evict what a node runs, and wait until it is gone."""
    while True:
        found = await _get(client, f"/api/v1/pods?fieldSelector=spec.nodeName={name}")
        left = [pod for pod in found["items"] if not _stays_with_node(pod) and not _is_over(pod)]
        if not left:
            return
        for pod in left:
            metadata = pod["metadata"]
            eviction = {
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            }
            # 429 is a disruption budget: asked again.
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/eviction"
            await client.post(path, json=eviction)
        await asyncio.sleep(0.5)


def _is_over(pod: Json) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def _name(thing: Json) -> str:
    return str(thing["metadata"]["name"])


def _is_ready(node: Json) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _has_no_room(pod: Json) -> bool:
    conditions = pod["status"].get("conditions", [])
    return not pod["spec"].get("nodeName") and any(
        one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable" for one in conditions
    )


def _stays_with_node(pod: Json) -> bool:
    owners = pod["metadata"].get("ownerReferences", [])
    return _MIRROR in pod["metadata"].get("annotations", {}) or any(owner["kind"] == "DaemonSet" for owner in owners)


def _node(node: Json, pods: Sequence[Json]) -> NodeView:
    given = node["status"].get("allocatable", {})
    # What belongs to the node takes its share and goes with it.
    own = [_pod(pod) for pod in pods if _stays_with_node(pod)]
    return NodeView(
        name=_name(node),
        is_ready=_is_ready(node),
        cpu=_millis(given.get("cpu", "0")) - sum(pod.cpu for pod in own),
        memory=_bytes(given.get("memory", "0")) - sum(pod.memory for pod in own),
        labels=node["metadata"].get("labels", {}),
        taints=node["spec"].get("taints", []),
        pods=[_pod(pod) for pod in pods if not _stays_with_node(pod)],
        is_unschedulable=bool(node["spec"].get("unschedulable")),
    )


def _pod(pod: Json) -> PodView:
    metadata, spec = pod["metadata"], pod["spec"]
    safe = metadata.get("annotations", {}).get(_SAFE_TO_EVICT)
    owner = next((one for one in metadata.get("ownerReferences", []) if one.get("controller")), None)
    return PodView(
        name=f"{metadata['namespace']}/{metadata['name']}",
        cpu=_requests(spec, "cpu", _millis),
        memory=_requests(spec, "memory", _bytes),
        node_selector=spec.get("nodeSelector", {}),
        tolerations=spec.get("tolerations", []),
        controller=owner["kind"] if owner else "",
        safe_to_evict=None if safe is None else safe == "true",
        has_local_storage=any("emptyDir" in volume or "hostPath" in volume for volume in spec.get("volumes", [])),
        is_system=metadata["namespace"] == "kube-system",
    )


def _daemon(daemons: Json) -> PodView:
    """The pod that a DaemonSet has on each node."""
    template = daemons["spec"]["template"]
    return _pod({"metadata": daemons["metadata"] | template.get("metadata", {}), "spec": template["spec"]})


def _requests(spec: Mapping[str, Any], name: str, value: Any) -> int:
    """What a pod asks for: as a whole, or else all containers together, or the largest that runs before them."""
    of_pod = spec.get("resources", {}).get("requests", {})
    if name in of_pod:
        return int(value(of_pod[name]))

    def asked(containers: Sequence[Json]) -> list[int]:
        return [value(one.get("resources", {}).get("requests", {}).get(name, "0")) for one in containers]

    return max(sum(asked(spec.get("containers", []))), *asked(spec.get("initContainers", [])), 0)


def _millis(text: str) -> int:
    return int(text[:-1]) if text.endswith("m") else round(float(text) * 1000)


def _bytes(text: str) -> int:
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return round(float(text[:-1]) / 1000) if text.endswith("m") else int(float(text))
