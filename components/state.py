"""The deployed state of a stack, and the plan of the update that follows it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import pulumi
from pulumi.output import Unknown

from components.database_engines import ENGINES, wanted_engines
from components.settings import DnsZone, ProjectSettings, Settings, SettingsError, Storage
from components.upgrades import upgrade_errors

_READ_AGAIN_SECONDS: Final = 5


@dataclass(frozen=True)
class DeploymentState:
    """What the last successful update deployed, as far as later updates depend on it.

    `kept` says whether volume, buckets and domain are protected; `has_bucket`, `has_domain` and `has_backups` whether
    the stack created them: the registry's bucket, the domain, the bucket with the backups. `projects` are the IDs of
    its projects by their paths; `imported` those of the projects that it imported.
    `slugs` are the sizes and images of its droplets. From outputs of their own come `address` and `fqdn` of the server,
    and `monthly_cost`, in US dollars by item.
    `protected` are the paths of imported projects whose default branch the stack protects; None if the program that
    deployed it always did. `groups` are the groups of the projects that it created, by path; empty for the
    administrator's namespace. `volume_gb` is the size of the data volume, 0 if it was not recorded. `leaves_domain`
    says whether a domain that the stack created stays when it leaves the stack, and `has_signing_key` whether it has
    the key of signatures. `group_ids` are the IDs of its groups by their paths in lowercase, and `imported_groups`
    those of the groups that it imported. `has_objects` says whether it has Spaces for GitLab's files, in
    `objects_region`, and `uses_objects` whether files are in them. `has_databases` are the engines of its managed
    databases, and `uses_databases` those that GitLab uses.
    """

    gitlab_version: str
    region: str
    domain: str
    has_domain: bool
    has_bucket: bool
    spaces_region: str
    kept: bool
    has_backups: bool = False
    backups_region: str = ""
    projects: Mapping[str, str] = field(default_factory=dict)
    imported: Mapping[str, str] = field(default_factory=dict)
    slugs: Sequence[str] = ()
    address: str = ""
    fqdn: str = ""
    monthly_cost: Mapping[str, float] = field(default_factory=dict)
    protected: Sequence[str] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    volume_gb: int = 0
    leaves_domain: bool = False
    has_signing_key: bool = False
    group_ids: Mapping[str, str] = field(default_factory=dict)
    imported_groups: Mapping[str, str] = field(default_factory=dict)
    has_objects: bool = False
    uses_objects: bool = False
    objects_region: str = ""
    has_databases: Sequence[str] = ()
    uses_databases: Sequence[str] = ()

    @classmethod
    def of_stack(cls) -> Self | None:
        """Return the state that this stack has exported; None before its first successful update.

        The engine reads the stack's outputs itself, without a `StackReference`: that would be a resource, with a copy
        of all outputs in the state and drift at every refresh after an update.
        """
        stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
        found = read_while_written("pulumi:pulumi:readStackOutputs", {"name": stack})["outputs"]
        # An update of some targets alone leaves outputs that are not known.
        return cls.of_outputs({key: value for key, value in found.items() if not isinstance(value, Unknown)})

    @classmethod
    def of_outputs(cls, outputs: Mapping[str, Any]) -> Self | None:
        """Return the state that is among these outputs of an installation; None if there is none."""
        exported: Mapping[str, Any] | None = outputs.get("deployed")
        if not exported:
            return None
        values = dict(exported)
        values["address"] = outputs.get("server_address") or ""
        values["fqdn"] = (outputs.get("gitlab_url") or "").removeprefix("https://")
        values["monthly_cost"] = (outputs.get("monthly_cost") or {}).get("items", {})
        # The engine returns all numbers as fractions.
        values["volume_gb"] = int(values.get("volume_gb") or 0)
        # The key of the output: stacks have it in their state.
        return cls(imported=values.pop("adopted", {}), **values)

    def as_output(self) -> dict[str, Any]:
        """Return the state for `pulumi.export`, as `of_stack` takes it."""
        values = asdict(self)
        del values["address"], values["fqdn"], values["monthly_cost"]
        values["adopted"] = values.pop("imported")
        values["slugs"] = list(self.slugs)
        # Of a stack that has never signed, or has no groups, Spaces for files or databases, the output is what it was.
        further = (
            *("has_signing_key", "group_ids", "imported_groups", "has_objects", "uses_objects", "objects_region"),
            *("has_databases", "uses_databases"),
        )
        for key in further:
            if not values[key]:
                del values[key]
        return values

    @property
    def own_groups(self) -> Mapping[str, str]:
        """The IDs of the groups that it created, by path in lowercase."""
        return {path: number for path, number in self.group_ids.items() if path not in self.imported_groups}


@dataclass(frozen=True)
class DeploymentPlan:
    """What an update deploys. Protected data stays in the graph, even if the settings no longer ask for it.

    `has_domain`, `has_bucket`, `has_backups` and `has_signing_key` say whether the stack owns them; a domain that the
    settings call `existing` stays in the graph, too, in order to be left behind with all records of others.
    `has_objects` says whether it has Spaces for GitLab's files. When the settings no longer ask for these, the update
    that moves the files back to the volume keeps the Spaces; the next one deletes them, unless they are protected. It
    is the same with the clusters of `databases`, which are engines.
    `known_ids` are the IDs of kept projects by path, and `moved_ids` those of projects whose group is not the deployed
    one. `known_groups` are the IDs of kept groups, by path in lowercase; `removed_groups` those of groups that the
    update deletes, and `leaving_ids` those of projects that it deletes or moves before that.
    """

    settings: Settings
    has_domain: bool
    has_bucket: bool
    spaces_region: str
    has_backups: bool
    backups_region: str
    has_signing_key: bool
    has_objects: bool
    objects_region: str
    databases: tuple[str, ...]
    known_ids: Mapping[str, str]
    moved_ids: Mapping[str, str]
    known_groups: Mapping[str, str]
    removed_groups: Mapping[str, str]
    leaving_ids: frozenset[str]

    @classmethod
    def after(
        cls,
        deployed: DeploymentState | None,
        settings: Settings,
        recovered: Mapping[str, str] | None = None,
        recovered_groups: Mapping[str, str] | None = None,
        objects_region: str = "",
        *,
        clusters: Collection[str] = (),
    ) -> Self:
        """Plan the update that follows `deployed` with `settings`; None means that it is the first one.

        `recovered` and `recovered_groups` are the IDs, by path, of projects and groups that exist and that a lost state
        had. `objects_region` is that of the Spaces for GitLab's files in the state, empty without any; an update that
        failed may have left them there, with files in them. So it may with `clusters`, the engines in the state.

        Raises:
            SettingsError: with every reason why the settings cannot follow, before anything is registered.
        """
        if errors := conflicts(deployed, settings):
            raise SettingsError(errors)
        protected = deployed if deployed and deployed.kept else None
        own_domain = deployed is not None and deployed.has_domain and deployed.domain == settings.domain
        return cls(
            settings=settings,
            has_domain=settings.dns.zone is DnsZone.CREATE or own_domain,
            has_bucket=settings.registry.storage is Storage.SPACES or (protected is not None and protected.has_bucket),
            spaces_region=protected.spaces_region if protected and protected.has_bucket else settings.spaces_region,
            has_backups=settings.backup.enabled or (protected is not None and protected.has_backups),
            backups_region=protected.backups_region if protected and protected.has_backups else settings.backups_region,
            has_signing_key=settings.signs or (protected is not None and protected.has_signing_key),
            has_objects=settings.uses_object_storage or (bool(objects_region) and not _is_moved_back(deployed)),
            objects_region=objects_region or settings.objects_region,
            databases=_databases(deployed, settings, clusters),
            known_ids={**(protected.projects if protected else {}), **(recovered or {})},
            moved_ids=_moved_ids(deployed, settings) if deployed else {},
            known_groups={**(protected.own_groups if protected else {}), **(recovered_groups or {})},
            removed_groups=removed_groups(deployed, settings),
            leaving_ids=_leaving_ids(deployed, settings) if deployed else frozenset(),
        )

    def completed(
        self, gitlab_version: str, project_ids: Mapping[str, str], group_ids: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the state after this update, for `pulumi.export`, with the installed version and all IDs in GitLab."""
        settings = self.settings
        return DeploymentState(
            gitlab_version=gitlab_version,
            region=settings.region,
            domain=settings.domain,
            has_domain=self.has_domain,
            has_bucket=self.has_bucket,
            spaces_region=self.spaces_region,
            kept=settings.keep_data,
            has_backups=self.has_backups,
            backups_region=self.backups_region if self.has_backups else "",
            slugs=settings.slugs,
            projects=dict(project_ids),
            imported={project.path: project.import_id for project in settings.projects if project.import_id},
            protected=[one.path for one in settings.projects if one.imported and one.protects_default_branch],
            volume_gb=settings.server.volume_size_gb,
            leaves_domain=settings.dns.zone is DnsZone.EXISTING,
            has_signing_key=self.has_signing_key,
            has_objects=self.has_objects,
            uses_objects=settings.uses_object_storage,
            objects_region=self.objects_region if self.has_objects else "",
            has_databases=list(self.databases),
            uses_databases=wanted_engines(settings),
            group_ids=dict(group_ids or {}),
            imported_groups={one.key: one.import_id for one in settings.groups if one.import_id},
            groups={one.path: one.group or "" for one in settings.projects if one.group or not one.imported},
        ).as_output()


