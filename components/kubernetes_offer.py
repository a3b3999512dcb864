"""What the account offers for the clusters of runners: asked at preview, and only if a runner has one."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from components import api
from components.known_resources import KnownResources
from components.leftovers import without_import
from components.lost_answers import is_leaving
from components.offer import Droplet, Size
from components.settings import Reading, RunnerSettings
from components.survey import Started, Survey

#: What of a node's memory is left for pods, by that of its size, in GiB (DigitalOcean Kubernetes, allocatable memory).
_ALLOCATABLE: Final = {1: 0.5, 2: 1.0, 3: 1.66, 4: 2.5, 8: 6.0, 16: 13.0, 32: 28.0, 64: 58.0}
#: What it leaves of the processors, in thousandths.
_RESERVED_CPU: Final = 100
#: What DigitalOcean's own pods request of each node, such as Cilium, cpc-bridge-proxy and do-node-agent: about 512m and
#: 400 MiB in all, and here a little more, because a release may bring another one.
_BESIDE_CPU, _BESIDE_MEMORY = 520, 500
_GIB: Final = 1024
#: DigitalOcean's limit of a pool's name.
_LONGEST_POOL: Final = 55
_HOW: Final = "python -m pip install --require-hashes -r requirements-kubernetes.txt"


@dataclass(frozen=True)
class ClusterVersion:
    """A slug of DigitalOcean's, such as `1.36.3-do.0`, and whether the cluster is to keep what it has.

    The slug of a version that is kept may be older than what the cluster has: it is that of the last update.
    """

    slug: str
    is_kept: bool


@dataclass(frozen=True)
class _Options:
    """What DigitalOcean offers: slugs of versions by minor release, newest first; of sizes, and of regions.

    `upgrades` are the slugs that it would upgrade a cluster to, in the form of `versions`, by the name of the cluster.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    sizes: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    clusters: Sequence[Mapping[str, Any]] = ()
    upgrades: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Room:
    """What the account has: its droplets, how many more the update makes, and the limit; 0 if that is not known."""

    droplets: Sequence[Droplet]
    wanted: int
    limit: int


