"""An installation as the tools see it: what answers them, each part as a test wants it."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gitlab
import httpx
import pytest

from components import api
from tests.unit.test_down import resource
from tools import answers, status, status_drift, status_parts
from tools.answers import Answer, Question
from tools.clients import Outputs
from tools.state import StackState
from tools.verify import Certificate

URL, REGISTRY = "https://gitlab.example.test", "gitlab.example.test:5555"
BUCKET = {"bucket": "images", "endpoint": "https://s3.test", "region": "r", "access_key": "A", "secret_key": "S"}
VALUES: dict[str, Any] = {
    "gitlab_url": URL,
    "gitlab_version": "19.3.0-ce.0",
    "gitlab_api_token": "glpat-of-a-test",
    "gitlab_api_token_expires": "2999-01-01",
    "registry": REGISTRY,
    "registry_storage": BUCKET,
    "server_address": "198.51.100.7",
    "server_ssh_host_key": "ssh-ed25519 AAAA",
    "server_ssh_private_key": "PRIVATE",
    "server_ssh_user": "slipway",
    "projects": [{"url": f"{URL}/root/hello", "docker_pull": "docker pull x"}],
}
COMMAND = "command:remote:Command"
RUNNER = resource(
    "gitlab:index/userRunner:UserRunner", "delivery-docker-registration", "7", outputs={"description": "docker"}
)
SERVER = resource("Droplet", "server-droplet", "11", outputs={"name": "slipway-test", "image": "debian-13-x64"})
PACKAGE = {"stdin": "A=1\nPACKAGES_URL=https://packages.test/gitlab-ce\n"}
PREPARED = {"stdin": "RUNNER_PACKAGES_URL=https://packages.test/runner\nRUNNER_VERSION=19.3.0-1\n"}


def machine(name: str, address: str) -> dict[str, Any]:
    values = {"name": f"slipway-test-{name}", "image": "debian-13-x64", "ipv4Address": address}
    return resource("Droplet", f"{name}-droplet", address, outputs=values)


def host_key(name: str) -> dict[str, Any]:
    key = {"publicKeyOpenssh": "ssh-ed25519 BB\n"}
    return resource("tls:index/privateKey:PrivateKey", f"{name}-host-keys-lasting", "k", outputs=key)


RESOURCES = [
    SERVER,
    host_key("server"),
    machine("delivery-docker-1", "203.0.113.3"),
    host_key("delivery-docker-1"),
    RUNNER,
    resource(COMMAND, "gitlab-package", "c1", inputs=PACKAGE),
    resource(COMMAND, "delivery-docker-1-preparation", "c2", inputs=PREPARED),
]
WRITTEN = "2026-11-27T21:00:00Z"


def state(*resources: dict[str, Any], **more: Any) -> StackState:
    deployment = {"manifest": {"time": WRITTEN}, "resources": [*RESOURCES, *resources], **more}
    return StackState("test", {"deployment": deployment})


class World:
    """Everything that `status` asks, as it is when all is well. A test changes what it is about."""

    def __init__(self) -> None:
        self.api: dict[str, Any] = {
            "/version": {"version": "19.3.0"},
            "/user": {"id": 1, "username": "root"},
            "/personal_access_tokens/self": {"id": 3, "expires_at": in_days(100)},
            "/application/settings": {"runner_token_expiration_interval": None},
            "/projects/root%2Fhello/deploy_tokens": [{"id": 5, "name": "pull", "expires_at": None}],
            "/projects/root%2Fhello/access_tokens": [],
            "/runners/7": {"id": 7, "status": "online", "paused": False},
            "/runners/7/managers": [{"status": "online"}, {"status": "stale"}],
            "/projects/root%2Fhello/pipelines/latest": pipeline("success"),
        }
        self.pages: dict[str, int | Exception] = {f"{URL}/users/sign_in": 200, f"https://{REGISTRY}/v2/": 401}
        self.certificate: Certificate | Exception = Certificate("R12", 60.4)
        self.ssh: dict[str, str | Exception] = {
            "198.51.100.7": "/ 100000 20000\n/mnt/gitlab 53687091200 5368709120\n",
            "203.0.113.3": "/ 100000 20000\n",
        }
        self.objects: list[list[dict[str, Any]]] = [[{"Key": "a", "Size": 2**30}], [{"Key": "b", "Size": 2**30}]]
        self.packages = {"gitlab-ce": ["19.2.1-ce.0", "19.3.0-ce.0"], "gitlab-runner": ["19.3.0-1"]}


def in_days(days: float) -> str:
    """A moment so many days from now, as the API writes it."""
    return (datetime.now(UTC) + timedelta(days=days, minutes=5)).isoformat()


def pipeline(status_: str) -> dict[str, Any]:
    ended = (datetime.now(UTC) - timedelta(hours=5)).isoformat()
    return {
        "id": 9,
        "status": status_,
        "web_url": f"{URL}/root/hello/-/pipelines/9",
        "sha": "abc",
        "finished_at": ended,
    }


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """Plays every service; GitLab's API is a real server on this machine, so that its real client asks it."""
    made = World()

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = made.api.get(self.path.removeprefix("/api/v4").partition("?")[0], 404)
            code, body = (found, {"message": f"{found} refused"}) if isinstance(found, int) else (200, found)
            text = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(Outputs, "gitlab", lambda _, timeout: gitlab.Gitlab(address, timeout=timeout))
    monkeypatch.setattr(Outputs, "ssh", lambda self, *_, **__: _found(made.ssh[self.address]))
    monkeypatch.setattr(Outputs, "of_stack", lambda _: Outputs(VALUES))
    monkeypatch.setattr(StackState, "of_stack", lambda _: state())
    monkeypatch.setattr(status_parts, "httpx", _Pages(made))
    monkeypatch.setattr(status_parts, "certificate_of", lambda *_: _found(made.certificate))
    monkeypatch.setattr(status_parts, "objects_in", lambda *_, **__: iter(made.objects))
    monkeypatch.setattr(status_parts, "fetch", lambda *_: _index(made.packages))
    monkeypatch.setattr(status_drift, "FOLDER", tmp_path)
    monkeypatch.setattr(api, "token_seconds", lambda: None)
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def _found(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


class _Pages:
    HTTPError = httpx.HTTPError

    def __init__(self, world: World) -> None:
        self._world = world

    def get(self, url: str, *, timeout: float, verify: ssl.SSLContext) -> httpx.Response:
        assert timeout > 0
        assert verify.verify_mode is ssl.CERT_REQUIRED
        return httpx.Response(_found(self._world.pages[url]))


def _index(packages: dict[str, list[str]]) -> bytes:
    entries = [f"Package: {name}\nVersion: {one}\n" for name, known in packages.items() for one in known]
    return gzip.compress("\n".join(entries).encode())


def asked(part: str, *resources: dict[str, Any], outputs: dict[str, Any] | None = None, **more: Any) -> Answer:
    """What one part answers."""
    question = Question(state(*resources, **more), Outputs({**VALUES, **(outputs or {})}), 5)
    return answers.side_by_side({part: lambda: status.PARTS[part](question)}, 10)[part]
