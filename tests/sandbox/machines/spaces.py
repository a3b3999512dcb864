"""Object storage: one S3 server (versitygw) per region, and the keys and grants of the account.

A full-access key is an administrator of the server: it sees and owns every bucket. Any other key is a plain user whom
bucket policies let in. Those policies are generated here from the keys; what a user adds to a bucket's policy stays.
The server reads accounts at each request, so changes of keys take effect at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config
import botocore.exceptions
from pydantic import TypeAdapter

from tests.sandbox.digitalocean.state.backend import Grant
from tests.sandbox.layout import SPACES_ADDRESSES, SPACES_SUFFIX, Layout

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Where the S3 server of a region listens, behind its front (`spaces_front`).
SERVER_PORTS = {region: 9100 + number for number, region in enumerate(SPACES_ADDRESSES)}

#: Spaces also takes requests that are signed for this region, whichever the bucket is in; clients that know only Amazon
#: do so. A server takes one region, so a second one serves the same buckets to them.
GENERIC_REGION = "us-east-1"
GENERIC_PORTS = {region: port + 100 for region, port in SERVER_PORTS.items()}

_STATEMENT = "SpacesKey"
_READ = (
    "ListBucket",
    "ListBucketVersions",
    "ListBucketMultipartUploads",
    "GetBucketLocation",
    "GetObject",
    "GetObjectVersion",
    "GetObjectAttributes",
    "GetObjectAcl",
    "GetObjectTagging",
    "ListMultipartUploadParts",
)
_WRITE = (
    "PutObject",
    "PutObjectAcl",
    "PutObjectTagging",
    "DeleteObject",
    "DeleteObjectVersion",
    "DeleteObjectTagging",
    "AbortMultipartUpload",
)
#: What a grant on one bucket allows. `fullaccess` on one bucket is not more than `readwrite` there.
PERMISSIONS = {"read": _READ, "readwrite": _READ + _WRITE, "fullaccess": _READ + _WRITE}


class GrantError(ValueError):
    """A grant that means nothing."""


@dataclass(frozen=True)
class _Key:
    secret: str = field(repr=False)
    grants: tuple[Grant, ...]

    @property
    def everything(self) -> bool:
        return any(not grant.bucket and grant.permission == "fullaccess" for grant in self.grants)


_KEYS = TypeAdapter(dict[str, _Key])


def spaces_command(layout: Layout, region: str, *, generic: bool = False) -> list[str]:
    """The command line of a region's S3 server. It holds no secret: those are in `spaces_environment`.

    `generic` makes it the one for requests that are signed for `GENERIC_REGION`.

    Plain HTTP on loopback: TLS and the public address are those of the front. The administration interface is a
    socket that nobody uses, which keeps it off the S3 port.
    """
    home, ports = _home(layout, region), GENERIC_PORTS if generic else SERVER_PORTS
    for folder in (_accounts(layout), home / "buckets", home / "versions"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return [
        str(layout.cache / "bin" / "versitygw"),
        *("--port", f"127.0.0.1:{ports[region]}", "--region", GENERIC_REGION if generic else region),
        *("--virtual-domain", f"{region}.{SPACES_SUFFIX}"),
        *("--admin-port", str(layout.run / f"spaces-{ports[region]}.admin"), "--socket-perm", "0600"),
        *(
            "--iam-dir",
            str(_accounts(layout)),
            "--iam-cache-disable",
            "--health",
            "/.health",
            "--keep-alive",
            "--quiet",
        ),
        *("posix", "--versioning-dir", str(home / "versions"), str(home / "buckets")),
    ]


def spaces_environment(layout: Layout) -> dict[str, str]:
    """Credentials of the S3 servers' own administrator, made at the first call and kept with mode 0600."""
    path = _root(layout) / "administrator.json"
    if not path.exists():
        _write(path, json.dumps({"ROOT_ACCESS_KEY": secrets.token_hex(10), "ROOT_SECRET_KEY": secrets.token_hex(20)}))
    found: dict[str, str] = json.loads(path.read_text())
    return found


