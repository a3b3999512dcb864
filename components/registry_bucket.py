"""Object storage for the registry, created with nothing but the API token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from components.component import Component
from components.object_storage import ObjectStorage
from components.spaces import ExistingSpace, SpaceArgs, create_space

#: Part of the names of the Space and its keys.
REGISTRY: Final = "registry"


@dataclass(frozen=True)
class RegistryBucketArgs:
    """Inputs of `RegistryBucket`. `region` is a slug; with `keep_data` the bucket outlives a destroy.

    With `own_key`, the environment has a Spaces key of the user's, which the provider finds there itself. `existing` is
    taken over.
    """

    prefix: str
    region: str
    keep_data: bool
    own_key: bool
    existing: ExistingSpace | None = None


class RegistryBucket(Component):
    """A Space for the registry's images, and a key that is valid for this Space alone.

    Owns the bucket, a provider for nothing else, the full-access key of that provider unless the user has one (buckets
    are managed through the S3 interface, which does not accept API tokens), and the scoped key. Refuses to own the
    content of the bucket; a destroy that keeps no data deletes it with the bucket.
    """

    storage: ObjectStorage
    bucket_name: pulumi.Output[str]

    def __init__(self, name: str, args: RegistryBucketArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare bucket and keys."""
        super().__init__("RegistryBucket", name, opts)
        self.storage = create_space(
            self, SpaceArgs(args.prefix, REGISTRY, args.region, args.keep_data, args.own_key, args.existing)
        )
        self.bucket_name = pulumi.Output.from_input(self.storage.bucket)
        self.register_outputs({"bucketName": self.bucket_name})
