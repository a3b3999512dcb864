"""The cache of Docker Hub of a machine with the program's own settings, before a registry that counts its pulls."""

from __future__ import annotations

import os
import shlex
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from components.rendering import script
from components.settings import DOCKER_HUB_CACHE_HOST
from tests.sandbox.layout import current
from tests.sandbox_tests.support.waiting import eventually


@dataclass
class Upstream:
    """What stands in front of a registry in the place of Docker Hub. `taken` are the paths that were downloaded."""

    port: int
    taken: list[str] = field(default_factory=list)


@contextmanager
def counting(registry: httpx.Client) -> Iterator[Upstream]:
    """Pass requests on to a registry, and remember the downloads."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/manifests/" in self.path or "/blobs/" in self.path:
                upstream.taken.append(self.path)
            self._pass_on()

        def do_HEAD(self) -> None:
            self._pass_on()

        def _pass_on(self) -> None:
            headers = {"Accept": ", ".join(self.headers.get_all("Accept", []))}
            answer = registry.request(self.command, self.path.removeprefix("/v2/"), headers=headers)
            self.send_response(answer.status_code)
            for name in ("Content-Type", "Content-Length", "Docker-Content-Digest", "Docker-Distribution-Api-Version"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        upstream = Upstream(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield upstream
        server.shutdown()
        thread.join()


def certificate(folder: Path) -> Path:
    """A certificate as a machine makes it for its cache, with its key beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    words = (DOCKER_HUB_CACHE_HOST, "127.0.0.1")
    library = f"{script('docker-hub-cache.sh')}\ncertificate_request {shlex.join(words)}"
    request = subprocess.run(["bash", "-s"], input=library, capture_output=True, text=True, check=True).stdout
    (folder / "request.conf").write_text(request)
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -config request.conf"
    subprocess.run(
        ["openssl", *made.split(), "-keyout", "key.pem", "-out", "certificate.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "certificate.pem"


@contextmanager
def cache_of(upstream: Upstream, folder: Path, port: int) -> Iterator[httpx.Client]:
    """The cache, served at a port of loopback until the end of the block; yields a client that trusts it."""
    trusted = certificate(folder)
    (folder / "config.yml").write_text(script("runner/docker-hub-cache.yml"))
    own = {
        "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}",
        "REGISTRY_HTTP_TLS_CERTIFICATE": str(trusted),
        "REGISTRY_HTTP_TLS_KEY": str(folder / "key.pem"),
        "REGISTRY_PROXY_REMOTEURL": f"http://127.0.0.1:{upstream.port}",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(folder / "stored"),
        "OTEL_TRACES_EXPORTER": "none",
    }
    command = [str(current().cache / "containers/registry"), "serve", str(folder / "config.yml")]
    log = folder / "log"
    with log.open("w") as output, subprocess.Popen(command, env={**os.environ, **own}, stderr=output) as process:
        try:
            trust = ssl.create_default_context(cafile=str(trusted))
            with httpx.Client(base_url=f"https://127.0.0.1:{port}/v2/", verify=trust) as client:
                eventually(lambda: _answers(client), 20)
                yield client
        finally:
            process.terminate()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("").is_success
    except httpx.TransportError:
        return False
