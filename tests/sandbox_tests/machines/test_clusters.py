"""What the service asks the API servers of its clusters, here of one that only looks like an API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.sandbox.digitalocean.kubernetes.certificates import issue, new_secrets
from tests.sandbox.digitalocean.server import Tls, listen, serving
from tests.sandbox.digitalocean.state.clusters import Access, ClusterError, NodeMarks
from tests.sandbox.machines import clusters
from tests.sandbox.machines.clusters import KubernetesClusters

LOOPBACK = "127.0.0.1"
MARKS = NodeMarks({"team": "a"}, [{"key": "only", "value": "jobs", "effect": "NoSchedule"}], "10.244.0.0/25")


def pod(name: str, node: str = "", owner: str = "", **changes: Any) -> dict[str, Any]:
    """A pod as an API server shows it."""
    container = {"resources": {"requests": {"cpu": "250m", "memory": "64Mi"}}}
    owners = [{"kind": owner, "name": "owner", "controller": True}] if owner else []
    conditions = [] if node else [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    return {
        "metadata": {"name": name, "namespace": "ci", "ownerReferences": owners, "annotations": {}},
        "spec": {"containers": [container, container], "nodeName": node or None, **changes},
        "status": {"phase": "Running" if node else "Pending", "conditions": conditions},
    }


class ApiServer:
    """Nodes and pods, and what was asked for."""

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = []
        self.daemons: list[dict[str, Any]] = []
        self.ready = "False"
        self.requests: list[tuple[str, str]] = []
        self.applied: dict[str, Any] = {}
        #: How often an eviction is refused, as a disruption budget does.
        self.refusals = 0

    def app(self) -> Starlette:
        node = "/api/v1/nodes/{name}"
        eviction = "/api/v1/namespaces/{namespace}/pods/{name}/eviction"
        return Starlette(
            routes=[
                Route("/api/v1/nodes", self._noted(self._list_nodes)),
                Route(node, self._noted(self._node), methods=["GET", "PATCH", "DELETE"]),
                Route("/api/v1/pods", self._noted(self._list_pods)),
                Route("/apis/apps/v1/daemonsets", self._noted(self._list_daemons)),
                Route(eviction, self._noted(self._evict), methods=["POST"]),
            ]
        )

    def _noted(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            self.requests.append((request.method, request.url.path))
            return await handler(request)

        return handle

    def _json(self) -> dict[str, Any]:
        return {
            "metadata": {"name": "base-1", "labels": {"team": "a"}},
            "spec": {"taints": []},
            "status": {
                "allocatable": {"cpu": "1900m", "memory": "2560Mi"},
                "conditions": [{"type": "Ready", "status": self.ready}],
            },
        }

    async def _list_nodes(self, _: Request) -> Response:
        return JSONResponse({"items": [self._json()]})

    async def _node(self, request: Request) -> Response:
        if request.path_params["name"] != "base-1":
            return JSONResponse({}, 404)
        if request.method == "PATCH":
            self.applied = await request.json()
        # Ready the second time that somebody looks.
        answer, self.ready = self._json(), "True"
        return JSONResponse(answer)

    async def _list_pods(self, _: Request) -> Response:
        return JSONResponse({"items": self.pods})

    async def _list_daemons(self, _: Request) -> Response:
        return JSONResponse({"items": self.daemons})

    async def _evict(self, request: Request) -> Response:
        if self.refusals:
            self.refusals -= 1
            return JSONResponse({}, 429)
        self.pods = [one for one in self.pods if one["metadata"]["name"] != request.path_params["name"]]
        return JSONResponse({}, 201)


@contextlib.asynccontextmanager
async def serve(server: ApiServer, folder: Path) -> AsyncIterator[Access]:
    """The server on loopback, with a certificate of a cluster's own authority."""
    secrets = new_secrets()
    files = folder / "server.crt", folder / "server.key"
    for file, content in zip(files, issue(secrets, "kube-apiserver", hosts=[LOOPBACK]), strict=True):
        file.write_text(content)
    certificate, key = issue(secrets, "digitalocean", ["system:masters"])
    listener = listen(LOOPBACK, 0)
    address = f"{LOOPBACK}:{listener.getsockname()[1]}"
    async with serving(server.app(), listener, Tls(*files)):
        yield Access(address, secrets["ca.crt"], certificate, key)


def run(server: ApiServer, folder: Path, work: Callable[[Access], Awaitable[Any]]) -> Any:
    """What some work with the server comes to."""

    async def working() -> Any:
        async with serve(server, folder) as access:
            return await work(access)

    return asyncio.run(working())


