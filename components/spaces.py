"""A Space of the stack: its bucket, a key for it alone, and a provider that can create it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_digitalocean as digitalocean
import pulumi_random as random

from components.component import Component
from components.lost_answers import SPACES_KEY, once, once_in_spaces
from components.object_storage import ObjectStorage

#: Unfinished uploads are deleted after this many days (GitLab, container registry administration).
_ABORT_UPLOADS_AFTER_DAYS: Final = 3
#: Spaces does not know a key at once that the API has just returned: `InvalidAccessKeyId`. The provider does not retry.
_KEY_SPREADS_SECONDS: Final = 10


@dataclass(frozen=True)
class ExistingSpace:
    """A Space that a lost state had: the IDs by which its bucket and the digits in its name are imported."""

    bucket: str
    suffix: str | None


@dataclass(frozen=True)
class SpaceArgs:
    """Inputs of `create_space`. `purpose` is part of the names of bucket and keys; `region` is a slug.

    With `keep_data` the bucket outlives a destroy; without, a destroy deletes what is in it. With `own_key`, the
    environment has a Spaces key of the user's, which the provider finds there itself. `existing` is taken over.
    """

    prefix: str
    purpose: str
    region: str
    keep_data: bool
    own_key: bool
    existing: ExistingSpace | None = None


def create_space(component: Component, args: SpaceArgs) -> ObjectStorage:
    """Declare a private Space and a key that is valid for it alone, as children of its component.

    The children are `bucket`, `suffix`, `key`, and the provider `maker` with its `maker-key`.
    """
    # Bucket names are unique among all customers of a region.
    existing = args.existing
    suffix = random.RandomId(
        component.child_name("suffix"),
        byte_length=4,
        opts=component.child_options(import_=existing.suffix if existing else None),
    )
    bucket = digitalocean.SpacesBucket(
        component.child_name("bucket"),
        name=suffix.hex.apply(lambda digits: f"{args.prefix}-{args.purpose}-{digits}"),
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
        opts=component.child_options(
            provider=_provider(component, args),
            keep=args.keep_data,
            import_=existing.bucket if existing else None,
            hooks=once_in_spaces(component.child_name("bucket")),
        ),
    )
    key = digitalocean.SpacesKey(
        component.child_name("key"),
        name=f"{args.prefix}-{args.purpose}",
        grants=[digitalocean.SpacesKeyGrantArgs(bucket=bucket.name, permission="readwrite")],
        opts=component.child_options(hooks=once(SPACES_KEY, component.child_name("key"))),
    )
    return ObjectStorage(
        bucket=bucket.name,
        region=args.region,
        endpoint=f"https://{args.region}.digitaloceanspaces.com",
        access_key=key.access_key,
        secret_key=pulumi.Output.secret(key.secret_key),
    )


def key_names(prefix: str, purpose: str, *, own_key: bool) -> list[str]:
    """Return the names, in the account, of the keys that `create_space` creates."""
    return [f"{prefix}-{purpose}", *([] if own_key else [_maker_key(prefix, purpose)])]


def _maker_key(prefix: str, purpose: str) -> str:
    return f"{prefix}-{purpose}-maker"


def _provider(component: Component, args: SpaceArgs) -> digitalocean.Provider:
    """A provider for one Space: a resource is replaced if its provider is another one, so Spaces do not share one.

    Buckets are managed through the S3 interface, which does not accept API tokens, so it has a full-access key.
    """
    if args.own_key:
        return digitalocean.Provider(component.child_name("maker"), opts=component.child_options())
    key = digitalocean.SpacesKey(
        component.child_name("maker-key"),
        name=_maker_key(args.prefix, args.purpose),
        grants=[digitalocean.SpacesKeyGrantArgs(bucket="", permission="fullaccess")],
        opts=component.child_options(
            hooks=once(SPACES_KEY, component.child_name("maker-key"), after_create=[wait_until_known])
        ),
    )
    return digitalocean.Provider(
        component.child_name("maker"),
        spaces_access_id=key.access_key,
        spaces_secret_key=key.secret_key,
        opts=component.child_options(),
    )


async def wait_until_known(args: pulumi.ResourceHookArgs) -> None:
    """Give a new key the time to reach Spaces: a hook for `after_create`."""
    del args
    await asyncio.sleep(_KEY_SPREADS_SECONDS)