def _is_moved_back(deployed: DeploymentState | None) -> bool:
    """Whether an update has left Spaces for GitLab's files empty, which nothing protects."""
    return deployed is not None and deployed.has_objects and not deployed.uses_objects and not deployed.kept


def _databases(deployed: DeploymentState | None, settings: Settings, clusters: Collection[str]) -> tuple[str, ...]:
    """The engines of the clusters after the update: those that are wanted, and those that may have data in them."""
    unused = (
        set(deployed.has_databases) - set(deployed.uses_databases) if deployed and not deployed.kept else set[str]()
    )
    wanted = wanted_engines(settings)
    return tuple(one for one in ENGINES if one in wanted or (one in clusters and one not in unused))


def _moved_ids(deployed: DeploymentState, settings: Settings) -> Mapping[str, str]:
    wanted = {project.path: (project.group or "").lower() for project in settings.projects}
    return {
        path: deployed.projects[path]
        for path, group in deployed.groups.items()
        if path in deployed.projects and wanted.get(path, group.lower()) != group.lower()
    }


def removed_groups(deployed: DeploymentState | None, settings: Settings) -> Mapping[str, str]:
    """The IDs of the groups that an update deletes, by path in lowercase. Kept ones leave the stack and stay."""
    if deployed is None or deployed.kept:
        return {}
    stay = {one.key for one in settings.groups}
    return {path: number for path, number in deployed.own_groups.items() if path not in stay}


