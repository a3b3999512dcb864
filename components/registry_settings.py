"""What the registry is configured with: the text of its file, and where it keeps its images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import pulumi

from components.object_storage import ObjectStorage
from components.remote import MASK, MaskedFile
from components.rendering import render


@dataclass(frozen=True)
class RegistrySettings:
    """The settings of the registry. Plain data, not a component.

    Without `storage` images are kept on the server's data volume. `keep_untagged` is how long an image without a tag is
    kept: a duration in Go's notation, such as `24h`.
    """

    fqdn: pulumi.Input[str]
    port: int
    storage: ObjectStorage | None
    keep_untagged: str

    @property
    def values(self) -> dict[str, pulumi.Input[str]]:
        """What a script has to know of the storage, without its key."""
        storage = self.storage
        return {
            "DATABASE": self.database,
            "FQDN": self.fqdn,
            "S3_BUCKET": storage.bucket if storage else "",
            "S3_ENDPOINT": storage.base_url if storage else "",
            "S3_REGION": storage.region if storage else "",
        }

    @property
    def secrets(self) -> dict[str, pulumi.Input[str] | MaskedFile]:
        """The file `registry.rb`, and the key of the storage."""
        storage = self.storage
        return {
            "REGISTRY_RB": MaskedFile(self._text(), self._text(masked=True)),
            "S3_ACCESS_KEY": storage.access_key if storage else "",
            "S3_SECRET_KEY": storage.secret_key if storage else "",
        }

    @property
    def database(self) -> pulumi.Output[str]:
        """The name of the database with the list of the storage's images."""
        storage = self.storage
        if storage is None:
            return pulumi.Output.from_input(database_name("", ""))
        endpoint = storage.endpoint or ""
        return pulumi.Output.from_input(storage.bucket).apply(lambda bucket: database_name(endpoint, bucket))

    def _text(self, *, masked: bool = False) -> pulumi.Output[str]:
        storage = self.storage
        known: dict[str, Any] = {"fqdn": self.fqdn, "database": self.database}
        if storage:
            known |= {"bucket": storage.bucket, "access_key": storage.access_key, "secret_key": storage.secret_key}
        if storage and masked:
            known |= {"access_key": MASK, "secret_key": MASK}
        return pulumi.Output.all(**known).apply(
            lambda values: render(
                "registry.rb.j2",
                port=self.port,
                keep_untagged=self.keep_untagged,
                object_storage=storage is not None,
                region=storage.region if storage else "",
                endpoint=storage.endpoint if storage else None,
                **values,
            )
        )


def database_name(endpoint: str, bucket: str) -> str:
    """Return the name of the metadata database for a bucket, or for the data volume if `bucket` is empty.

    Bucket names are unique within an endpoint; an empty `endpoint` is Amazon's. The data volume gets the name that the
    package uses by default.
    """
    if not bucket:
        return "registry"
    return f"registry_{hashlib.sha256(f'{endpoint}/{bucket}'.encode()).hexdigest()[:12]}"
