"""A droplet that is resized: shut down in order first, because the provider cuts its power."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pulumi
import pytest

from components.shutdown import shut_down, shut_down_before_resize
from tests.unit.engine import run_program
from tests.unit.test_account import RUNNERS


class Api(BaseHTTPRequestHandler):
    """An API with one droplet, which is off some time after it was asked to shut down."""

    requests: ClassVar[list[tuple[str, Any]]] = []
    polls_until_off: ClassVar[int] = 2
    refusals: ClassVar[list[tuple[int, str]]] = []

    def do_GET(self) -> None:
        asked = any(body == {"type": "shutdown"} for _, body in self.requests)
        if asked:
            type(self).polls_until_off -= 1
        off = asked and self.polls_until_off < 1
        self._answer(200, {"droplet": {"status": "off" if off else "active"}})

    def do_POST(self) -> None:
        if self.refusals:
            status, message = self.refusals.pop()
            self._answer(status, {"message": message})
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((f"{self.headers['Authorization']} {self.path}", body))
        self._answer(201, {"action": {"id": 1}})

    def _answer(self, status: int, content: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Api]]:
    class Fresh(Api):
        requests: ClassVar[list[tuple[str, Any]]] = []
        polls_until_off: ClassVar[int] = 2
        refusals: ClassVar[list[tuple[int, str]]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Fresh) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DIGITALOCEAN_API_URL", f"http://127.0.0.1:{server.server_port}/")
        yield Fresh
        server.shutdown()


def hook_args(old_size: str, new_size: str) -> pulumi.ResourceHookArgs:
    return pulumi.ResourceHookArgs(
        urn="", id="4711", name="server-droplet", type="", old_inputs={"size": old_size}, new_inputs={"size": new_size}
    )


def test_every_droplet_is_shut_down_before_the_engine_updates_it() -> None:
    engine = run_program(**RUNNERS)
    bound = [one.request.hooks.before_update for one in engine.of_type(":Droplet")]
    assert len(bound) == 4
    assert {engine.hooks[name].callback for [name] in bound} == {shut_down_before_resize}


def test_a_droplet_is_off_before_the_shutdown_ends(service: type[Api]) -> None:
    shut_down("4711", poll_seconds=0)
    assert service.requests == [("Bearer dop_v1_of_a_unit_test /v2/droplets/4711/actions", {"type": "shutdown"})]
    assert service.polls_until_off < 1


def test_an_update_that_keeps_the_size_sends_no_request(service: type[Api]) -> None:
    asyncio.run(shut_down_before_resize(hook_args("s-4vcpu-8gb", "s-4vcpu-8gb")))
    assert service.requests == []


def test_an_update_of_the_size_shuts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []
    monkeypatch.setattr("components.shutdown.shut_down", stopped.append)
    asyncio.run(shut_down_before_resize(hook_args("s-4vcpu-8gb", "s-8vcpu-16gb")))
    assert stopped == ["4711"]


def test_a_droplet_that_is_busy_is_asked_again(service: type[Api]) -> None:
    service.refusals.append((422, "Droplet already has a pending event."))
    shut_down("4711", poll_seconds=0)
    assert len(service.requests) == 1


def test_a_droplet_that_keeps_running_keeps_its_size(service: type[Api]) -> None:
    service.polls_until_off = 10**9
    with pytest.raises(RuntimeError, match=r"droplet 4711 has not shut down within 0\.05 s; .* so it keeps its size"):
        shut_down("4711", limit_seconds=0.05, poll_seconds=0.01)


def test_a_refusal_of_the_api_is_reported(service: type[Api]) -> None:
    service.refusals.append((403, "You are not authorized to perform this operation."))
    with pytest.raises(RuntimeError, match=r"refused POST /v2/droplets/4711/actions: 403 .*not authorized"):
        shut_down("4711", poll_seconds=0)