def _leaving_ids(deployed: DeploymentState, settings: Settings) -> frozenset[str]:
    """The IDs of projects that the update deletes or moves. An imported one that leaves the stack stays where it is."""
    stay = {project.path: project.group for project in settings.projects}
    deleted = [number for path, number in deployed.projects.items() if path not in {*stay, *deployed.imported}]
    moved = [number for path, number in deployed.imported.items() if stay.get(path) and path not in deployed.groups]
    return frozenset([*deleted, *moved, *_moved_ids(deployed, settings).values()])


def conflicts(deployed: DeploymentState | None, settings: Settings) -> list[str]:
    """Return every reason why `settings` cannot follow `deployed`; None means that nothing was deployed yet."""
    if deployed is None:
        return []
    errors = upgrade_errors(deployed.gitlab_version, settings.gitlab.version)
    for index, project in enumerate(settings.projects):
        imported = deployed.imported.get(project.path, project.import_id)
        if project.import_id != imported:
            errors.append(
                f"projects[{index}].importId: {project.path} was imported as {imported}; without that ID its pipeline "
                "and settings would be overwritten, and it would be deleted with the stack. "
                f'Set importId: "{imported}" again, or remove the project for one update first'
            )
        errors += _unprotected(deployed, index, project)
    errors += _group_conflicts(deployed, settings)
    # In another region it is another one, where that is allowed.
    if deployed.region == settings.region and settings.server.volume_size_gb < deployed.volume_gb:
        errors.append(
            f"server.volumeSizeGb: {settings.server.volume_size_gb} cannot follow {deployed.volume_gb}; volumes do not "
            f"shrink, and the data would be lost with a smaller one. Set it to {deployed.volume_gb} or more"
        )
    if deployed.has_objects and settings.uses_object_storage and deployed.objects_region != settings.objects_region:
        errors.append(
            f"objectStorage.spacesRegion: {settings.objects_region} cannot follow {deployed.objects_region}; the "
            f"Spaces with GitLab's files would have to be replaced. Set it back to {deployed.objects_region}; or run "
            "an update with objectStorage.storage: filesystem first, which moves the files to the volume, and two with "
            "removal: everything, which delete the Spaces"
        )
    if deployed.kept:
        errors += _moved("region", deployed.region, settings.region, "the volume with all of GitLab's data")
        if deployed.has_domain:
            errors += _moved("domain", deployed.domain, settings.domain, "the domain")
        if deployed.has_bucket and settings.registry.storage is Storage.SPACES:
            now = deployed.spaces_region
            errors += _moved("registry.spacesRegion", now, settings.spaces_region, "the bucket with all images")
        if deployed.has_backups and settings.backup.enabled:
            now = deployed.backups_region
            errors += _moved("backup.spacesRegion", now, settings.backups_region, "the Space with all backups")
    return errors