@dataclass(frozen=True)
class KubernetesOffer:
    """The clusters that the settings ask for, beside what is offered. Read once the survey has waited."""

    reading: Reading
    prefix: str
    _options: Started[_Options | None]

    @classmethod
    def start(cls, survey: Survey, reading: Reading, prefix: str) -> KubernetesOffer:
        """Have the survey ask, if there is anything to ask for."""
        return cls(reading, prefix, survey.start(lambda part: _read(part, reading, prefix), beside=True))

    @property
    def _runners(self) -> Iterator[tuple[str, RunnerSettings]]:
        for place, runner in _clusters_of(self.reading):
            if self.reading.has(f"{place}.name"):
                yield place, runner

    def versions(self, known: KnownResources, network: str | None) -> dict[str, ClusterVersion]:
        """The version of each cluster by the name of its runner.

        A cluster keeps the patch that it has: DigitalOcean installs newer ones, and an older one would replace it. One
        that is replaced, because the region or the `network` is another one, gets what is offered now.
        """
        options = self._options.answer or _Options()
        return {runner.name: self._version(runner, options, known, network) for _, runner in self._runners}

    def _version(
        self, runner: RunnerSettings, options: _Options, known: KnownResources, network: str | None
    ) -> ClusterVersion:
        deployed, wanted = self._known(runner, known), runner.cluster.version
        current = str(deployed.get("version", ""))
        newest = next(iter(options.versions.values()), "")
        if self._is_replaced(deployed, network):
            return ClusterVersion(options.versions.get(wanted or minor_of(current), newest), is_kept=False)
        if current and wanted in {None, minor_of(current)}:
            return ClusterVersion(current, is_kept=True)
        offered = {**options.versions, **options.upgrades.get(cluster_name(self.prefix, runner.name), {})}
        return ClusterVersion(offered.get(wanted or "", newest), is_kept=False)

    def _is_replaced(self, deployed: Mapping[str, Any], network: str | None) -> bool:
        """Neither its region nor its network can be changed."""
        places = (deployed.get("region"), self.reading.settings.region), (deployed.get("vpcUuid"), network)
        return any(now and wanted is not None and now != wanted for now, wanted in places)

    def _is_replicated(self, runner: RunnerSettings, known: KnownResources) -> bool:
        return bool(self._known(runner, known).get("ha"))

    def _deployed(self, runner: RunnerSettings, known: KnownResources) -> str:
        return str(self._known(runner, known).get("version", ""))

    def _known(self, runner: RunnerSettings, known: KnownResources) -> Mapping[str, Any]:
        name = cluster_name(self.prefix, runner.name)
        return next((one for one in known.of_type("KubernetesCluster") if one.get("name") == name), {})

    def _pool(self, runner: RunnerSettings, known: KnownResources) -> Mapping[str, Any]:
        name = pool_name(self.prefix, runner.name)
        return next((one for one in known.of_type("KubernetesNodePool") if one.get("name") == name), {})

    def errors(self, known: KnownResources, sizes: Sequence[Size], room: Room) -> Iterator[str]:
        """Everything that would keep a cluster from being created, or jobs from running on it."""
        more = 0
        for place, runner in self._runners:
            if importlib.util.find_spec("pulumi_kubernetes") is None:
                yield (
                    f"{place}.kind: kubernetes needs the package pulumi-kubernetes, which is not installed; the "
                    f"cluster could be created, and nothing in it. In the program's environment, run: {_HOW}"
                )
            options = self._options.answer
            if options is None:
                continue
            yield from self._offer_errors(place, runner, options, known)
            yield from self._size_errors(place, runner, options, known, sizes)
            yield from _fit_errors(place, runner, self.reading, sizes)
            additional = self._additional_nodes(runner, known, room.droplets)
            more += additional
            total = len(room.droplets) + room.wanted + more
            if additional and room.limit and total > room.limit:
                yield (
                    f"{place}.cluster.maxNodes: the cluster may have {1 + runner.cluster.max_nodes} nodes in all, with "
                    f"which the account would have {total} droplets, and its limit is {room.limit}; DigitalOcean would "
                    "refuse the nodes. Lower it, or ask for a higher limit under Settings in the control panel"
                )

    def _additional_nodes(self, runner: RunnerSettings, known: KnownResources, droplets: Sequence[Droplet]) -> int:
        """How many more nodes the cluster may get, if that changes: DigitalOcean wants room for all of them."""
        cluster, pool = self._known(runner, known), self._pool(runner, known)
        if pool and runner.cluster.max_nodes <= int(pool.get("maxNodes") or 0):
            return 0
        tag = f"k8s:{cluster.get('id')}"
        return max(0, 1 + runner.cluster.max_nodes - sum(tag in droplet.tags for droplet in droplets))

    def _size_errors(
        self, place: str, runner: RunnerSettings, options: _Options, known: KnownResources, sizes: Sequence[Size]
    ) -> Iterator[str]:
        """Sizes of nodes that are about to be created: those of a pool are, once it has another size.

        Another size of the manager's node is refused anyway.
        """
        region = self.reading.settings.region
        there = {size.slug for size in sizes if size.available and region in size.regions}
        # Without an answer about sizes, that alone is reported.
        offered = sorted(options.sizes & there if sizes and self.reading.has("region") else options.sizes)
        created = [("size", runner.size)] if runner.size != self._pool(runner, known).get("size") else []
        if not self._deployed(runner, known):
            created.append(("cluster.managerSize", runner.cluster.manager_size))
        for key, size in created:
            if not self.reading.has(f"{place}.{key}") or size in offered:
                continue
            where = f"available in {region}" if size in options.sizes else "a size of nodes"
            yield (
                f"{place}.{key}: {size} is not {where}; no node of it could be created. DigitalOcean offers, for "
                f"example, {', '.join(offered[:3]) or 'none there'}"
            )

    def _offer_errors(
        self, place: str, runner: RunnerSettings, options: _Options, known: KnownResources
    ) -> Iterator[str]:
        settings, current = self.reading.settings, self._deployed(runner, known)
        offered = ", ".join(options.versions)
        if self.reading.has("region") and settings.region not in options.regions:
            yield (
                f"{place}.kind: DigitalOcean has no Kubernetes in {settings.region}; the cluster could not be created. "
                f"Use a runner on machines, or one of the regions {', '.join(sorted(options.regions))}"
            )
        yield from self._manager_errors(place, runner, known)
        if self._is_replicated(runner, known) and not runner.cluster.high_availability:
            yield (
                f"{place}.cluster.highAvailability: the cluster has it, and DigitalOcean cannot turn it off; it would "
                "refuse the change. Set it to true"
            )
        wanted = runner.cluster.version if self.reading.has(f"{place}.cluster") else None
        if wanted and current and _number(wanted) < _number(minor_of(current)):
            yield (
                f"{place}.cluster.version: {wanted} is older than {minor_of(current)}, which the cluster has; the "
                f"cluster would be replaced. Set it to {minor_of(current)}"
            )
        elif wanted and wanted != minor_of(current) and wanted not in options.versions:
            yield (
                f"{place}.cluster.version: DigitalOcean does not offer Kubernetes {wanted}; the cluster could not be "
                f"created. It offers {offered}"
            )
        elif wanted and current and _number(wanted) > _number(minor_of(current)) + 1:
            yield (
                f"{place}.cluster.version: the cluster has {minor_of(current)}, and is upgraded by one release at a "
                f"time; DigitalOcean would refuse {wanted}. Set it to 1.{_number(minor_of(current)) + 1} first"
            )
        elif wanted and current and wanted != minor_of(current):
            yield from self._upgrade_errors(place, runner, wanted, options)
        yield from self._name_errors(place, runner, options, known)

    def _upgrade_errors(self, place: str, runner: RunnerSettings, wanted: str, options: _Options) -> Iterator[str]:
        """DigitalOcean upgrades a cluster to the next release only from the newest patch of its own."""
        name = cluster_name(self.prefix, runner.name)
        cluster = next((one for one in options.clusters if one.get("name") == name), None)
        available = options.upgrades.get(name)
        if cluster is None or available is None or wanted in available:
            return
        first = available.get(minor_of(str(cluster["version"])))
        patch = f" --version {first}" if first else ""
        yield (
            f"{place}.cluster.version: DigitalOcean would refuse to upgrade the cluster from {cluster['version']} to "
            f"{wanted}: the patches of its own release come first, which it installs in the hours of maintenance. To "
            f"have them now: doctl kubernetes cluster upgrade {cluster['id']}{patch}. Until then, set it to "
            f"{minor_of(str(cluster['version']))}"
        )

    def _manager_errors(self, place: str, runner: RunnerSettings, known: KnownResources) -> Iterator[str]:
        """A cluster's first pool keeps its size for life: the provider would replace the whole cluster."""
        size = str((self._known(runner, known).get("nodePool") or {}).get("size") or "")
        if size and self.reading.has(f"{place}.cluster") and size != runner.cluster.manager_size:
            yield (
                f"{place}.cluster.managerSize: the cluster has a node of the size {size}, which cannot be changed; the "
                f"whole cluster would be replaced, and its jobs would be lost. Set it to {size}; or give the runner "
                "another name, in the projects as well: then a new cluster takes jobs before the old one goes"
            )

    def _name_errors(
        self, place: str, runner: RunnerSettings, options: _Options, known: KnownResources
    ) -> Iterator[str]:
        name = cluster_name(self.prefix, runner.name)
        for one in options.clusters if name not in known.names("KubernetesCluster") else ():
            # The update waits for the end of one that is being deleted.
            if one.get("name") == name and not is_leaving(one):
                yield without_import(
                    known,
                    f"{place}.name",
                    f"a cluster {name} (ID {one['id']})",
                    "DigitalOcean would refuse a second one",
                    f"Without make, delete it with doctl kubernetes cluster delete {one['id']}",
                )


