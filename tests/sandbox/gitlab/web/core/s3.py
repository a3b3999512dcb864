"""A bucket of object storage that is compatible with S3. Requests are signed with Signature Version 4."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import httpx

_SAFE = "-_.~"
_MISSING = 404


class ObjectStorageError(Exception):
    """Object storage has refused a request, or does not answer."""


@dataclass(frozen=True)
class Connection:
    """How to reach object storage: GitLab's `connection`, as far as it is known here."""

    endpoint: str
    region: str
    path_style: bool
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    def bucket(self, name: str) -> Bucket:
        """A bucket by its name."""
        return Bucket(self, name)


@dataclass(frozen=True)
class Bucket:
    """One bucket and the objects in it."""

    connection: Connection
    name: str

    def read(self, key: str) -> bytes:
        """The content of an object.

        Raises:
            ObjectStorageError: there is no such object, or the key may not read it.
        """
        return self._send("GET", key).content

    def write(self, key: str, content: bytes) -> None:
        """Put an object.

        Raises:
            ObjectStorageError: the key may not, or there is no such bucket.
        """
        self._send("PUT", key, content)

    def copy(self, source: str, key: str) -> None:
        """Copy an object within the bucket.

        Raises:
            ObjectStorageError: the key may not.
        """
        self._send("PUT", key, headers={"x-amz-copy-source": f"/{self.name}/{quote(source, safe='/' + _SAFE)}"})

    def delete(self, key: str) -> None:
        """Delete an object, which may be gone already.

        Raises:
            ObjectStorageError: the key may not.
        """
        self._send("DELETE", key)

    def signed_url(self, key: str, seconds: int, disposition: str) -> str:
        """A URL that lets whoever has it download an object for some time."""
        base, host, path = self._place(key)
        moment, scope = self._moment()
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.connection.access_key}/{scope}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
            "response-content-disposition": disposition,
        }
        search = "&".join(
            f"{quote(name, safe=_SAFE)}={quote(value, safe=_SAFE)}" for name, value in sorted(query.items())
        )
        canonical = _canonical("GET", path, search, {"host": host}, "UNSIGNED-PAYLOAD")
        signature = self._signature(canonical, moment, scope)
        return f"{base}{path}?{search}&X-Amz-Signature={signature}"

    def _send(
        self, method: str, key: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        base, host, path = self._place(key)
        payload = hashlib.sha256(content).hexdigest()
        moment, scope = self._moment()
        signed = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": moment, **(headers or {})}
        signature = self._signature(_canonical(method, path, "", signed, payload), moment, scope)
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.connection.access_key}/{scope}, "
            f"SignedHeaders={';'.join(sorted(signed))}, Signature={signature}"
        )
        try:
            answer = httpx.request(method, f"{base}{path}", headers=signed, content=content, timeout=60)
        except httpx.HTTPError as error:
            raise ObjectStorageError(f"{self.connection.endpoint}: {error}") from error
        if answer.is_success or (method == "DELETE" and answer.status_code == _MISSING):
            return answer
        # As the library prints it that GitLab uses.
        raise ObjectStorageError(
            f"Expected(200) <=> Actual({answer.status_code} {answer.reason_phrase}): {self.name}/{key}"
        )

    def _place(self, key: str) -> tuple[str, str, str]:
        """The server, its host header, and the path of an object on it."""
        url = urlsplit(self.connection.endpoint)
        path = quote(key, safe="/" + _SAFE)
        if self.connection.path_style:
            return f"{url.scheme}://{url.netloc}", url.netloc, f"/{self.name}/{path}"
        host = f"{self.name}.{url.netloc}"
        return f"{url.scheme}://{host}", host, f"/{path}"

    def _moment(self) -> tuple[str, str]:
        moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        return moment, f"{moment[:8]}/{self.connection.region}/s3/aws4_request"

    def _signature(self, canonical: str, moment: str, scope: str) -> str:
        text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self.connection.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()


def _canonical(method: str, path: str, search: str, headers: Mapping[str, str], payload: str) -> str:
    """A request in the form that is signed."""
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    return "\n".join([method, path, search, lines, ";".join(sorted(headers)), payload])
