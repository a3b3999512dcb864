"""Which managed databases an update has, and what each of them is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from components import versions
from components.database_engines import ENGINES, POSTGRESQL, VALKEY, settings_of
from components.known_resources import KnownResources
from components.settings import Settings

_MIB_PER_GIB: Final = 1024
_VERSIONS: Final = {POSTGRESQL: versions.POSTGRESQL, VALKEY: versions.VALKEY}


@dataclass(frozen=True)
class ClusterPlan:
    """A cluster. GitLab `uses` it; or it stays as it is, because its data may be in it, or because it is protected."""

    uses: bool
    version: str
    size: str
    nodes: int
    storage_mib: str | None = None


def database_cluster_name(prefix: str, engine: str) -> str:
    """Return the name of a cluster in the account."""
    return f"{prefix}-{engine}"


def deployed_clusters(known: KnownResources) -> dict[str, Mapping[str, Any]]:
    """The clusters in the state, by engine, with their outputs."""
    found = {engine: known.named(f"databases-{engine}") for engine in ENGINES}
    return {engine: one for engine, one in found.items() if one}


def plan_clusters(
    settings: Settings, deployed: Mapping[str, Mapping[str, Any]], engines: Collection[str]
) -> dict[str, ClusterPlan]:
    """The clusters of `engines`. `deployed` are those in the state."""
    return {engine: _plan(settings, engine, deployed.get(engine, {})) for engine in ENGINES if engine in engines}


def _plan(settings: Settings, engine: str, deployed: Mapping[str, Any]) -> ClusterPlan:
    wanted = settings_of(settings, engine)
    # DigitalOcean upgrades a cluster in place, and only when its owner asks: the state knows of it after a refresh.
    version = str(deployed.get("version") or _VERSIONS[engine])
    if not wanted.is_managed:
        return ClusterPlan(False, version, str(deployed["size"]), int(deployed["nodeCount"]), None)
    gigabytes = settings.databases.postgresql.storage_size_gb if engine == POSTGRESQL else None
    storage = str(gigabytes * _MIB_PER_GIB) if gigabytes else None
    return ClusterPlan(True, version, wanted.size, 1 + wanted.standby_nodes, storage)
