"""Commands of the application, for the package: see `COMMANDS`. Those with an input read it from standard input."""

from __future__ import annotations

import socket
import sys
import threading
from itertools import zip_longest
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from .app import create_app
from .ci import hooks, scheduler
from .core import background_migrations, cleanup, db, postgresql, releases, shared_state, users
from .core.config import Config
from .core.errors import ApiError
from .faults import Faults, Shelf, create_fault_control


def migrate(config: Config) -> None:
    """Bring the database to the version of the package. The exit code is 1 if a migration fails."""
    if config.redis is not None:
        _reach(config.redis)
    if isinstance(config.database, postgresql.Server):
        _prepare(config.database)
    try:
        for name in releases.migrate(config.database, config.version):
            print(f"== {name}: migrated")
    except releases.MigrationError as error:
        sys.exit(f"rake aborted!\nStandardError: An error has occurred, all later migrations canceled:\n\n{error}")


def _reach(server: shared_state.Server) -> None:
    """Look for a Redis outside as Rails does when it starts."""
    try:
        shared_state.ask(server)
    except shared_state.errors() as error:
        sys.exit(f"rake aborted!\nRedisClient::CannotConnectError: {error}")


def _prepare(server: postgresql.Server) -> None:
    """Look at the server as GitLab does before it loads its schema."""
    failures = postgresql.driver()
    try:
        for warning in postgresql.prepare(server):
            print(warning)
    except failures.OperationalError as error:
        sys.exit(f"rake aborted!\nActiveRecord::ConnectionNotEstablished: {_words(error)}")
    except failures.Error as error:
        sys.exit(f"rake aborted!\nPG::{type(error).__name__}: ERROR:  {_words(error)}")


def _words(error: Exception) -> str:
    return str(error).strip().removeprefix("connection failed: ").removeprefix("connection is bad: ")


def background_migrations_status(config: Config) -> None:
    """Print all batched background migrations with their states."""
    with db.connect(config.database) as connection:
        print("\n".join(background_migrations.status_lines(connection)))


def background_migrations_finalize(config: Config) -> None:
    """Finish one migration; its class, table, column and arguments are on standard input, with commas between them."""
    words = sys.stdin.read().strip().split(",", 3)
    for name, value in zip_longest(("job_class_name", "table_name", "column_name", "job_arguments"), words):
        if not value:
            sys.exit(f"Must specify {name} as an argument")
    try:
        background_migrations.finalize(config.database, *words)
    except background_migrations.UnfinishedError as error:
        sys.exit(f"rake aborted!\n{error}")
    print("Done.")


def seeded(config: Config) -> None:
    """Say whether there is a user already."""
    with db.connect(config.database) as connection:
        print("yes" if db.one(connection, "SELECT 1 FROM users") else "no")


def seed(config: Config) -> None:
    """Make the first user. The exit code is 1 when the password is refused."""
    password = sys.stdin.read().rstrip("\n")
    with db.connect(config.database) as connection:
        try:
            users.create(
                connection,
                username="root",
                name="Administrator",
                email="admin@example.com",
                password=password,
                admin=True,
            )
        except ApiError as error:
            reasons = error.body["message"]
            text = (
                reasons
                if isinstance(reasons, str)
                else "; ".join(f"{key} {', '.join(v)}" for key, v in reasons.items())
            )
            sys.exit(f"Could not create the default administrator account:\n--> {text.capitalize()}")


def serve(config: Config) -> None:
    """Serve on the socket that nginx uses, and on loopback; the control of faults on a socket of its own."""
    # Who may reach it is decided by the directory that it is in.
    web = listen_privately(config.socket)
    config.socket.chmod(0o666)
    control = listen_privately(config.faults_socket)
    local = socket.socket()
    local.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    local.bind(("127.0.0.1", config.puma_port))
    faults = Faults(Shelf(config.faults_file))
    ending = threading.Event()
    try:
        server = _server(create_app(config, faults, ending), ending)
    except ValueError as error:
        sys.exit(str(error))
    beside = _server(create_fault_control(faults))
    stopping = (
        cleanup.start(config),
        background_migrations.start(config.database),
        scheduler.watch(config),
        hooks.watch(config),
    )
    thread = threading.Thread(target=beside.run, kwargs={"sockets": [control]})
    thread.start()
    server.run(sockets=[web, local])
    beside.should_exit = True
    thread.join()
    for event in stopping:
        event.set()


def listen_privately(path: Path) -> socket.socket:
    """A Unix socket for its owner and root; what a former process left is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


class _Server(uvicorn.Server):
    """Says when it ends, before it waits for the requests that it still has."""

    def __init__(self, config: uvicorn.Config, ending: threading.Event) -> None:
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests that there are."""
        self._ending.set()
        await super().shutdown(sockets)


def _server(app: ASGIApp, ending: threading.Event | None = None) -> uvicorn.Server:
    config = uvicorn.Config(app, access_log=False, proxy_headers=False, server_header=False, ws="wsproto")
    return _Server(config, ending or threading.Event())


COMMANDS = {
    one.__name__: one
    for one in (
        migrate,
        seeded,
        seed,
        serve,
        background_migrations_status,
        background_migrations_finalize,
    )
}


def main() -> None:
    """Run the command that the first argument names."""
    command = COMMANDS.get(sys.argv[1] if len(sys.argv) == 2 else "")
    if command is None:
        sys.exit(f"usage: python3 -m gitlab_web {'|'.join(COMMANDS)}")
    command(Config.load())


if __name__ == "__main__":
    main()
