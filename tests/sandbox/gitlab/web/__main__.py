"""Commands of the application, for the package: `migrate`, `seeded`, `seed` (password on stdin), `psql`, `serve`."""

from __future__ import annotations

import socket
import sys

import uvicorn

from .app import create_app
from .core import background_migrations, cleanup, db, users
from .core.config import Config
from .core.errors import ApiError


def migrate(config: Config) -> None:
    """Bring the database up to date. The exit code is 1 if a migration of the last version has not finished."""
    for name in db.migrate(config.database):
        print(f"== {name}: migrated")
    with db.connect(config.database) as connection:
        try:
            background_migrations.upgrade(connection, config.version)
        except background_migrations.UnfinishedError as error:
            sys.exit(f"rake aborted!\nStandardError: An error has occurred, all later migrations canceled:\n\n{error}")


def psql(config: Config) -> None:
    """Answer a query on standard input as `psql -tA` does: no header, one row a line, bars between columns."""
    with db.connect(config.database) as connection:
        background_migrations.advance(connection)
    with db.connect(config.database) as connection:
        connection.execute("PRAGMA query_only = ON")
        for row in connection.execute(sys.stdin.read()):
            print("|".join("" if value is None else str(value) for value in row))


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
    """Serve on the socket that nginx uses, and on loopback."""
    config.socket.unlink(missing_ok=True)
    web = socket.socket(socket.AF_UNIX)
    web.bind(str(config.socket))
    config.socket.chmod(0o666)  # Who may reach it is decided by the directory that it is in.
    local = socket.socket()
    local.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    local.bind(("127.0.0.1", config.puma_port))
    server = uvicorn.Server(
        uvicorn.Config(create_app(config), access_log=False, proxy_headers=False, server_header=False, ws="none")
    )
    cleaning = cleanup.start(config)
    server.run(sockets=[web, local])
    cleaning.set()


COMMANDS = {"migrate": migrate, "seeded": seeded, "seed": seed, "psql": psql, "serve": serve}


def main() -> None:
    """Run the command that the first argument names."""
    command = COMMANDS.get(sys.argv[1] if len(sys.argv) == 2 else "")
    if command is None:
        sys.exit(f"usage: python3 -m gitlab_web {'|'.join(COMMANDS)}")
    command(Config.load())


if __name__ == "__main__":
    main()
