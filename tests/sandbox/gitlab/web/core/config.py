"""The configuration that `gitlab-ctl reconfigure` wrote for the application."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from . import shared_state
from .db import Database
from .objects import Files, ObjectStore
from .postgresql import Server

DIRECTORY = Path("/var/opt/gitlab/gitlab-rails/etc")
#: When GitLab looks at the schedules of pipelines, unless `gitlab.rb` says otherwise.
SCHEDULE_WORKER_CRON = "3-59/10 * * * *"
#: Workhorse's own value, unless `gitlab.rb` has one.
LONG_POLLING = "50ns"
VERSION_FILE = Path("/opt/gitlab/embedded/version")


@dataclass(frozen=True)
class Registry:
    """Where the registry is for clients, where for the application, and who signs its tokens."""

    host: str
    api_url: str
    issuer: str


@dataclass(frozen=True)
class Config:
    """Settings of the application. Secrets are kept out of `repr`."""

    external_url: str
    #: The server that `gitlab.rb` names, or the bundled one; a file where the application runs without a machine.
    database: Database = field(repr=False)
    #: A Redis outside, if `gitlab.rb` names one.
    redis: shared_state.Server | None = field(repr=False)
    #: The folder of what is kept in files beside the database.
    data: Path
    socket: Path
    puma_port: int
    monitoring_allowlist: tuple[str, ...]
    ssh_port: int
    registry: Registry | None
    git_data: Path
    version: str
    backup_path: Path
    backup_keep_time: int
    registry_path: Path
    artifacts_path: Path
    uploads_path: Path
    pipeline_schedule_worker_cron: str
    #: How long Workhorse holds a runner's request for jobs, as Go writes a duration; `50ns` is as good as not at all.
    long_polling: str
    time_zone: str
    #: Where this configuration is, and the Ruby half of the application, which sends mail.
    directory: Path
    rails: Path
    omniauth: dict[str, Any] = field(repr=False, hash=False)
    ldap: dict[str, Any] = field(repr=False, hash=False)
    db_key_base: str = field(repr=False)
    secret_key_base: str = field(repr=False)
    registry_key: str = field(repr=False)
    object_store: ObjectStore | None = field(default=None, repr=False, hash=False)

    @classmethod
    def load(cls, directory: Path = DIRECTORY, version_file: Path = VERSION_FILE) -> Config:
        """Read `gitlab.json` and `secrets.json`."""
        settings: dict[str, Any] = json.loads((directory / "gitlab.json").read_text())
        secrets: dict[str, str] = json.loads((directory / "secrets.json").read_text())
        keys = [secrets.pop(f"object_store_{name}_key", "") for name in ("access", "secret")]
        registry = settings["registry"]
        return cls(
            external_url=settings["external_url"],
            database=_database(settings, secrets),
            redis=_redis(settings, secrets),
            data=Path(settings["data"]),
            socket=Path(settings["socket"]),
            puma_port=int(settings["puma_port"]),
            monitoring_allowlist=tuple(settings["monitoring_allowlist"]),
            ssh_port=int(settings["ssh_port"]),
            registry=Registry(**registry) if registry else None,
            git_data=Path(settings["git_data"]),
            version=version_file.read_text().strip(),
            backup_path=Path(settings["backup_path"]),
            backup_keep_time=int(settings["backup_keep_time"]),
            registry_path=Path(settings["registry_path"]),
            artifacts_path=Path(settings["artifacts_path"]),
            uploads_path=Path(settings["uploads_path"]),
            object_store=ObjectStore.load(settings.get("object_store"), *keys),
            pipeline_schedule_worker_cron=settings.get("pipeline_schedule_worker_cron") or SCHEDULE_WORKER_CRON,
            long_polling=settings.get("api_ci_long_polling_duration") or LONG_POLLING,
            time_zone=_time_zone(settings.get("time_zone", "UTC")),
            directory=directory,
            rails=version_file.with_name("rails"),
            omniauth=settings.get("omniauth", {}),
            ldap=settings.get("ldap", {}),
            **secrets,
        )

    @property
    def artifacts(self) -> Files:
        """Artifacts and archived logs of jobs."""
        return self._files("artifacts", self.artifacts_path)

    @property
    def uploads(self) -> Files:
        """Files that are attached to issues and comments."""
        return self._files("uploads", self.uploads_path)

    def _files(self, type_: str, folder: Path) -> Files:
        return self.object_store.files(type_, folder) if self.object_store else Files(type_, folder)

    @property
    def faults_socket(self) -> Path:
        """Where tests inject faults, for root only: as GitLab's own user, nothing but this program runs."""
        return self.socket.with_name("faults.socket")

    @property
    def faults_file(self) -> Path:
        """The faults in force, which a restart keeps."""
        return self.data / "faults.json"

    def monitors(self, address: str) -> bool:
        """Whether health may be asked from this address."""
        try:
            client = ip_address(address)
        except ValueError:
            return False
        networks: list[IPv4Network | IPv6Network] = [ip_network(text, False) for text in self.monitoring_allowlist]
        return any(client in network for network in networks if network.version == client.version)


def _database(settings: dict[str, Any], secrets: dict[str, str]) -> Database:
    password = secrets.pop("database_password", None)
    server = settings.get("database_server")
    return Server(**server, password=password or "") if server else Path(settings["data"], "gitlab.sqlite3")


def _redis(settings: dict[str, Any], secrets: dict[str, str]) -> shared_state.Server | None:
    password = secrets.pop("redis_password", None)
    server = settings.get("redis_server")
    return shared_state.Server(**server, password=password or "") if server else None


def _time_zone(name: str) -> str:
    """The name of a time zone. With any other, Rails does not start."""
    try:
        return ZoneInfo(name).key
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"Invalid Timezone: {name}") from error