class Spaces:
    """Keys, grants and buckets of the account, in all regions."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = asyncio.Lock()
        self._file = _root(layout) / "keys.json"
        self._keys = _KEYS.validate_json(self._file.read_bytes()) if self._file.exists() else {}

    async def put_key(self, access_key: str, secret_key: str, grants: Sequence[Grant]) -> None:
        """Make or change a key. Raises `GrantError` for a permission that does not exist."""
        for grant in grants:
            if grant.permission not in PERMISSIONS:
                raise GrantError(f"there is no permission {grant.permission!r}; there are {', '.join(PERMISSIONS)}")
        async with self._lock:
            before = self._touched(access_key)
            self._keys[access_key] = _Key(secret_key, tuple(grants))
            self._save()
            await self._write_policies(before | self._touched(access_key))

    async def delete_key(self, access_key: str) -> None:
        """Revoke a key."""
        async with self._lock:
            touched = self._touched(access_key)
            if self._keys.pop(access_key, None) is not None:
                self._save()
                await self._write_policies(touched)

    def may_do_everything(self, access_key: str) -> bool:
        """Whether a key may change the settings of buckets."""
        key = self._keys.get(access_key)
        return key is not None and key.everything

    async def buckets(self) -> dict[str, str]:
        """Buckets of all regions, name -> region."""
        return await asyncio.to_thread(self._buckets)

    async def bucket_changed(self, bucket: str) -> None:
        """A bucket is new, or its policy was replaced: put our part of the policy back."""
        async with self._lock:
            if any(grant.bucket == bucket for key in self._keys.values() for grant in key.grants):
                await self._write_policies({bucket})

    async def reset(self) -> None:
        """Remove every bucket with its content, and every key."""
        async with self._lock:
            self._keys.clear()
            if self._file.exists():
                self._save()
            for region in SPACES_ADDRESSES:
                home = _home(self._layout, region)
                for folder in ("buckets", "versions", "lifecycle"):
                    await asyncio.to_thread(_empty, home / folder)

    def lifecycle_file(self, region: str, bucket: str) -> Path:
        """Where the lifecycle rules of a bucket are kept."""
        return _home(self._layout, region) / "lifecycle" / f"{bucket}.xml"

    def _touched(self, access_key: str) -> set[str]:
        key = self._keys.get(access_key)
        return {grant.bucket for grant in key.grants if grant.bucket} if key else set()

    def _save(self) -> None:
        _write(self._file, _KEYS.dump_json(self._keys, indent=1).decode())
        accounts = {
            access: {"access": access, "secret": key.secret, "role": "admin" if key.everything else "user"}
            for access, key in self._keys.items()
        }
        _write(_accounts(self._layout) / "users.json", json.dumps({"accessAccounts": accounts}))

    async def _write_policies(self, buckets: set[str]) -> None:
        for bucket in sorted(buckets):
            await asyncio.to_thread(self._write_policy, bucket)

    def _write_policy(self, bucket: str) -> None:
        region = self._buckets().get(bucket)
        if region is None:
            return
        s3 = self._client(region)
        statements = [s for s in _statements(s3, bucket) if not str(s.get("Sid", "")).startswith(_STATEMENT)]
        for number, (access, key) in enumerate(sorted(self._keys.items())):
            allowed = {a for grant in key.grants if grant.bucket == bucket for a in PERMISSIONS[grant.permission]}
            if allowed and not key.everything:
                statements += _allow(f"{_STATEMENT}{number}", access, bucket, allowed)
        if statements:
            document = json.dumps({"Version": "2012-10-17", "Statement": statements})
            s3.put_bucket_policy(Bucket=bucket, Policy=document)
        else:
            s3.delete_bucket_policy(Bucket=bucket)

    def _buckets(self) -> dict[str, str]:
        # The server keeps a bucket as a directory; reading them does not depend on its being up.
        return {
            folder.name: region
            for region in SPACES_ADDRESSES
            if (home := _home(self._layout, region) / "buckets").is_dir()
            for folder in home.iterdir()
            if folder.is_dir() and not folder.name.startswith(".")
        }

    def _client(self, region: str) -> S3Client:
        root = spaces_environment(self._layout)
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{SERVER_PORTS[region]}",
            region_name=region,
            aws_access_key_id=root["ROOT_ACCESS_KEY"],
            aws_secret_access_key=root["ROOT_SECRET_KEY"],
            config=botocore.config.Config(s3={"addressing_style": "path"}, proxies={}),
        )


def _statements(s3: S3Client, bucket: str) -> list[dict[str, Any]]:
    try:
        document = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchBucketPolicy":
            return []
        raise
    found = document["Statement"]
    return found if isinstance(found, list) else [found]


def _allow(sid: str, access_key: str, bucket: str, actions: set[str]) -> list[dict[str, Any]]:
    """Two statements: the server refuses an object's action on a bucket and the other way round."""
    on_bucket = sorted(f"s3:{a}" for a in actions if "Bucket" in a)
    on_objects = sorted(f"s3:{a}" for a in actions if "Bucket" not in a)
    common = {"Effect": "Allow", "Principal": {"AWS": [access_key]}}
    return [
        {"Sid": f"{sid}Bucket", **common, "Action": on_bucket, "Resource": f"arn:aws:s3:::{bucket}"},
        {"Sid": f"{sid}Objects", **common, "Action": on_objects, "Resource": f"arn:aws:s3:::{bucket}/*"},
    ]


def _root(layout: Layout) -> Path:
    return layout.state / "spaces"


def _home(layout: Layout, region: str) -> Path:
    return _root(layout) / region


def _accounts(layout: Layout) -> Path:
    return _root(layout) / "accounts"


def _empty(folder: Path) -> None:
    if folder.is_dir():
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _write(path: Path, content: str) -> None:
    """Replace a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = path.with_suffix(".new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)
    unfinished.replace(path)