def test_pods_are_counted_by_what_they_request_and_those_of_the_node_are_its_own(tmp_path: Path) -> None:
    server = ApiServer()
    server.pods = [pod("job", "base-1"), pod("agent", "base-1", owner="DaemonSet"), pod("waiting")]
    server.pods[0]["metadata"]["annotations"] = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    server.pods.append(pod("done", "base-1") | {"status": {"phase": "Succeeded"}})
    load = run(server, tmp_path, KubernetesClusters().load)
    [node], [waiting] = load.nodes, load.pending
    assert [(one.name, one.cpu, one.memory, one.safe_to_evict) for one in node.pods] == [
        ("ci/job", 500, 128 * 2**20, False)
    ]
    assert (node.cpu, node.memory) == (1900 - 500, (2560 - 128) * 2**20)
    assert (waiting.name, waiting.cpu, waiting.controller) == ("ci/waiting", 500, "")


def test_what_a_pod_requests_as_a_whole_counts_instead_of_what_its_containers_do(tmp_path: Path) -> None:
    server = ApiServer()
    server.pods = [pod("job", resources={"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}})]
    [waiting] = run(server, tmp_path, KubernetesClusters().load).pending
    assert (waiting.cpu, waiting.memory) == (500, 2**30)


def test_pods_of_every_node_are_told_apart_from_those_that_wait_for_one(tmp_path: Path) -> None:
    server = ApiServer()
    waiting = pod("agent-1", owner="DaemonSet")
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": waiting["spec"] | {"nodeSelector": {"for": "jobs"}}}
    server.pods = [waiting]
    server.daemons = [{"metadata": {"name": "agent", "namespace": "kube-system"}, "spec": {"template": template}}]
    load = run(server, tmp_path, KubernetesClusters().load)
    assert load.pending == []
    assert [(one.name, one.cpu, one.node_selector) for one in load.daemons] == [
        ("kube-system/agent", 500, {"for": "jobs"})
    ]


def test_a_node_is_marked_once_it_is_ready(tmp_path: Path) -> None:
    server = ApiServer()
    run(server, tmp_path, lambda access: KubernetesClusters().node_ready(access, "base-1", MARKS))
    assert server.applied["metadata"] == {"name": "base-1", "labels": {"team": "a"}}
    assert server.applied["spec"]["podCIDR"] == "10.244.0.0/25"
    assert [method for method, _ in server.requests] == ["GET", "GET", "GET", "PATCH"]


def test_pods_leave_a_node_before_it_is_forgotten_however_often_a_budget_refuses(tmp_path: Path) -> None:
    server = ApiServer()
    server.pods, server.refusals = [pod("job", "base-1"), pod("agent", "base-1", owner="DaemonSet")], 1
    run(server, tmp_path, lambda access: KubernetesClusters().remove_node(access, "base-1", drain=True))
    evictions = [path for method, path in server.requests if method == "POST"]
    assert evictions == ["/api/v1/namespaces/ci/pods/job/eviction"] * 2
    assert server.requests[-1] == ("DELETE", "/api/v1/nodes/base-1")
    assert [one["metadata"]["name"] for one in server.pods] == ["agent"]


def test_a_node_that_is_unknown_is_no_error_and_a_cluster_that_is_gone_is(tmp_path: Path) -> None:
    server, service = ApiServer(), KubernetesClusters()
    run(server, tmp_path, lambda access: service.remove_node(access, "other", drain=True))
    run(server, tmp_path, lambda access: service.mark_node(access, "other", MARKS))
    assert server.applied == {}
    secrets = new_secrets()
    nobody = Access(f"{LOOPBACK}:1", secrets["ca.crt"], *issue(secrets, "digitalocean"))
    with pytest.raises(ClusterError):
        asyncio.run(service.load(nobody))


def test_a_cluster_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_ANSWER_S", 0.5)
    secrets = new_secrets()
    nobody = Access(f"{LOOPBACK}:1", secrets["ca.crt"], *issue(secrets, "digitalocean"))
    with pytest.raises(ClusterError, match="the API server does not answer"):
        asyncio.run(KubernetesClusters().answered(nobody))


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 1_610_612_736), ("1500m", 2), ("2e3", 2000)]
)
def test_quantities_of_memory_are_read_as_kubernetes_writes_them(text: str, value: int) -> None:
    assert clusters._bytes(text) == value
