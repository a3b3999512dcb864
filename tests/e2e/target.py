"""A machine outside of any stack that applications are deployed to: a droplet with Docker, and a user for it."""

from __future__ import annotations

import http.client
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import pydo

from tests.e2e.hosts import Host
from tools.clients import try_run
from tools.pipelines import until

#: Debian has Docker's client in a package of its own.
_USER_DATA = """#cloud-config
ssh_deletekeys: true
ssh_keys:
  ed25519_private: |
    {private}
  ed25519_public: {public}
users:
  - name: deploy
    shell: /bin/bash
    sudo: ALL=(ALL) NOPASSWD:ALL
    ssh_authorized_keys: ["{login}"]
package_update: true
packages: [docker.io, docker-cli, docker-compose]
runcmd:
  - usermod -aG docker deploy
"""


@dataclass(frozen=True)
class Target:
    """The machine: where it is, its public host key, and the login of its administrator."""

    host: Host

    def ready(self) -> None:
        """Wait until its first boot is complete, and with it the installation of Docker."""
        until(lambda: "done" in self._try("cloud-init status --wait"), "the target to be set up", 300)

    def page(self, path: str, port: int = 80) -> str:
        """What the application answers."""
        return try_run("curl", "--silent", "--max-time", "10", f"http://{self.host.address}:{port}{path}").stdout

    def container(self, name: str = "hello-production") -> str:
        """The image, by its digest, of the project's container."""
        return self.host.sudo(f"docker inspect --format '{{{{.Config.Image}}}}' {name}").strip()

    @contextmanager
    def asked(self) -> Iterator[list[str]]:
        """Ask for a page all the time until the end of the block; each answer that is not right, in a list."""
        wrong: list[str] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                connection = http.client.HTTPConnection(self.host.address, timeout=10)
                try:
                    connection.request("GET", "/hello/test")
                    answer = connection.getresponse()
                    if (answer.status, answer.read()) != (HTTPStatus.OK, b"Hello, test!"):
                        wrong.append(str(answer.status))
                except (OSError, http.client.HTTPException) as error:
                    wrong.append(repr(error))
                finally:
                    connection.close()
                done.wait(0.02)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield wrong
        finally:
            done.set()
            thread.join()

    def _try(self, script: str) -> str:
        with self.host.login() as login:
            return try_run("ssh", *login, script, timeout=300).stdout


@contextmanager
def target(name: str, folder: Path) -> Iterator[Target]:
    """A machine until the end of the block."""
    for key in ("host", "login"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", str(folder / key)], check=True)
    public = {key: (folder / f"{key}.pub").read_text().strip() for key in ("host", "login")}
    private = (folder / "host").read_text().replace("\n", "\n    ")
    user_data = _USER_DATA.format(private=private, public=public["host"], login=public["login"])
    api = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])
    body = {"name": name, "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-13-x64", "user_data": user_data}
    droplet = api.droplets.create(body=body)["droplet"]["id"]
    try:
        until(lambda: api.droplets.get(droplet)["droplet"]["status"] == "active", "the target is active")
        networks = api.droplets.get(droplet)["droplet"]["networks"]["v4"]
        [address] = [one["ip_address"] for one in networks if one["type"] == "public"]
        yield Target(Host(droplet, address, public["host"], "deploy", (folder / "login").read_text()))
    finally:
        api.droplets.destroy(droplet)
