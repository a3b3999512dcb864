"""What the account offers of managed databases: asked at preview, and only if the settings or the state have one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from components import api, versions
from components.cost import STORAGE_GIB
from components.database_engines import ENGINES, POSTGRESQL, VALKEY, settings_of
from components.database_plan import database_cluster_name, deployed_clusters
from components.known_resources import KnownResources
from components.settings import NEW, DatabaseSettings, Reading
from components.survey import Started, Survey

#: As the API and people call them.
_API_NAMES: Final = {POSTGRESQL: "pg", VALKEY: "valkey"}
_NAMES: Final = {POSTGRESQL: "PostgreSQL", VALKEY: "Valkey"}
_VERSIONS: Final = {POSTGRESQL: versions.POSTGRESQL, VALKEY: versions.VALKEY}
_MEMORY: Final = re.compile(r"-(\d+)gb")
_MOST_SUGGESTIONS: Final = 3


@dataclass(frozen=True)
class _Options:
    """What DigitalOcean offers, by engine as its API calls them; and the clusters of the account."""

    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    clusters: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class DatabaseOffer:
    """The clusters that the settings ask for, beside what is offered. Read once the survey has waited."""

    reading: Reading
    prefix: str
    _options: Started[_Options | None]

    @classmethod
    def start(cls, survey: Survey, reading: Reading, prefix: str) -> DatabaseOffer:
        """Have the survey ask, if there is anything to ask for."""
        return cls(reading, prefix, survey.start(lambda part: _read(part, reading), beside=True))

    def errors(self, known: KnownResources) -> Iterator[str]:
        """Everything that would keep a cluster from being created or changed, or lose it."""
        deployed = deployed_clusters(known)
        yield from self._place_errors(deployed, known)
        options = self._options.answer
        for engine in _wanted(self.reading):
            current, wanted = deployed.get(engine, {}), settings_of(self.reading.settings, engine)
            if current:
                yield from _change_errors(engine, wanted, current)
            yield from _storage_errors(engine, wanted, current)
            if options is None:
                continue
            offered = options.engines.get(_API_NAMES[engine], {})
            yield from self._offer_errors(engine, wanted, current, offered)
            if not current:
                yield from self._name_errors(engine, options)

    def _place_errors(self, deployed: Mapping[str, Mapping[str, Any]], known: KnownResources) -> Iterator[str]:
        """A cluster cannot move to another network, and lies in that of the stack."""
        settings = self.reading.settings
        for engine, cluster in deployed.items():
            back = (
                f"the cluster {cluster['name']} would be replaced by an empty one. Set it back, or run an update with "
                f"databases.{engine}.kind: bundled first, which moves its data to the volume"
            )
            if self.reading.has("region") and cluster["region"] != settings.region:
                yield f"region: {settings.region} cannot follow {cluster['region']}; {back}"
            network = known.named("network-vpc")
            if self.reading.has("server.vpcCidr") and settings.server.vpc_cidr and network:
                wanted, current = str(settings.server.vpc_cidr), network["ipRange"]
                if wanted != current:
                    yield f"server.vpcCidr: {wanted} cannot follow {current}; {back}"

    def _offer_errors(
        self, engine: str, wanted: DatabaseSettings, current: Mapping[str, Any], offered: Mapping[str, Any]
    ) -> Iterator[str]:
        place, region, name = f"databases.{engine}", self.reading.settings.region, _NAMES[engine]
        if current and (current["size"], int(current["nodeCount"])) == (wanted.size, 1 + wanted.standby_nodes):
            # DigitalOcean keeps running what it no longer offers.
            return
        if not current and self.reading.has("region") and region not in offered.get("regions", ()):
            yield (
                f"{place}.kind: DigitalOcean has no managed {name} in {region}; the cluster could not be created. Use "
                f"the bundled one, or one of the regions {', '.join(sorted(offered.get('regions', ())))}"
            )
        if not current and _VERSIONS[engine] not in offered.get("versions", ()):
            yield (
                f"{place}.kind: DigitalOcean does not offer {name} {_VERSIONS[engine]}, which GitLab needs; the "
                "cluster could not be created. Set it to bundled"
            )
        sizes = {int(one["num_nodes"]): list(one["sizes"]) for one in offered.get("layouts", ())}
        if not self.reading.has(f"{place}.size"):
            return
        if not any(wanted.size in one for one in sizes.values()):
            yield (
                f"{place}.size: {wanted.size} is not a size of managed {name}; no cluster could have it. DigitalOcean "
                f"offers, for example, {', '.join(sizes.get(1, [])[:_MOST_SUGGESTIONS])}"
            )
        elif self.reading.has(f"{place}.standbyNodes") and wanted.size not in sizes.get(1 + wanted.standby_nodes, ()):
            larger = sizes.get(1 + wanted.standby_nodes, [])[:1]
            advice = f"a size with more memory, such as {larger[0]}" if larger else "fewer of them"
            yield (
                f"{place}.standbyNodes: {wanted.size} cannot have {wanted.standby_nodes}; DigitalOcean would refuse "
                f"the cluster. Use {advice}"
            )

    def _name_errors(self, engine: str, options: _Options) -> Iterator[str]:
        name, settings = database_cluster_name(self.prefix, engine), self.reading.settings
        recovered = getattr(settings.recover, engine)
        found = [one for one in options.clusters if one.get("name") == name]
        for one in found:
            if one["id"] != recovered:
                yield (
                    f"databases.{engine}.kind: the account has a cluster {name} (ID {one['id']}), which is not in this "
                    "stack's state; DigitalOcean would refuse a second one. If the state of this stack was lost, take "
                    f"it over with make recover, or with recover.{engine}: {one['id']}; if nothing needs it, delete it "
                    f"with doctl databases delete {one['id']}"
                )
        if recovered not in {None, NEW} and recovered not in {one["id"] for one in found}:
            yield (
                f"recover.{engine}: the account has no cluster {name} with the ID {recovered}; there is nothing to "
                "take over. make strays lists the clusters that no stack has"
            )


def _change_errors(engine: str, wanted: DatabaseSettings, current: Mapping[str, Any]) -> Iterator[str]:
    """What DigitalOcean does not do to a cluster that exists, and what GitLab cannot use."""
    place = f"databases.{engine}"
    before, after = _memory(str(current["size"])), _memory(wanted.size)
    if before and after and after < before:
        yield (
            f"{place}.size: {wanted.size} cannot follow {current['size']}; DigitalOcean does not make a cluster "
            f"smaller. Set it to {current['size']}; or move the data to the server and back, with kind: bundled in "
            "between"
        )
    storage = getattr(wanted, "storage_size_gb", None)
    has = int(current.get("storageSizeMib") or 0) // 1024
    if storage and storage < has:
        yield (
            f"{place}.storageSizeGb: {storage} cannot follow {has}; the storage of a cluster does not shrink. Set it "
            f"to {has} or more"
        )
    version = str(current.get("version") or "")
    if engine == POSTGRESQL and version.isdigit() and int(version) < int(versions.POSTGRESQL):
        yield (
            f"{place}.kind: the cluster has PostgreSQL {version}, and GitLab needs {versions.POSTGRESQL}; it would not "
            "start. Upgrade the cluster in DigitalOcean's control panel, then run: pulumi refresh"
        )


def _storage_errors(engine: str, wanted: DatabaseSettings, current: Mapping[str, Any]) -> Iterator[str]:
    """A size has a range of storage. What a cluster has already is not asked for again."""
    storage = getattr(wanted, "storage_size_gb", None)
    least, most = STORAGE_GIB.get(wanted.size, (0, storage))
    unchanged = (current.get("size"), int(current.get("storageSizeMib") or 0) // 1024) == (wanted.size, storage)
    if storage and not unchanged and not least <= storage <= most:
        yield (
            f"databases.{engine}.storageSizeGb: {storage} is not a storage of {wanted.size}, which has {least} to "
            f"{most} GiB; DigitalOcean would refuse the cluster. Use one of these, or another size"
        )


def _memory(size: str) -> int:
    found = _MEMORY.search(size)
    return int(found[1]) if found else 0


def _wanted(reading: Reading) -> list[str]:
    return [
        engine
        for engine in ENGINES
        if reading.has(f"databases.{engine}.kind") and settings_of(reading.settings, engine).is_managed
    ]


def _read(survey: Survey, reading: Reading) -> _Options | None:
    if not _wanted(reading):
        return _Options()
    try:
        options = api.request("/v2/databases/options")["options"]
        clusters = list(api.every("/v2/databases", "databases", api.request))
    except RuntimeError as error:
        if isinstance(error, api.RefusedError) and error.status == HTTPStatus.FORBIDDEN:
            survey.note(
                [
                    "DIGITALOCEAN_TOKEN: may not read managed databases (403); the update would fail later. Use a "
                    "token with the scope database:read"
                ]
            )
        else:
            survey.note([f"DigitalOcean did not say what it offers of databases; nothing was changed: {error}"])
        return None
    return _Options(options, clusters)