def cluster_name(prefix: str, runner: str) -> str:
    """Return the name of a runner's cluster in the account."""
    return f"{prefix}-{runner}"


def pool_name(prefix: str, runner: str, purpose: str = "jobs") -> str:
    """Return the name of a pool of a runner's cluster: that of the nodes for its jobs, or another one."""
    return f"{prefix}-{runner}-{purpose}"[-_LONGEST_POOL:]


def minor_of(version: str) -> str:
    """Return the minor release of a slug: `1.36` of `1.36.3-do.0`."""
    return ".".join(version.split(".")[:2])


def _number(minor: str) -> int:
    return int(minor.partition(".")[2] or 0)


def _clusters_of(reading: Reading) -> Iterator[tuple[str, RunnerSettings]]:
    for number, runner in enumerate(reading.settings.runners):
        place = f"runners[{number}]"
        if runner.is_cluster and reading.has(f"{place}.kind"):
            yield place, runner


def _read(survey: Survey, reading: Reading, prefix: str) -> _Options | None:
    if not any(_clusters_of(reading)):
        return _Options()
    try:
        options = api.request("/v2/kubernetes/options")["options"]
        clusters = list(api.every("/v2/kubernetes/clusters", "kubernetes_clusters", api.request))
        upgrades = dict(_upgrades(reading, prefix, clusters))
    except api.RefusedError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            survey.note(
                [
                    "DIGITALOCEAN_TOKEN: may not read Kubernetes clusters (403); the update would fail later. Use a "
                    "token with the scope kubernetes:read"
                ]
            )
        else:
            survey.note([f"DigitalOcean did not say what it offers of Kubernetes; nothing was changed: {error}"])
        return None
    except RuntimeError as error:
        survey.note([f"DigitalOcean did not say what it offers of Kubernetes; nothing was changed: {error}"])
        return None
    return _Options(
        _newest(options["versions"]),
        frozenset(str(one["slug"]) for one in options["sizes"]),
        frozenset(str(one["slug"]) for one in options["regions"]),
        clusters,
        upgrades,
    )


