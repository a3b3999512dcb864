"""Object storage for GitLab's files, created with nothing but the API token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi

from components.component import Component
from components.spaces import (
    BucketArgs,
    ExistingSpace,
    create_bucket,
    create_key,
    create_maker,
    create_suffix,
    endpoint_of,
)

#: Part of the names of the keys.
OBJECTS: Final = "objects"
#: The types of GitLab 19.3's consolidated form, each of which needs a bucket of its own. Pages are left out: they need
#: a domain of their own, and the stack has none for them.
TYPES: Final = (
    *("artifacts", "external_diffs", "lfs", "uploads", "packages", "dependency_proxy", "terraform_state"),
    *("ci_secure_files", "agent_plan_content"),
)


def purpose_of(type_: str) -> str:
    """The part of a bucket's name that says what is in it."""
    return type_.replace("_", "-")


@dataclass(frozen=True)
class FileBuckets:
    """The buckets of GitLab's files by type, and the key for them. `region` is a slug."""

    buckets: Mapping[str, pulumi.Output[str]]
    region: str
    access_key: pulumi.Input[str]
    secret_key: pulumi.Input[str] = field(repr=False)

    @property
    def endpoint(self) -> str:
        """The URL of the S3 interface."""
        return endpoint_of(self.region)

    def listed(self) -> pulumi.Output[str]:
        """Types and buckets in the form of the scripts: `TYPE=BUCKET`, separated by spaces."""
        return self.names().apply(lambda names: " ".join(f"{type_}={name}" for type_, name in names.items()))

    def names(self) -> pulumi.Output[dict[str, str]]:
        """The names of the buckets by type, in the order of `TYPES`."""
        found: pulumi.Output[dict[str, Any]] = pulumi.Output.all(**self.buckets)
        return found.apply(lambda names: {type_: str(names[type_]) for type_ in TYPES})


@dataclass(frozen=True)
class ObjectBucketsArgs:
    """Inputs of `ObjectBuckets`. `region` is a slug; with `keep_data` the buckets outlive a destroy.

    They are deleted with what is in them only if they are `in_use`: from others GitLab has taken everything that it
    knows, and whatever is there nevertheless is nobody's to delete. With `own_key`, the environment has a Spaces key of
    the user's, which the provider finds there itself. `existing` are taken over, by type.
    """

    prefix: str
    region: str
    keep_data: bool
    in_use: bool
    own_key: bool
    existing: Mapping[str, ExistingSpace] = field(default_factory=dict)


class ObjectBuckets(Component):
    """A Space for each type of GitLab's files, and one key that is valid for these Spaces alone.

    Owns the buckets, a provider for nothing else, the full-access key of that provider unless the user has one, and the
    scoped key. Nobody but GitLab reads from the buckets, so none has rules for browsers (CORS). Refuses to own their
    content, to say whether GitLab uses them, and to move anything.
    """

    files: FileBuckets

    def __init__(self, name: str, args: ObjectBucketsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare buckets and keys."""
        super().__init__("ObjectBuckets", name, opts)
        digits = next((one.suffix for one in args.existing.values()), None)
        suffix = create_suffix(self, digits)
        maker = create_maker(self, args.prefix, OBJECTS, own_key=args.own_key)

        def named(type_: str) -> pulumi.Output[str]:
            return suffix.hex.apply(lambda digits: f"{args.prefix}-{purpose_of(type_)}-{digits}")

        buckets = {
            type_: create_bucket(
                self,
                purpose_of(type_),
                BucketArgs(
                    name=named(type_),
                    region=args.region,
                    kept=args.keep_data,
                    emptied=args.in_use and not args.keep_data,
                    maker=maker,
                    existing=args.existing[type_].bucket if type_ in args.existing else None,
                ),
            )
            for type_ in TYPES
        }
        key = create_key(self, f"{args.prefix}-{OBJECTS}", list(buckets.values()))
        self.files = FileBuckets(
            buckets={type_: bucket.name for type_, bucket in buckets.items()},
            region=args.region,
            access_key=key.access_key,
            secret_key=pulumi.Output.secret(key.secret_key),
        )
        self.register_outputs({"buckets": self.files.names()})
