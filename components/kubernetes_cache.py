"""Where the jobs of a runner on Kubernetes keep what their `cache:` names: nodes come and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from components.component import Component
from components.object_storage import ObjectStorage
from components.site import Site
from components.spaces import BucketArgs, create_bucket, create_key, create_maker, create_suffix, endpoint_of

#: Part of the names of the Space and its keys.
CACHE: Final = "cache"


@dataclass(frozen=True)
class KubernetesCacheArgs:
    """Inputs of `KubernetesCache`. `runner` is a name; what is in the Space is deleted after so many `days`.

    With `own_key`, the environment has a Spaces key of the user's, which the provider finds there itself.
    """

    site: Site
    runner: str
    days: int
    own_key: bool


class KubernetesCache(Component):
    """A Space in the region of the cluster, and a key that is valid for it alone.

    Owns both, and a provider with a full-access key for the Space unless the user has one. A cache is nothing that
    anybody would miss: the Space never outlives the runner, and a lost state does not look for it. Refuses to own what
    is in it: Spaces deletes that when it is old.
    """

    storage: ObjectStorage

    def __init__(self, name: str, args: KubernetesCacheArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the Space and the key."""
        super().__init__("KubernetesCache", name, opts)
        prefix, purpose = args.site.prefix, cache_of(args.runner)
        bucket = create_bucket(
            self,
            "bucket",
            BucketArgs(
                # Without the name of the runner, with which it could be too long.
                name=create_suffix(self, None).hex.apply(lambda digits: f"{prefix}-{CACHE}-{digits}"),
                region=args.site.region,
                kept=False,
                emptied=True,
                maker=create_maker(self, prefix, purpose, own_key=args.own_key),
                expire_after_days=args.days,
            ),
        )
        key = create_key(self, f"{prefix}-{purpose}", [bucket])
        self.storage = ObjectStorage(
            bucket=bucket.name,
            region=args.site.region,
            endpoint=endpoint_of(args.site.region),
            access_key=key.access_key,
            secret_key=pulumi.Output.secret(key.secret_key),
        )
        self.register_outputs({"bucket": bucket.name})


def cache_of(runner: str) -> str:
    """The part of the names of a runner's keys that says what they are for."""
    return f"{CACHE}-{runner}"
