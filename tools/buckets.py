"""Buckets of an account. Spaces does not accept API tokens, and each region lists its own."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from components.api import request
from tools.trust import trusted_file

_KEY = ("SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY")
#: Seconds until Spaces knows a key that the API has just created.
_KEY_SPREADS = 60


def found(regions: Collection[str], is_ours: Callable[[str], bool]) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Name, region and removal of each bucket in `regions` whose name `is_ours`.

    Uses the Spaces key of the environment. If there is none, a key with full access is created for as long as it takes
    to list the buckets, and again to remove one.

    Raises:
        RuntimeError: a region does not answer, or no key can be created.
    """
    with _key() as key, ThreadPoolExecutor(max(len(regions), 1)) as pool:
        listed = list(pool.map(partial(_names, key), sorted(regions)))
    for region, names in listed:
        yield from ((name, region, partial(_remove, region, name)) for name in names if is_ours(name))


@contextmanager
def _key() -> Iterator[tuple[str, str]]:
    if all(os.environ.get(name) for name in _KEY):
        yield os.environ[_KEY[0]], os.environ[_KEY[1]]
        return
    body = {"name": f"slipway-strays-{secrets.token_hex(4)}", "grants": [{"bucket": "", "permission": "fullaccess"}]}
    key = request("/v2/spaces/keys", body)["key"]
    try:
        yield key["access_key"], key["secret_key"]
    finally:
        request(f"/v2/spaces/keys/{key['access_key']}", method="DELETE")


def _client(key: tuple[str, str], region: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"https://{region}.digitaloceanspaces.com",
        verify=trusted_file(None, "AWS_CA_BUNDLE"),
        region_name=region,
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        config=Config(connect_timeout=10, read_timeout=30, retries={"max_attempts": 2}),
    )


def _names(key: tuple[str, str], region: str) -> tuple[str, list[str]]:
    """A region and the names of its buckets."""
    deadline = time.monotonic() + _KEY_SPREADS
    while True:
        try:
            return region, [bucket["Name"] for bucket in _client(key, region).list_buckets().get("Buckets", [])]
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidAccessKeyId" or time.monotonic() > deadline:
                raise RuntimeError(f"the buckets in {region} cannot be listed: {error}") from error
        except BotoCoreError as error:
            raise RuntimeError(f"the buckets in {region} cannot be listed: {error}") from error
        time.sleep(1)


def _remove(region: str, name: str) -> None:
    """Delete a bucket with everything in it."""
    with _key() as key:
        _names(key, region)
        client = _client(key, region)
        try:
            for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
                objects = [
                    {"Key": one["Key"], "VersionId": one["VersionId"]}
                    for one in (*page.get("Versions", []), *page.get("DeleteMarkers", []))
                ]
                if objects:
                    client.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})
            client.delete_bucket(Bucket=name)
        except (BotoCoreError, ClientError) as error:
            raise RuntimeError(str(error)) from error
