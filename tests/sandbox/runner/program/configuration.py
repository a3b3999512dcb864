"""`config.toml`: reads, changes and writes it without losing anything, and keeps the system ID beside it."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import secrets
import string
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

DEFAULT_FILE = Path("/etc/gitlab-runner/config.toml")
NEVER = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
#: What a runner's token starts with when it was made on the server, and how many characters of it are shown.
CREATED_TOKEN_PREFIX = "glrt-"  # noqa: S105 - no password
SHORT_TOKEN = 9

Table = dict[str, Any]


class ConfigurationError(Exception):
    """The file cannot be read, or does not say what it must."""


def new_document() -> Table:
    """What a fresh file says."""
    return {
        "concurrent": 1,
        "check_interval": 0,
        "connection_max_age": "15m0s",
        "shutdown_timeout": 0,
        "session_server": {"session_timeout": 1800},
    }


def short_token(token: str) -> str:
    """What logs and names show of a token."""
    return token.removeprefix(CREATED_TOKEN_PREFIX).removeprefix("t1_")[:SHORT_TOKEN]


class Configuration:
    """One configuration file and what it says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document = new_document()
        self.loaded = False

    def load(self) -> Configuration:
        """Read the file if there is one. `ConfigurationError` for one that cannot be used."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return self
        except OSError as error:
            raise ConfigurationError(f"open {self.path}: {error.strerror}") from None
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"decoding {self.path}: toml: {error}") from None
        self.document = {**new_document(), **document}
        if not isinstance(self.document.setdefault("runners", []), list):
            raise ConfigurationError(f"decoding {self.path}: toml: runners is not an array of tables")
        self.loaded = True
        return self

    @property
    def runners(self) -> list[Table]:
        """The `[[runners]]`, in their order."""
        found: list[Table] = self.document.setdefault("runners", [])
        return found

    @runners.setter
    def runners(self, value: list[Table]) -> None:
        self.document["runners"] = value

    @property
    def concurrent(self) -> int:
        """How many jobs may run at once. `ConfigurationError` when none may."""
        number = int(self.document["concurrent"])
        if number < 1:
            raise ConfigurationError("concurrent limit must be at least 1")
        return number

    def save(self) -> None:
        """Write the file, readable by its owner only, in one step."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(tomli_w.dumps({name: value for name, value in self.document.items() if value != []}))
        unfinished.replace(self.path)
        self.loaded = True

    def system_id(self) -> str:
        """Which host this is: made at the first question and kept beside the configuration."""
        file = self.path.with_name(".runner_system_id")
        if file.exists() and (known := file.read_text().strip()):
            return known
        made = _machine_id() or "r_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12))
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(made)
        file.chmod(0o600)
        return made


def _machine_id() -> str:
    try:
        identity = Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""
    return "s_" + hashlib.sha256(f"gitlab-runner {identity}".encode()).hexdigest()[:12] if identity else ""
