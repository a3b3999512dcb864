"""What every Space of a stack needs: a provider that can create it."""

from __future__ import annotations

import asyncio
from typing import Final

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component

#: Spaces does not know a key at once that the API has just returned: `InvalidAccessKeyId`. The provider does not retry.
_KEY_SPREADS_SECONDS: Final = 10


def spaces_provider(component: Component, key_name: str, *, own_key: bool) -> digitalocean.Provider:
    """Declare a provider for one Space, as the children `maker` and `maker-key` of its component.

    Buckets are managed through the S3 interface, which does not accept API tokens. With `own_key`, the environment has
    a key of the user's, which the provider finds there itself; otherwise a full-access key named `key_name` is created.
    A resource is replaced if its provider is another one, so that Spaces do not share one.
    """
    if own_key:
        return digitalocean.Provider(component.child_name("maker"), opts=component.child_options())
    key = digitalocean.SpacesKey(
        component.child_name("maker-key"),
        name=key_name,
        grants=[digitalocean.SpacesKeyGrantArgs(bucket="", permission="fullaccess")],
        opts=component.child_options(hooks=pulumi.ResourceHookBinding(after_create=[wait_until_known])),
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