def _upgrades(
    reading: Reading, prefix: str, clusters: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """What DigitalOcean would upgrade the clusters to that are to have another release, by their names."""
    wanted = {
        cluster_name(prefix, runner.name): runner.cluster.version
        for place, runner in _clusters_of(reading)
        if reading.has(f"{place}.name") and reading.has(f"{place}.cluster") and runner.cluster.version
    }
    for one in clusters:
        version = wanted.get(str(one["name"]))
        if version and version != minor_of(str(one.get("version", ""))):
            found = api.request(f"/v2/kubernetes/clusters/{one['id']}/upgrades")["available_upgrade_versions"]
            yield str(one["name"]), _newest(found or [])


def _newest(versions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The newest slug of each minor release, newest first."""
    newest: dict[str, str] = {}
    for slug in sorted((str(one["slug"]) for one in versions), key=_order, reverse=True):
        newest.setdefault(minor_of(slug), slug)
    return newest


def _order(slug: str) -> list[int]:
    return [int(part) for part in slug.replace("-do", "").split(".") if part.isdigit()]


def _fit_errors(place: str, runner: RunnerSettings, reading: Reading, sizes: Sequence[Size]) -> Iterator[str]:
    """A job that fits on no node: it would wait until the runner gives up, and nodes would never be added for it."""
    size = next((one for one in sizes if one.slug == runner.size), None)
    if size is None or not reading.has(f"{place}.size", f"{place}.cluster"):
        return
    gigabytes = max((known for known in _ALLOCATABLE if known * _GIB <= size.memory), default=1)
    memory = int(_ALLOCATABLE[gigabytes] * _GIB) - _BESIDE_MEMORY
    cpu = size.vcpus * 1000 - _RESERVED_CPU - _BESIDE_CPU
    if runner.cluster.mebibytes > memory:
        yield (
            f"{place}.cluster.jobMemory: {runner.cluster.job_memory} fits on no node of the size {runner.size}, which "
            f"has {memory}Mi for jobs; every job would wait in vain. Lower it, or use a larger size"
        )
    if runner.cluster.millicores > cpu:
        yield (
            f"{place}.cluster.jobCpu: {runner.cluster.job_cpu} fits on no node of the size {runner.size}, which has "
            f"{cpu}m for jobs; every job would wait in vain. Lower it, or use a larger size"
        )
