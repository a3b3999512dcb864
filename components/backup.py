"""Backups: a Space of their own, a key that encrypts them, and the machine that makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_random as random

from components.component import Component
from components.object_buckets import FileBuckets
from components.object_storage import ObjectStorage
from components.remote import MASK, Machine, MaskedFile, run_script
from components.rendering import render, script
from components.settings import Backup as Settings
from components.spaces import ExistingSpace, SpaceArgs, create_space

#: Part of the names of the Space and its keys.
BACKUP: Final = "backup"


@dataclass(frozen=True)
class BackupArgs:
    """Inputs of `Backup`. `region` is that of the Space; with `keep_data` the Space and the key outlive a destroy.

    With `own_key`, the environment has a Spaces key of the user's. `storage` is that of the registry, None if its
    images are on the data volume. If `settings` are not enabled, kept backups stay, and no further ones are made.
    `existing` is a Space that is taken over. `files` are the Spaces of GitLab's files, None if these are on the volume.
    """

    prefix: str
    region: str
    keep_data: bool
    own_key: bool
    settings: Settings
    machine: Machine
    fqdn: pulumi.Input[str]
    storage: ObjectStorage | None
    ready: Sequence[pulumi.Resource]
    existing: ExistingSpace | None = None
    files: FileBuckets | None = None


class Backup(Component):
    """Encrypted backups of GitLab, in a Space that nothing else uses.

    Owns the Space, a key that is valid for this Space alone, the key that encrypts what is in it, and on the machine
    the program `slipway-backup`, its settings and its timer. A backup is GitLab's own archive, `/etc/gitlab`, the SSH
    host keys, the registry's metadata database, every file that its images consist of, whatever storage they are in,
    and GitLab's files in object storage. The machine removes old backups.

    Refuses to own the restore, which people start. Nothing can be restored without the encryption key: it is in the
    stack's state and in its outputs, and nowhere else but on the machine.
    """

    output: pulumi.Output[dict[str, Any]]

    def __init__(self, name: str, args: BackupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the Space; if backups are enabled, the machine's part as well."""
        super().__init__("Backup", name, opts)
        self._args = args
        space = create_space(
            self, SpaceArgs(args.prefix, BACKUP, args.region, args.keep_data, args.own_key, args.existing)
        )
        encryption = random.RandomPassword(
            self.child_name("encryption-key"), length=48, special=False, opts=self.child_options(keep=args.keep_data)
        )
        known: Mapping[str, pulumi.Input[str]] = {
            "endpoint": space.base_url,
            "region": space.region,
            "bucket": space.bucket,
            "prefix": args.settings.prefix,
            "access_key": space.access_key,
            "secret_key": space.secret_key,
            "encryption_key": encryption.result,
        }
        if args.settings.enabled:
            self._install(args.settings, known)
        self.output = pulumi.Output.secret(
            pulumi.Output.all(**known).apply(
                lambda values: {
                    **values,
                    "max_age_hours": args.settings.max_age_hours if args.settings.enabled else None,
                }
            )
        )
        self.register_outputs({"bucket": space.bucket})

    def _install(self, settings: Settings, space: Mapping[str, pulumi.Input[str]]) -> None:
        args = self._args
        run_script(
            self,
            "machine",
            machine=args.machine,
            file="prepare-backup.sh",
            libraries=["apt.sh"],
            values={
                "BUCKET": space["bucket"],
                "COMMON": script("backup/common.sh"),
                "CREATE": script("backup/create.sh"),
                "DATABASE_LIBRARY": script("database.sh"),
                "PROGRAM": script("backup/slipway-backup"),
                "RESTORE": script("backup/restore.sh"),
                "SERVICE": script("backup/slipway-backup.service"),
                "TIMER": render("backup.timer.j2", times=settings.times),
            },
            secrets={"SETTINGS": self._machine_settings(space)},
            timeout_seconds=900,
            depends_on=args.ready,
            delete="systemctl disable --now slipway-backup.timer; rm -f /etc/slipway/backup.env",
        )

    def _machine_settings(self, space: Mapping[str, pulumi.Input[str]]) -> MaskedFile:
        args, storage, files = self._args, self._args.storage, self._args.files
        images: Mapping[str, pulumi.Input[str]] = {
            "access_key": storage.access_key if storage else "",
            "bucket": storage.bucket if storage else "",
            "endpoint": storage.base_url if storage else "",
            "region": storage.region if storage else "",
            "secret_key": storage.secret_key if storage else "",
        }
        objects: Mapping[str, pulumi.Input[str]] = {
            "access_key": files.access_key if files else "",
            "buckets": files.listed() if files else "",
            "endpoint": files.endpoint if files else "",
            "region": files.region if files else "",
            "secret_key": files.secret_key if files else "",
        }
        hidden = {"secret_key": MASK, "encryption_key": MASK}

        def rendered(known: Mapping[str, Any], *, masked: bool) -> str:
            space, images, objects = dict(known["space"]), dict(known["images"]), dict(known["objects"])
            if masked:
                space |= hidden
                images |= {"secret_key": MASK if images["bucket"] else ""}
                objects |= {"secret_key": MASK if objects["buckets"] else ""}
            values = {"settings": args.settings, "space": space, "images": images, "objects": objects}
            return render("backup.env.j2", fqdn=known["fqdn"], **values)

        known = pulumi.Output.all(
            space=pulumi.Output.all(**space),
            images=pulumi.Output.all(**images),
            objects=pulumi.Output.all(**objects),
            fqdn=args.fqdn,
        )
        return MaskedFile(
            content=known.apply(lambda values: rendered(values, masked=False)),
            shown=pulumi.Output.unsecret(known.apply(lambda values: rendered(values, masked=True))),
        )
