"""Caches in an S3 bucket: addresses of single objects, and what is fetched from them and sent to them.

The runner signs the addresses (Signature Version 4, in the query). Those who use them know no key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx

from .archives import ArchiveError, cache_file, cache_keys
from .configuration import Table, short_token
from .payload import Payload, Variables

#: Seconds that an address is valid.
_VALID = 3600
_NOT_FOUND = 404


def in_bucket(runner: Table) -> Table:
    """The table `[runners.cache.s3]`, if the caches are in a bucket; else an empty one."""
    cache: Table = runner.get("cache") or {}
    s3: Table = cache.get("s3") or {}
    return s3 if cache.get("Type") == "s3" and s3.get("BucketName") else {}


def addresses(runner: Table, payload: Payload, variables: Variables) -> dict[str, dict[str, str]]:
    """By the key of each cache of a job: where it is fetched (GET) and sent to (PUT)."""
    s3, now = in_bucket(runner), dt.datetime.now(dt.UTC)
    if not s3:
        return {}
    folder = f"runner/{short_token(str(runner.get('token', '')))}/project/{payload.project_id}"
    return {
        key: {method: presigned(method, s3, f"{folder}/{key}", now) for method in ("GET", "PUT")}
        for key in cache_keys(payload, variables)
    }


def presigned(method: str, s3: Table, key: str, now: dt.datetime) -> str:
    """An address that is valid for one method and one object."""
    region, host = str(s3.get("BucketLocation", "")), str(s3["ServerAddress"])
    day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{day}/{region}/s3/aws4_request"
    path = quote(f"/{s3['BucketName']}/{key}", safe="/-_.~")
    query = urlencode(
        {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{s3['AccessKey']}/{scope}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(_VALID),
            "X-Amz-SignedHeaders": "host",
        },
        quote_via=quote,
        safe="-_.~",
    )
    request = f"{method}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    signed = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    secret = f"AWS4{s3['SecretKey']}".encode()
    for part in (day, region, "s3", "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.new(secret, signed.encode(), "sha256").hexdigest()
    return f"https://{host}{path}?{query}&X-Amz-Signature={signature}"


def fetch(caches: Path, payload: Payload, urls: Mapping[str, Mapping[str, str]]) -> None:
    """Put what there is into the folder of caches."""
    for key, found in urls.items():
        content = _send("GET", found["GET"], None)
        if content is not None:
            target = cache_file(caches, payload, key)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def send(caches: Path, payload: Payload, urls: Mapping[str, Mapping[str, str]]) -> None:
    """Send what is in the folder of caches."""
    for key, found in urls.items():
        file = cache_file(caches, payload, key)
        if file.is_file():
            _send("PUT", found["PUT"], file.read_bytes())


def _send(method: str, url: str, content: bytes | None) -> bytes | None:
    try:
        answer = httpx.request(method, url, content=content, timeout=120, verify=ssl.create_default_context())
    except httpx.HTTPError as error:
        raise ArchiveError(f"the bucket does not answer: {type(error).__name__}") from None
    if method == "GET" and answer.status_code == _NOT_FOUND:
        return None
    if answer.is_error:
        # The address is a secret for an hour.
        raise ArchiveError(f"received: {answer.status_code} {answer.reason_phrase}")
    return answer.content
