"""A stack whose state was lost takes over what is left: what the settings name, as far as its state has not got it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from components.backup import BACKUP
from components.database_engines import wanted_engines
from components.database_plan import database_cluster_name
from components.known_resources import KnownResources
from components.object_buckets import TYPES, purpose_of
from components.registry_bucket import REGISTRY
from components.settings import NEW, Settings, Storage
from components.spaces import ExistingSpace

#: Hexadecimal digits at the end of a bucket's name.
_DIGITS: Final = 8


@dataclass(frozen=True)
class Recovery:
    """What this update imports. Everything is None if nothing is named, or if the state has it already.

    `databases` are IDs of clusters by engine; `groups` and `projects` are IDs in GitLab by path.
    """

    volume: str | None = None
    address: str | None = None
    domain: str | None = None
    registry: ExistingSpace | None = None
    backup: ExistingSpace | None = None
    objects: Mapping[str, ExistingSpace] = field(default_factory=dict)
    databases: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    projects: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, prefix: str, known: KnownResources) -> Recovery:
        """Read the settings; their names have been checked by `errors`. `prefix` begins those of the stack."""
        wanted = settings.recover
        return cls(
            volume=None if known.has("server-data") else wanted.volume,
            address=None if known.has("server-address") else wanted.address,
            domain=settings.domain if wanted.domain and not known.has("dns-domain") else None,
            registry=_space(wanted.registry_bucket, settings.spaces_region, known, "registry-bucket"),
            objects=_objects(wanted.object_buckets, settings.objects_region, prefix, known),
            backup=_space(wanted.backup_bucket, settings.backups_region, known, "backup"),
            databases=_databases(settings, known),
            groups={
                path.lower(): number
                for path, number in wanted.groups.items()
                if not known.has(f"groups-{path.lower()}-group")
            },
            projects={
                path: number for path, number in wanted.projects.items() if not known.has(f"delivery-{path}-project")
            },
        )


def errors(settings: Settings, prefix: str, known: KnownResources) -> Iterator[str]:
    """Why what is named cannot be this stack's, or would not be the whole installation."""
    wanted = settings.recover
    named = ((REGISTRY, "registryBucket", wanted.registry_bucket), (BACKUP, "backupBucket", wanted.backup_bucket))
    for purpose, key, bucket in named:
        begin = f"{prefix}-{purpose}-"
        if bucket not in {None, NEW} and (bucket or "")[:-_DIGITS] != begin:
            yield (
                f"recover.{key}: {bucket} is not a bucket of this stack; another one would lose it. The names of its "
                f"own begin with {begin}, and make strays lists them"
            )
    has_images = settings.registry.storage is Storage.SPACES and not known.has("registry-bucket-bucket")
    if wanted.volume and has_images and wanted.registry_bucket is None:
        yield (
            "recover.registryBucket: is not set, but recover.volume is; the registry would have a new Space, without "
            f"the images of that GitLab. Set it to the name of the Space {prefix}-{REGISTRY}-… that make strays lists, "
            f"or to {NEW} if it is gone"
        )
    if wanted.volume and settings.uses_object_storage and not _has_objects(known) and wanted.object_buckets is None:
        yield (
            "recover.objectBuckets: is not set, but recover.volume is; GitLab would have new Spaces, without its "
            f"artifacts, attachments and packages. Set it to the digits of the Space {prefix}-artifacts-… that make "
            f"strays lists, or to {NEW} if it is gone"
        )

    for engine in wanted_engines(settings):
        if wanted.volume and not known.has(f"databases-{engine}") and getattr(wanted, engine) is None:
            yield (
                f"recover.{engine}: is not set, but recover.volume is; GitLab would begin with an empty database "
                f"beside its repositories. Set it to the ID of the cluster {database_cluster_name(prefix, engine)} "
                f"that make strays lists, or to {NEW} if it is gone"
            )


def _databases(settings: Settings, known: KnownResources) -> dict[str, str]:
    wanted = {engine: getattr(settings.recover, engine) for engine in wanted_engines(settings)}
    return {
        engine: identifier
        for engine, identifier in wanted.items()
        if identifier not in {None, NEW} and not known.has(f"databases-{engine}")
    }


def _has_objects(known: KnownResources) -> bool:
    return known.has(f"object-buckets-{purpose_of(TYPES[0])}")


def _objects(digits: str | None, region: str, prefix: str, known: KnownResources) -> dict[str, ExistingSpace]:
    if digits is None or digits == NEW or _has_objects(known):
        return {}
    suffix = None if known.has("object-buckets-suffix") else _encoded(digits)
    return {
        type_: ExistingSpace(f"{region},{prefix}-{purpose_of(type_)}-{digits}", suffix)
        for type_ in TYPES
        if not known.has(f"object-buckets-{purpose_of(type_)}")
    }


def _encoded(digits: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(digits)).decode().rstrip("=")


def _space(bucket: str | None, region: str, known: KnownResources, component: str) -> ExistingSpace | None:
    if bucket is None or bucket == NEW or known.has(f"{component}-bucket"):
        return None
    digits = _encoded(bucket[-_DIGITS:])
    return ExistingSpace(f"{region},{bucket}", None if known.has(f"{component}-suffix") else digits)
