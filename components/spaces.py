"""Spaces of the stack: buckets, a key for them alone, and a provider that can create them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class BucketArgs:
    """Inputs of `create_bucket`. It outlives a destroy if it is `kept`, and is deleted with its content if `emptied`.

    `maker` is a provider with a Spaces key; `existing` is the ID of a bucket that is taken over. With
    `expire_after_days`, Spaces deletes what is that old.
    """

    name: pulumi.Input[str]
    region: str
    kept: bool
    emptied: bool
    maker: digitalocean.Provider
    existing: str | None = None
    expire_after_days: int | None = None


def create_space(component: Component, args: SpaceArgs) -> ObjectStorage:
    """Declare a private Space and a key that is valid for it alone, as children of its component.

    The children are `bucket`, `suffix`, `key`, and the provider `maker` with its `maker-key`.
    """
    existing = args.existing
    suffix = create_suffix(component, existing.suffix if existing else None)
    bucket = create_bucket(
        component,
        "bucket",
        BucketArgs(
            name=suffix.hex.apply(lambda digits: f"{args.prefix}-{args.purpose}-{digits}"),
            region=args.region,
            kept=args.keep_data,
            emptied=not args.keep_data,
            maker=create_maker(component, args.prefix, args.purpose, own_key=args.own_key),
            existing=existing.bucket if existing else None,
        ),
    )
    key = create_key(component, f"{args.prefix}-{args.purpose}", [bucket])
    return ObjectStorage(
        bucket=bucket.name,
        region=args.region,
        endpoint=endpoint_of(args.region),
        access_key=key.access_key,
        secret_key=pulumi.Output.secret(key.secret_key),
    )


def endpoint_of(region: str) -> str:
    """The URL of the S3 interface of a region."""
    return f"https://{region}.digitaloceanspaces.com"


def create_suffix(component: Component, existing: str | None) -> random.RandomId:
    """Declare the digits at the end of names: those of buckets are unique among all customers of a region."""
    return random.RandomId(
        component.child_name("suffix"), byte_length=4, opts=component.child_options(import_=existing)
    )


def create_bucket(component: Component, suffix: str, args: BucketArgs) -> digitalocean.SpacesBucket:
    """Declare a private bucket, in which unfinished uploads do not stay; `suffix` is that of its logical name."""
    return digitalocean.SpacesBucket(
        component.child_name(suffix),
        name=args.name,
        region=args.region,
        acl="private",
        force_destroy=args.emptied,
        lifecycle_rules=list(_rules(args.expire_after_days)),
        opts=component.child_options(
            provider=args.maker,
            keep=args.kept,
            import_=args.existing,
            hooks=once_in_spaces(component.child_name(suffix), component.component_name),
        ),
    )


def _rules(expire_after_days: int | None) -> Iterator[digitalocean.SpacesBucketLifecycleRuleArgs]:
    yield digitalocean.SpacesBucketLifecycleRuleArgs(
        id="abort-unfinished-uploads",
        enabled=True,
        abort_incomplete_multipart_upload_days=_ABORT_UPLOADS_AFTER_DAYS,
    )
    if expire_after_days is not None:
        yield digitalocean.SpacesBucketLifecycleRuleArgs(
            id="expire",
            enabled=True,
            expiration=digitalocean.SpacesBucketLifecycleRuleExpirationArgs(days=expire_after_days),
        )


def create_key(component: Component, name: str, buckets: Sequence[digitalocean.SpacesBucket]) -> digitalocean.SpacesKey:
    """Declare a key that may read and write these buckets, and nothing else."""
    return digitalocean.SpacesKey(
        component.child_name("key"),
        name=name,
        grants=[digitalocean.SpacesKeyGrantArgs(bucket=one.name, permission="readwrite") for one in buckets],
        opts=component.child_options(hooks=once(SPACES_KEY, component.child_name("key"))),
    )


def key_names(prefix: str, purpose: str, *, own_key: bool) -> list[str]:
    """Return the names, in the account, of the keys that the Spaces for a purpose have."""
    return [f"{prefix}-{purpose}", *([] if own_key else [_maker_key(prefix, purpose)])]


def _maker_key(prefix: str, purpose: str) -> str:
    return f"{prefix}-{purpose}-maker"


def create_maker(component: Component, prefix: str, purpose: str, *, own_key: bool) -> digitalocean.Provider:
    """A provider for the Spaces of one purpose: a resource is replaced if its provider is another one.

    Buckets are managed through the S3 interface, which does not accept API tokens, so it has a full-access key.
    """
    if own_key:
        return digitalocean.Provider(component.child_name("maker"), opts=component.child_options())
    key = digitalocean.SpacesKey(
        component.child_name("maker-key"),
        name=_maker_key(prefix, purpose),
        grants=[digitalocean.SpacesKeyGrantArgs(bucket="", permission="fullaccess")],
        opts=component.child_options(hooks=once(SPACES_KEY, component.child_name("maker-key"))),
    )
    name = component.child_name("maker")
    hook = pulumi.ResourceHook(f"{name}-key-is-known", wait_until_known)
    return digitalocean.Provider(
        name,
        spaces_access_id=key.access_key,
        spaces_secret_key=key.secret_key,
        opts=component.child_options(hooks=pulumi.ResourceHookBinding(before_create=[hook], before_update=[hook])),
    )


async def wait_until_known(args: pulumi.ResourceHookArgs) -> None:
    """Give a new key time to reach Spaces: a hook that runs before its provider is created or gets another key.

    After the creation of the key, everything else would wait as well: see `components/lost_answers.py`.
    """
    del args
    await asyncio.sleep(_KEY_SPREADS_SECONDS)
