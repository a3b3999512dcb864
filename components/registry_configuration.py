"""The container registry of a running GitLab."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi_command import remote

from components.component import Component
from components.object_storage import ObjectStorage
from components.remote import MASK, Machine, MaskedFile, run_script
from components.rendering import render

#: Seconds for the step that applies the settings. An import of existing images is most of it: GitLab's documentation
#: reports 2 to 4 TB an hour.
_LIMIT_SECONDS: Final = 4 * 3600


@dataclass(frozen=True)
class RegistryConfigurationArgs:
    """Inputs of `RegistryConfiguration`. Without `storage` images are kept on the server's data volume.

    `public_ports` are all that the server opens, separated by spaces: others are closed once the registry answers.
    `keep_untagged` is how long an image without a tag is kept: a duration in Go's notation, such as `24h`.
    """

    machine: Machine
    fqdn: pulumi.Input[str]
    port: int
    public_ports: str
    storage: ObjectStorage | None
    keep_untagged: str
    admin_user: str
    api_token: pulumi.Input[str] = field(repr=False)
    gitlab_ready: Sequence[pulumi.Resource]


class RegistryConfiguration(Component):
    """The registry's settings, applied and verified.

    Owns `/etc/gitlab/registry.rb`, which `gitlab.rb` reads. Before the file changes, the machine does in the bucket
    what a push does, with the registry's own key; if that fails, nothing is changed. Afterwards it logs in, once with a
    valid token and once with an invalid one. The registry keeps the list of its images in a metadata database, one for
    each storage, so that going back to a storage brings its images back; the list that a registry without a database
    has left in a storage is imported. Refuses to own the bucket, and to move images from one storage to another.
    """

    address: pulumi.Output[str]
    login_line: pulumi.Output[str]

    def __init__(self, name: str, args: RegistryConfigurationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the configuration; `address` is known when a login has succeeded."""
        super().__init__("RegistryConfiguration", name, opts)
        self._args = args
        checked = self._check_login(self._apply())
        self.address = pulumi.Output.all(args.fqdn, checked.stdout).apply(lambda both: f"{both[0]}:{args.port}")
        # The output of a script is marked as secret; this address is not.
        self.address = pulumi.Output.unsecret(self.address)
        self.login_line = pulumi.Output.concat("docker login --username ", args.admin_user, " ", self.address)
        self.register_outputs({"address": self.address})

    def _apply(self) -> remote.Command:
        args, storage = self._args, self._args.storage
        return run_script(
            self,
            "storage",
            machine=args.machine,
            file="configure-registry.sh",
            libraries=["gitlab.sh", "object-storage.sh", "ports.sh"],
            values={
                "DATABASE": self._database(),
                "FQDN": args.fqdn,
                "PORT": str(args.port),
                "PUBLIC_PORTS": args.public_ports,
                "S3_BUCKET": storage.bucket if storage else "",
                "S3_ENDPOINT": storage.base_url if storage else "",
                "S3_REGION": storage.region if storage else "",
            },
            secrets={
                "REGISTRY_RB": MaskedFile(self._configuration(), self._configuration(masked=True)),
                "S3_ACCESS_KEY": storage.access_key if storage else "",
                "S3_SECRET_KEY": storage.secret_key if storage else "",
            },
            timeout_seconds=_LIMIT_SECONDS,
            depends_on=args.gitlab_ready,
        )

    def _database(self) -> pulumi.Output[str]:
        storage = self._args.storage
        if storage is None:
            return pulumi.Output.from_input(database_name("", ""))
        endpoint = storage.endpoint or ""
        return pulumi.Output.from_input(storage.bucket).apply(lambda bucket: database_name(endpoint, bucket))

    def _configuration(self, *, masked: bool = False) -> pulumi.Output[str]:
        args, storage = self._args, self._args.storage
        known: dict[str, Any] = {"fqdn": args.fqdn, "database": self._database()}
        if storage:
            known |= {"bucket": storage.bucket, "access_key": storage.access_key, "secret_key": storage.secret_key}
        if storage and masked:
            known |= {"access_key": MASK, "secret_key": MASK}
        return pulumi.Output.all(**known).apply(
            lambda values: render(
                "registry.rb.j2",
                port=args.port,
                keep_untagged=args.keep_untagged,
                object_storage=storage is not None,
                region=storage.region if storage else "",
                endpoint=storage.endpoint if storage else None,
                **values,
            )
        )

    def _check_login(self, applied: remote.Command) -> remote.Command:
        args = self._args
        return run_script(
            self,
            "login",
            machine=args.machine,
            file="check-registry-login.sh",
            values={
                "ADMIN_USER": args.admin_user,
                "FQDN": args.fqdn,
                "PORT": str(args.port),
            },
            secrets={"API_TOKEN": args.api_token},
            rerun_on={"configuration of the registry": applied.stdout},
            timeout_seconds=300,
            depends_on=[applied],
        )


def database_name(endpoint: str, bucket: str) -> str:
    """Return the name of the metadata database for a bucket, or for the data volume if `bucket` is empty.

    Bucket names are unique within an endpoint; an empty `endpoint` is Amazon's. The data volume gets the name that the
    package uses by default.
    """
    if not bucket:
        return "registry"
    return f"registry_{hashlib.sha256(f'{endpoint}/{bucket}'.encode()).hexdigest()[:12]}"