def _group_conflicts(deployed: DeploymentState, settings: Settings) -> Iterator[str]:
    for index, group in enumerate(settings.groups):
        imported = deployed.imported_groups.get(group.key, group.import_id)
        if group.import_id != imported:
            yield (
                f"groups[{index}].importId: {group.path} was imported as {imported}; without that ID its settings "
                f'would be overwritten, and it would be deleted with the stack. Set importId: "{imported}" again, or '
                "remove the group for one update first"
            )
    places = {f"groups[{index}].path": one.path for index, one in enumerate(settings.groups)}
    places |= {f"projects[{index}].group": one.group for index, one in enumerate(settings.projects) if one.group}
    for gone, number in removed_groups(deployed, settings).items():
        for place, path in places.items():
            if path.lower() == gone or path.lower().startswith(f"{gone}/"):
                yield (
                    f"{place}: {path} is in the group {gone}, which leaves the stack; GitLab would delete it with "
                    "everything in it. Keep the group, or move this elsewhere; or set the group's importId to "
                    f'"{number}" for one update, after which it stays in GitLab when it leaves the stack'
                )


def _unprotected(deployed: DeploymentState, index: int, project: ProjectSettings) -> list[str]:
    protected = deployed.imported if deployed.protected is None else deployed.protected
    if not project.imported or project.protect_default_branch is not None or project.path not in protected:
        return []
    return [
        f"projects[{index}].protectDefaultBranch: is not set, but the stack has protected the default branch of "
        f"{project.path}; the protection would be removed. Set it to true to keep it, or to false to remove it"
    ]


def _moved(path: str, now: str, wanted: str, what: str) -> list[str]:
    if now == wanted:
        return []
    return [
        f"{path}: {wanted} cannot follow {now}; {what} would have to be replaced, and is protected. Set it back to "
        f"{now}; or, if the data may be lost, run an update with removal: everything first"
    ]


def read_while_written(function: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Call a function of the engine that reads the stack's own state, which the engine may be writing.

    An engine whose state is a file writes it when an update starts, and may not have finished.
    """
    deadline = time.monotonic() + _READ_AGAIN_SECONDS
    while True:
        try:
            return dict(pulumi.runtime.invoke(function, dict(arguments)).value)
        # The SDK raises plain exceptions for whatever the engine reports.
        except Exception as error:
            if "failed to load checkpoint: EOF" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)
