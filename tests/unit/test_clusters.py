"""What `make status` and `make logs` say of the cluster of a runner, which is asked without kubectl."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from components import api
from tests.certificates import authority, root
from tests.unit.status_world import VALUES, asked
from tests.unit.test_down import resource
from tools import clusters, pod_logs
from tools import logs as module
from tools.answers import Answer, Health
from tools.clients import Outputs
from tools.logs import Wish
from tools.progress import ToolError
from tools.state import StackState

DECLARED = resource(
    "KubernetesCluster", "delivery-pods-kubernetes-cluster", "c1", outputs={"name": "slipway-test-pods"}
)
PODS = "/api/v1/namespaces/gitlab-runner/pods"


def pool(count: int, *nodes: str, most: int | None = None) -> dict[str, Any]:
    found = [{"status": {"state": state}} for state in nodes]
    return {"count": count, "auto_scale": most is not None, "max_nodes": most, "nodes": found}


def answer(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any] | Exception) -> Answer:
    def request(path: str) -> Any:
        assert path == "/v2/kubernetes/clusters/c1"
        if isinstance(found, Exception):
            raise found
        return {"kubernetes_cluster": found}

    monkeypatch.setattr(clusters, "request", request)
    return asked("Clusters", DECLARED)


def test_a_cluster_is_healthy_while_it_runs_with_as_many_nodes_as_there_are_jobs_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pools = [pool(1, "running"), pool(2, "running", "provisioning", most=5)]
    running = answer(monkeypatch, {"status": {"state": "running"}, "node_pools": pools})
    assert running.text == "slipway-test-pods: running, 2 of at most 6 nodes, 1 not ready"
    assert (running.health, running.values["slipway-test-pods"]["nodes"]) == (Health.HEALTHY, 2)
    # Without nodes the API has no list.
    upgrading = {"status": {"state": "upgrading"}, "node_pools": [{**pool(0, most=5), "nodes": None}]}
    assert answer(monkeypatch, upgrading).health is Health.NOTICE
    assert answer(monkeypatch, {"status": {"state": "degraded"}, "node_pools": []}).health is Health.FAILING


def test_a_cluster_that_was_deleted_is_failing_and_one_that_cannot_be_asked_about_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = answer(monkeypatch, api.RefusedError("404", 404))
    assert (gone.health, gone.text.startswith("slipway-test-pods: deleted outside of Pulumi")) == (Health.FAILING, True)
    assert answer(monkeypatch, api.RefusedError("403", 403)).health is Health.UNKNOWN
    assert asked("Clusters").text == "none: no runner of this stack has the kind kubernetes"


class Played:
    """The API server of a cluster with two managers, one of which is being replaced."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.status = 200

    def respond(self, path: str, token: str) -> tuple[int, str]:
        """Status and body."""
        parts = urlsplit(path)
        self.asked.append((parts.path, parts.query, token))
        if self.status != 200:
            return self.status, json.dumps({"kind": "Status", "message": "pods is forbidden"})
        if parts.path == PODS:
            assert parse_qs(parts.query) == {"labelSelector": ["app=manager"]}
            return 200, json.dumps({"items": [{"metadata": {"name": f"manager-{one}"}} for one in "ab"]})
        pod = parts.path.split("/")[-2]
        return 200, f"first of {pod}\nlast of {pod}\n"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    """It serves with a certificate of its own authority, and DigitalOcean gives the credential for it."""
    played = Played()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = played.respond(self.path, self.headers["Authorization"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    credential = {
        "server": f"https://127.0.0.1:{server.server_port}",
        "certificate_authority_data": base64.b64encode(root().encode()).decode(),
        "token": "of-the-cluster",
    }
    monkeypatch.setattr(
        pod_logs, "request", lambda path: credential if "c1/credentials?" in path else pytest.fail(path)
    )
    monkeypatch.setattr(Outputs, "of_stack", lambda _: Outputs(VALUES))
    monkeypatch.setattr(StackState, "of_stack", lambda _: StackState("test", {"deployment": {"resources": [DECLARED]}}))
    yield played
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_log_of_a_runner_on_kubernetes_is_that_of_its_managers(
    cluster: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module.logs("test", Wish("runner", 7, False)) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        f"manager-{one} │ {which} of manager-{one}" for one in "ab" for which in ("first", "last")
    ]
    path, query, credential = cluster.asked[-1]
    assert path.endswith("/log")
    wanted = {"container": ["manager"], "tailLines": ["7"], "timestamps": ["true"], "follow": ["false"]}
    assert parse_qs(query) == wanted
    assert credential == "Bearer of-the-cluster"


def test_a_cluster_that_refuses_or_is_not_who_it_should_be_says_why(
    cluster: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.status = 403
    with pytest.raises(ToolError, match="logs: slipway-test-pods: pods is forbidden"):
        module.logs("test", Wish("runner", 7, False))
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    with pytest.raises(ToolError, match=r"the cluster slipway-test-pods does not answer: .*CERTIFICATE_VERIFY_FAILED"):
        module.logs("test", Wish("runner", 7, False))


def test_nobody_reads_the_log_of_the_server_from_a_cluster(cluster: Played) -> None:
    with pytest.raises(ToolError, match="the server is not in the stack's state"):
        module.logs("test", Wish("gitlab", 7, False))
    assert cluster.asked == []
