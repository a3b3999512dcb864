"""The Space of a registry, with arguments that any language of Pulumi can write."""

# No `annotations` of the future: the schema is read from the types themselves.

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict

import pulumi

from components.component import Component
from components.registry_bucket import REGISTRY
from components.settings.registry import SPACES_REGIONS
from components.spaces import SpaceArgs, create_space

#: With the purpose and the random digits, a bucket has 63 characters at most.
_PREFIX = re.compile(r"[a-z][a-z0-9-]{0,44}")


class RegistryBucketArgs(TypedDict):
    """Inputs of `RegistryBucket`."""

    prefix: str
    """Begins the names of the Space and its keys: at most 45 lowercase letters, digits and dashes."""
    region: str
    """The DigitalOcean region of the Space, such as nyc3."""
    keep_data: NotRequired[bool]
    """Whether the Space outlives a destroy. If not, which is the default, a destroy deletes what is in it."""


class RegistryBucket(Component):
    """A private Space, and a key that is valid for it alone, created with nothing but an API token.

    Owns the bucket, a provider for nothing else, the full-access key of that provider unless the environment has
    SPACES_ACCESS_KEY_ID and SPACES_SECRET_ACCESS_KEY, and the scoped key. Refuses to own the content of the bucket.
    """

    bucket: pulumi.Output[str]
    """The name of the Space."""
    region: pulumi.Output[str]
    """Its region."""
    endpoint: pulumi.Output[str]
    """The address of the S3 interface of that region."""
    access_key: pulumi.Output[str]
    """The ID of the key that is valid for this Space alone."""
    secret_key: pulumi.Output[str]
    """The secret half of that key."""

    def __init__(self, name: str, args: RegistryBucketArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare bucket and keys.

        Raises:
            pulumi.InputPropertiesError: an argument cannot be used; nothing is created.
        """
        if errors := list(_errors(args)):
            raise pulumi.InputPropertiesError("RegistryBucket cannot be created", errors)
        super().__init__("RegistryBucket", name, opts)
        own_key = bool(os.environ.get("SPACES_ACCESS_KEY_ID"))
        keep_data = args.get("keep_data", False)
        storage = create_space(self, SpaceArgs(args["prefix"], REGISTRY, args["region"], keep_data, own_key))
        outputs = {
            "bucket": storage.bucket,
            "region": storage.region,
            "endpoint": storage.endpoint,
            "access_key": storage.access_key,
            "secret_key": storage.secret_key,
        }
        for key, value in outputs.items():
            setattr(self, key, pulumi.Output.from_input(value))
        self.register_outputs({"bucketName": self.bucket})


def _errors(args: Mapping[str, Any]) -> Iterator[pulumi.InputPropertyErrorDetails]:
    if not (isinstance(args["prefix"], str) and _PREFIX.fullmatch(args["prefix"])):
        reason = (
            "cannot be part of the name of a Space; DigitalOcean would reject it. Use at most 45 lowercase letters, "
            "digits and dashes, starting with a letter"
        )
        yield pulumi.InputPropertyErrorDetails(property_path="prefix", reason=reason)
    if args["region"] not in SPACES_REGIONS:
        reason = (
            f"is not a region with Spaces; nothing could be created. Use one of {', '.join(sorted(SPACES_REGIONS))}"
        )
        yield pulumi.InputPropertyErrorDetails(property_path="region", reason=reason)
