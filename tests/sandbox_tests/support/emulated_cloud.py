"""The emulated DigitalOcean on loopback: all its services in a thread, over a backend without machines."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import trustme
from pydo import Client
from starlette.types import ASGIApp

from tests.sandbox.cloud.slack import create_slack_app
from tests.sandbox.digitalocean.app import create_app
from tests.sandbox.digitalocean.control import create_control_app
from tests.sandbox.digitalocean.dns import DnsServer, static_zone
from tests.sandbox.digitalocean.metadata import create_metadata_app
from tests.sandbox.digitalocean.probe import Outside
from tests.sandbox.digitalocean.server import Tls, listen, serving
from tests.sandbox.digitalocean.state.backend import Grant
from tests.sandbox.digitalocean.state.cloud import Config
from tests.sandbox.digitalocean.state.memory_backend import MemoryBackend
from tests.sandbox.digitalocean.state.store import Store
from tests.sandbox.machines.spaces import Spaces
from tests.sandbox.machines.spaces_front import create_spaces_front
from tests.sandbox_tests.support.spaces_service import REGION, AbsoluteForm
from tests.sandbox_tests.support.waiting import eventually

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
#: Seconds within which anything that should happen has happened.
PATIENCE = 5.0

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} sandbox"
DROPLET = {"name": "web-1", "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-13-x64"}


def public_key(number: int = 0) -> str:
    """A well-formed public key, another for every number."""
    return ED25519.format(f"{number:043d}")


class BackendWithSpaces(MemoryBackend):
    """Knows no machines, but real buckets."""

    def __init__(self, spaces: Spaces) -> None:
        super().__init__()
        self._spaces = spaces

    async def put_spaces_key(self, access_key: str, secret_key: str, grants: Sequence[Grant]) -> None:
        await super().put_spaces_key(access_key, secret_key, grants)
        await self._spaces.put_key(access_key, secret_key, grants)

    async def delete_spaces_key(self, access_key: str) -> None:
        await super().delete_spaces_key(access_key)
        await self._spaces.delete_key(access_key)

    async def spaces_buckets(self) -> dict[str, str]:
        return await self._spaces.buckets()

    async def reset(self) -> None:
        await super().reset()
        await self._spaces.reset()


class EmulatedCloud:
    """One account. Owns a thread with the services' event loop; the backend survives `restart`, as machines do.

    The API speaks TLS, without which its official client sends no token; `ca_certificate` is what its clients trust.
    """

    def __init__(self, folder: Path, spaces: Spaces | None = None, **config: Any) -> None:
        self.token = f"dop_v1_{secrets.token_hex(32)}"
        self._spaces = spaces
        self.backend = MemoryBackend() if spaces is None else BackendWithSpaces(spaces)
        self._state = folder / "state.sqlite"
        self.ca_certificate = folder / "ca.crt"
        self._tls = Tls(folder / "test.crt", folder / "test.key")
        self._write_certificates()
        # Without machines everything is so fast that tests would reach the limit of a minute.
        self._config = Config(
            token=self.token,
            **{
                "resolvers": ("100.64.0.1",),
                "burst_limit": 100_000,
                "minute_seconds": 0.05,
                "cluster_seconds": 0.05,
                "certify": self._certify,
                **config,
            },
        )

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _write_certificates(self) -> None:
        self._authority = authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        authority.cert_pem.write_to_path(self.ca_certificate)
        certificate = authority.issue_cert(LOOPBACK, key_type=trustme.KeyType.ECDSA)
        certificate.cert_chain_pems[0].write_to_path(self._tls.certificate)
        certificate.private_key_pem.write_to_path(self._tls.key)

    def _certify(self, hosts: list[str]) -> tuple[str, str]:
        made = self._authority.issue_cert(*hosts)
        return made.cert_chain_pems[0].bytes().decode(), made.private_key_pem.bytes().decode()

    def fresh(self) -> Self:
        """The same cloud, empty, without faults, and with a backend that works."""
        self.backend.broken.clear()
        self.control.delete("/faults").raise_for_status()
        self.control.put("/transitions", json={}).raise_for_status()
        self.control.post("/reset").raise_for_status()
        self.backend.calls.clear()
        return self

    def restart(self) -> None:
        """Stop the emulator in the middle of whatever it does and start another on the same state."""
        self._stop()
        self._start()

    def _start(self) -> None:
        started: threading.Event = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(PATIENCE), self._failure
        headers = {"Authorization": f"Bearer {self.token}"}
        trust = ssl.create_default_context(cafile=self.ca_certificate)
        self.http = httpx.Client(base_url=self.url, headers=headers, verify=trust)
        self.control = httpx.Client(base_url=self._urls["control"])
        self.metadata = httpx.Client(base_url=self._urls["metadata"])
        self.client = Client(self.token, endpoint=self.url, connection_verify=str(self.ca_certificate), retry_total=0)

    def _stop(self) -> None:
        for client in (self.http, self.control, self.metadata, self.client):
            client.close()
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self, started: threading.Event) -> None:
        asyncio.run(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        store = Store(self._state)
        app = create_app(store, self.backend, self._config, Outside(str(self.ca_certificate)))
        dns = DnsServer(store, [static_zone("nyc3.digitaloceanspaces.com", SPACES), static_zone("api.test", API)])
        apps: dict[str, ASGIApp] = {
            "api": app,
            "control": create_control_app(app),
            "slack": create_slack_app(store),
            "metadata": create_metadata_app(app.state.cloud, lambda request: request.headers.get("x-peer", "")),
        }
        if self._spaces is not None:
            apps["spaces"] = AbsoluteForm(create_spaces_front(self._spaces, REGION, app.state.faults))
        self._urls = {}
        async with AsyncExitStack() as stack:
            for name, service in apps.items():
                listener = listen(LOOPBACK, 0)
                tls = self._tls if name in ("api", "slack") else None
                self._urls[name] = f"{'https' if tls else 'http'}://{LOOPBACK}:{listener.getsockname()[1]}"
                await stack.enter_async_context(serving(service, listener, tls))
            self.dns_port = await stack.enter_async_context(dns.serving(LOOPBACK, 0))
            started.set()
            await self._done.wait()
        store.close()

    @property
    def url(self) -> str:
        """Where the API answers."""
        return self._urls["api"]

    @property
    def spaces_proxy(self) -> str:
        """The HTTP proxy of clients of Spaces: see `SpacesService`."""
        return self._urls["spaces"]

    @property
    def webhook(self) -> str:
        """The address of a webhook of Slack."""
        return f"{self._urls['slack']}/services/T1/B1/x1"

    def get(self, path: str) -> Any:
        """The body of what the API answers."""
        return self.http.get(path).raise_for_status().json()

    def exists(self) -> dict[str, list[Any]]:
        """Everything that exists, by kind; kinds of which there is nothing are left out."""
        return {kind: found for kind, found in self.control.get("/resources").json().items() if found}

    def requests(self) -> list[tuple[str, str]]:
        """Method and path of every request so far."""
        return [(entry["method"], entry["path"]) for entry in self.control.get("/requests").json()]

    def add_fault(self, fault: dict[str, Any]) -> None:
        """Let matching requests fail, or be slow, as the control interface describes it."""
        self.control.post("/faults", json=fault).raise_for_status()

    def hold(self, *works: str) -> None:
        """Let these kinds of work wait, and no others."""
        self.control.put("/transitions", json={work: {"mode": "held"} for work in works}).raise_for_status()

    def droplet(self, **changes: Any) -> dict[str, Any]:
        """A droplet that runs."""
        made = self.client.droplets.create(body=DROPLET | changes)["droplet"]
        return self.active(made["id"])

    def active(self, number: int) -> dict[str, Any]:
        """A droplet once it is active and unlocked."""

        def ready() -> dict[str, Any] | None:
            droplet: dict[str, Any] = self.client.droplets.get(number)["droplet"]
            return droplet if droplet["status"] == "active" and not droplet["locked"] else None

        return eventually(ready)

    def completed(self, action: dict[str, Any]) -> dict[str, Any]:
        """An action once it is over."""

        def over() -> dict[str, Any] | None:
            current: dict[str, Any] = self.client.actions.get(action["id"])["action"]
            return current if current["completed_at"] else None

        return eventually(over)

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str, str]:
        """Status, id and message of a request that must fail."""
        answer = self.http.request(method, path, json=body)
        content = answer.json()
        assert set(content) == {"id", "message", "request_id"}, content
        assert answer.status_code >= 400
        return answer.status_code, content["id"], content["message"]


SPACES = {"nyc3.digitaloceanspaces.com": ["100.64.1.1"], "*.nyc3.digitaloceanspaces.com": ["100.64.1.1"]}
API = {"api.test": ["100.64.0.2"]}
