"""A Redis outside, such as a managed Valkey: what GitLab forgets without it.

The bundled one plays no part in this stand-in. One that `gitlab.rb` names keeps the sessions of browsers, as GitLab's
does, and its state is part of the readiness.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

#: What GitLab keeps in it, each with a check of its own.
STORES = (
    "cache",
    "chat",
    "cluster_shared_state",
    "queues",
    "rate_limiting",
    "sessions",
    "shared_state",
    "trace_chunks",
)
_PATIENCE_S = 5


@dataclass(frozen=True)
class Server:
    """Where it is, and as whom to connect."""

    host: str
    port: int
    ssl: bool
    ca_file: str | None
    username: str | None
    password: str = field(repr=False)


def ask(server: Server) -> None:
    """Ask whether it answers. Raises one of `errors()`."""
    _client(server).ping()


def remember(server: Server, session: str, seconds: int) -> None:
    """Keep a session for some time."""
    _client(server).set(_key(session), "1", ex=seconds)


def knows(server: Server, session: str) -> bool:
    """Whether a session is still kept."""
    return bool(_client(server).exists(_key(session)))


def errors() -> tuple[type[Exception], ...]:
    """What each of these functions can raise."""
    return (driver().RedisError, OSError)


@cache
def driver() -> Any:
    """The client library, which only machines with a Redis outside need."""
    return import_module("redis")


@cache
def _client(server: Server) -> Any:
    about = {
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "password": server.password or None,
        "socket_timeout": _PATIENCE_S,
        "socket_connect_timeout": _PATIENCE_S,
    }
    if not server.ssl:
        return driver().Redis(**about)
    about |= {"connection_class": _verifying(), "ssl_ca_certs": server.ca_file}
    return driver().Redis(connection_pool=driver().ConnectionPool(**about))


@cache
def _verifying() -> type[Any]:
    """Connections that trust the named file alone, as those of GitLab's own client do.

    The library's trust the system's authorities as well, whatever file is named.
    """

    class Verifying(driver().SSLConnection):  # type: ignore[misc]  # the library is not where types are checked
        def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
            context = ssl.create_default_context(cafile=self.ca_certs)
            return context.wrap_socket(sock, server_hostname=self.host)

    return Verifying


def _key(session: str) -> str:
    return f"session:gitlab:2::{hashlib.sha256(session.encode()).hexdigest()}"
