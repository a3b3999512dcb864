"""A GitLab stand-in on loopback, without a machine: its web application under uvicorn, and `gitlab-rails runner`."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

import gitlab
import httpx
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.types import ASGIApp

from tests.moments import clock_variables
from tests.sandbox.gitlab.build import PACKAGE
from tests.sandbox.gitlab.web.app import create_app
from tests.sandbox.gitlab.web.core import db, tokens, users
from tests.sandbox.gitlab.web.core.config import Config
from tests.sandbox.gitlab.web.faults import Faults
from tests.sandbox_tests.support.waiting import eventually

PASSWORD = "kX9-vbq-Trz-72"  # noqa: S105 - of a user that lives as long as a test


@dataclass(frozen=True)
class Instance:
    """A running one."""

    url: str
    config: Config
    directory: Path
    token: str = field(repr=False)
    faults: Faults

    def new_token(self, scopes: list[str], expires: date | None = None, username: str = "root") -> str:
        """A token, made beside the API."""
        with db.connect(self.config.database) as connection:
            user = users.by_login(connection, username)
            assert user is not None
            _, token = tokens.create(
                connection, self.config.db_key_base, user, name="test", scopes=scopes, expires=expires
            )
        return token

    def client(self, token: str = "") -> gitlab.Gitlab:
        """A client of the administrator, or of whoever has `token`."""
        return gitlab.Gitlab(self.url, private_token=token or self.token)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers the administrator; None if it has nothing to say.

        Raises:
            httpx.HTTPStatusError: the answer is an error.
        """
        headers = {"authorization": f"Bearer {self.token}"}
        answer = httpx.request(method, f"{self.url}/api/v4{path}", headers=headers, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def new_user(self, name: str = "", *, password: str = "pQ4-wmd-Ksj-19") -> tuple[int, gitlab.Gitlab]:  # noqa: S107
        """A user who is no administrator: the ID, and a client of theirs."""
        name = name or f"user-{secrets.token_hex(4)}"
        user = self.client().users.create(
            {"username": name, "name": name, "email": f"{name}@example.com", "password": password}
        )
        return user.id, self.client(self.new_token(["api"], username=name))

    def empty(self) -> None:
        """Delete all projects, groups and runners."""
        self.execute("DELETE FROM projects")
        self.execute("DELETE FROM namespaces WHERE kind = 'group'")
        self.execute("DELETE FROM ci_runners")

    def execute(self, statement: str, *values: object) -> None:
        """Change the database behind the back of the application."""
        with db.connect(self.config.database) as connection:
            connection.execute(statement, values)

    def runner(self, tree: Path, source: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """`gitlab-rails runner` over this instance's database; `tree` is an unpacked package."""
        script = tree / "opt/gitlab/embedded/rails/runner.rb"
        return subprocess.run(
            ["ruby", script, "runner", source],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "GITLAB_RAILS_CONFIG": str(self.directory), **clock_variables()},
        )


@cache
def registry_key() -> str:
    """The key that signs tokens for the registry, of all instances."""
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def write_config(directory: Path, url: str, registry_api: str, **more: Any) -> Config:
    """The files that reconfigure would write."""
    settings: dict[str, Any] = {
        "external_url": url,
        "puma_port": 0,
        "data": str(directory),
        "git_data": str(directory / "git-data"),
        "backup_path": str(directory / "backups"),
        "backup_keep_time": 0,
        "registry_path": str(directory / "registry"),
        "artifacts_path": str(directory / "shared" / "artifacts"),
        "uploads_path": str(directory / "uploads"),
        "socket": str(directory / "gitlab.socket"),
        "monitoring_allowlist": ["127.0.0.0/8"],
        "ssh_port": 22,
        "registry": {"host": "gitlab.example.com:5555", "api_url": registry_api, "issuer": "issuer"},
        **more,
    }
    hidden = {
        "db_key_base": secrets.token_hex(16),
        "secret_key_base": secrets.token_hex(16),
        "registry_key": registry_key(),
    }
    (directory / "gitlab.json").write_text(json.dumps(settings))
    (directory / "secrets.json").write_text(json.dumps(hidden))
    (directory / "version").write_text("19.3.0\n")
    if not (rails := directory / "rails").exists():
        rails.symlink_to(PACKAGE / "opt/gitlab/embedded/rails")
    return Config.load(directory, directory / "version")


def listen() -> tuple[socket.socket, str]:
    """A socket on loopback, and its URL."""
    probe = uvicorn.Config(lambda *_: None, port=0, log_level="warning")
    sock = probe.bind_socket()
    return sock, f"http://127.0.0.1:{sock.getsockname()[1]}"


@contextmanager
def serving(
    app: ASGIApp, sock: socket.socket, certificate: Path | None = None, ws: Literal["auto", "wsproto"] = "wsproto"
) -> Iterator[None]:
    """Serve an application until the end of the block; closes the socket. The file has a certificate and its key."""
    config = uvicorn.Config(
        app, log_level="warning", ws=ws, ssl_certfile=certificate, ssl_keyfile=certificate, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        eventually(lambda: server.started, 10)
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        sock.close()


@contextmanager
def running(
    directory: Path, registry_api: str = "http://127.0.0.1:1", ending: threading.Event | None = None, **settings: Any
) -> Iterator[Instance]:
    """Serve an instance with the user `root` until the end of the block. Its registry does not answer unless named.

    `settings` are those of `gitlab.json`.
    """
    sock, url = listen()
    config = write_config(directory, url, registry_api, **settings)
    db.migrate(config.database)
    with db.connect(config.database) as connection:
        root = users.create(
            connection, username="root", name="Administrator", email="admin@example.com", password=PASSWORD, admin=True
        )
        _, token = tokens.create(
            connection, config.db_key_base, root, name="first", scopes=["api", "sudo"], expires=None
        )
    faults = Faults()
    with serving(create_app(config, faults, ending), sock):
        yield Instance(url, config, directory, token, faults)
