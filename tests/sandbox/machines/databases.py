"""The servers of managed databases: Debian's PostgreSQL and Valkey, set up by a script on their machine."""

from __future__ import annotations

from pathlib import Path

from tests.sandbox.digitalocean.state.backend import DatabaseServer
from tests.sandbox.machines.engine import Engine

_FILES = Path(__file__).parent / "files"
_SCRIPTS = {"pg": "postgresql.sh", "valkey": "valkey.sh"}


async def apply(engine: Engine, machine_id: int, server: DatabaseServer) -> None:
    """Install a server, or change it; it accepts connections then.

    Raises:
        CommandError: it could not be done.
    """
    script = (_FILES / _SCRIPTS[server.engine]).read_text()
    admin, *_ = server.users
    values = {
        "VERSION": server.version,
        "PORT": str(server.port),
        "CONNECTIONS": str(server.connections),
        "MEMORY": str(server.memory_mb),
        "CERTIFICATE": server.certificate,
        "PRIVATE_KEY": server.private_key,
        "ADMIN": admin,
        "USERS": "\n".join(f"{name} {password}" for name, password in server.users.items()),
        "DATABASES": "\n".join(server.databases),
        "DROPPED_USERS": "\n".join(server.dropped_users),
        "DROPPED_DATABASES": "\n".join(server.dropped_databases),
        "EVICTION_POLICY": server.eviction_policy,
    }
    await engine.execute(machine_id, script, values)
