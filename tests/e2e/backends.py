"""Where Pulumi keeps the state of a stack, if that is a bucket."""

from __future__ import annotations

import os
from collections.abc import Mapping


def state_in(bucket: Mapping[str, str]) -> dict[str, str]:
    """The environment of commands whose state is in a bucket of `given_bucket`."""
    return os.environ | {
        "PULUMI_BACKEND_URL": f"s3://{bucket['bucket']}?endpoint={bucket['endpoint']}&region=fra1",
        "AWS_ACCESS_KEY_ID": bucket["accessKey"],
        "AWS_SECRET_ACCESS_KEY": bucket["secretKey"],
    }
