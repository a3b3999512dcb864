"""Object storage for the registry, created with nothing but the API token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_digitalocean as digitalocean
import pulumi_random as random

from components.component import Component
from components.object_storage import ObjectStorage
from components.spaces import spaces_provider

#: Unfinished uploads are deleted after this many days (GitLab, container registry administration).
_ABORT_UPLOADS_AFTER_DAYS: Final = 3


@dataclass(frozen=True)
class RegistryBucketArgs:
    """Inputs of `RegistryBucket`. `region` is a slug; with `keep_data` the bucket outlives a destroy.

    With `own_key`, the environment has a Spaces key of the user's, which the provider finds there itself.
    """

    prefix: str
    region: str
    keep_data: bool
    own_key: bool


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
        bucket = self._bucket(args)
        key = digitalocean.SpacesKey(
            self.child_name("key"),
            name=f"{args.prefix}-registry",
            grants=[digitalocean.SpacesKeyGrantArgs(bucket=bucket.name, permission="readwrite")],
            opts=self.child_options(),
        )
        self.bucket_name = bucket.name
        self.storage = ObjectStorage(
            bucket=bucket.name,
            region=args.region,
            endpoint=f"https://{args.region}.digitaloceanspaces.com",
            access_key=key.access_key,
            secret_key=pulumi.Output.secret(key.secret_key),
        )
        self.register_outputs({"bucketName": self.bucket_name})

    def _bucket(self, args: RegistryBucketArgs) -> digitalocean.SpacesBucket:
        # Bucket names are unique among all customers of a region.
        suffix = random.RandomId(self.child_name("suffix"), byte_length=4, opts=self.child_options())
        return digitalocean.SpacesBucket(
            self.child_name("bucket"),
            name=suffix.hex.apply(lambda digits: f"{args.prefix}-registry-{digits}"),
            region=args.region,
            acl="private",
            force_destroy=not args.keep_data,
            lifecycle_rules=[
                digitalocean.SpacesBucketLifecycleRuleArgs(
                    id="abort-unfinished-uploads",
                    enabled=True,
                    abort_incomplete_multipart_upload_days=_ABORT_UPLOADS_AFTER_DAYS,
                )
            ],
            opts=self.child_options(
                provider=spaces_provider(self, f"{args.prefix}-registry-maker", own_key=args.own_key),
                keep=args.keep_data,
            ),
        )
