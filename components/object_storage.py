"""A bucket for the registry's images, wherever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.settings import S3


@dataclass(frozen=True)
class ObjectStorage:
    """A bucket and its key. Without an `endpoint` the bucket is on Amazon S3, at the endpoint of `region`."""

    bucket: pulumi.Input[str]
    region: str
    endpoint: str | None
    access_key: pulumi.Input[str]
    secret_key: pulumi.Input[str] = field(repr=False)

    @classmethod
    def from_settings(cls, settings: S3) -> ObjectStorage:
        """Return the existing bucket that the stack file describes."""
        return cls(
            bucket=settings.bucket,
            region=settings.region,
            endpoint=settings.endpoint,
            access_key=settings.access_key,
            secret_key=pulumi.Output.secret(settings.secret_key.get_secret_value()),
        )

    @property
    def base_url(self) -> str:
        """The URL of the S3 interface."""
        return self.endpoint or f"https://s3.{self.region}.amazonaws.com"

    def as_output(self) -> pulumi.Output[dict[str, Any]]:
        """Return bucket and key for `pulumi.export`, as one secret value."""
        found: pulumi.Output[dict[str, Any]] = pulumi.Output.secret(
            pulumi.Output.all(
                bucket=self.bucket,
                region=self.region,
                endpoint=self.base_url,
                access_key=self.access_key,
                secret_key=self.secret_key,
            )
        )
        return found
