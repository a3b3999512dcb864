"""The registry's storage, beside the distribution: the folder or bucket that it keeps everything in."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import xml.etree.ElementTree as ET
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from .config import Config, ConfigurationError

ROOT = "docker/registry"
BLOBS = f"{ROOT}/v2/blobs/sha256"
REPOSITORIES = f"{ROOT}/v2/repositories"
_MISSING = 404


def blob_folder(digest: str) -> str:
    """Where the content with a digest is."""
    name = digest.removeprefix("sha256:")
    return f"{BLOBS}/{name[:2]}/{name}"


class Storage(ABC):
    """Objects under names with slashes."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The content of an object; None if there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Put an object."""

    @abstractmethod
    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """Every object below a folder, with its size in bytes."""

    @abstractmethod
    def remove(self, folder: str) -> None:
        """Delete everything below a folder."""


class FileStorage(Storage):
    """A directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes | None:
        """The content of a file."""
        path = self._root / name
        return path.read_bytes() if path.is_file() else None

    def write(self, name: str, content: bytes) -> None:
        """Put a file."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """Files below a folder."""
        for directory, _, names in os.walk(self._root / folder):
            for name in sorted(names):
                path = Path(directory, name)
                yield str(path.relative_to(self._root)), path.stat().st_size

    def remove(self, folder: str) -> None:
        """Delete a folder, or a file."""
        path = self._root / folder
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class BucketStorage(Storage):
    """A bucket, addressed by path; requests are signed with Signature Version 4."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._region = str(options.get("region") or "us-east-1")
        endpoint = str(options.get("regionendpoint") or f"https://s3.{self._region}.amazonaws.com")
        self._prefix = str(options.get("rootdirectory") or "").strip("/")
        self._keys = str(options.get("accesskey")), str(options.get("secretkey"))
        self._bucket = f"{urlsplit(endpoint).path.rstrip('/')}/{options['bucket']}"
        self._host = urlsplit(endpoint).netloc
        self._http = httpx.Client(base_url=f"{urlsplit(endpoint).scheme}://{self._host}", timeout=60)

    def read(self, name: str) -> bytes | None:
        """The content of an object."""
        answer = self._send("GET", self._key(name))
        return None if answer.status_code == _MISSING else answer.raise_for_status().content

    def write(self, name: str, content: bytes) -> None:
        """Put an object."""
        self._send("PUT", self._key(name), body=content).raise_for_status()

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """Objects below a folder."""
        query = {"list-type": "2", "prefix": f"{self._key(folder)}/"}
        while True:
            tree = ET.fromstring(self._send("GET", "", query).raise_for_status().content)  # noqa: S314 - the store's
            space = {"s3": tree.tag.partition("}")[0].strip("{")}
            for entry in tree.findall("s3:Contents", space):
                key, size = entry.findtext("s3:Key", "", space), entry.findtext("s3:Size", "0", space)
                yield key.removeprefix(f"{self._prefix}/"), int(size)
            following = tree.findtext("s3:NextContinuationToken", "", space)
            if not following:
                return
            query["continuation-token"] = following

    def remove(self, folder: str) -> None:
        """Delete the objects below a folder, and the one of that name."""
        for name in [*(name for name, _ in self.sizes(folder)), folder]:
            answer = self._send("DELETE", self._key(name))
            if answer.status_code != _MISSING:
                answer.raise_for_status()

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _send(self, method: str, key: str, query: dict[str, str] | None = None, body: bytes = b"") -> httpx.Response:
        path = quote(f"{self._bucket}/{key}" if key else self._bucket, safe="/-_.~")
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in (query or {}).items())
        search = "&".join(f"{name}={value}" for name, value in pairs)
        headers = self._sign(method, path, search, hashlib.sha256(body).hexdigest())
        return self._http.request(method, f"{path}?{search}" if search else path, headers=headers, content=body)

    def _sign(self, method: str, path: str, search: str, payload: str) -> dict[str, str]:
        moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        headers = {"host": self._host, "x-amz-content-sha256": payload, "x-amz-date": moment}
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = "\n".join([method, path, search, lines, names, payload])
        text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self._keys[1]}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"AWS4-HMAC-SHA256 Credential={self._keys[0]}/{scope}"
        return headers | {"authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"}


def open_storage(config: Config) -> Storage:
    """The storage of a configuration.

    Raises:
        ConfigurationError: the driver keeps nothing that could be read.
    """
    match config.driver:
        case "filesystem":
            return FileStorage(Path(config.storage["rootdirectory"]))
        case "s3":
            return BucketStorage(config.storage)
    raise ConfigurationError(f"storage driver {config.driver} is not supported by this stand-in")
