"""Caches in a bucket: who gets which address, and what is fetched and sent."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
from botocore.config import Config

from tests.sandbox.runner.program import remote_caches
from tests.sandbox.runner.program.archives import ArchiveError, cache_file
from tests.sandbox.runner.program.payload import Payload, Variable, Variables

S3 = {
    "ServerAddress": "nyc3.digitaloceanspaces.com",
    "BucketName": "caches",
    "BucketLocation": "nyc3",
    "AccessKey": "DO00",
    "SecretKey": "the-secret",
}
RUNNER = {"token": "glrt-0123456789abcdef", "cache": {"Type": "s3", "s3": S3}}
JOB = Payload(
    {
        "id": 7,
        "token": "of-the-job",
        "job_info": {"project_id": 3},
        "cache": [{"key": "$CI_COMMIT_REF_SLUG", "fallback_keys": ["main"], "paths": ["kept"]}],
    }
)
MAIN = Variables([Variable("CI_COMMIT_REF_SLUG", "topic"), Variable("CI_PROJECT_PATH", "root/hello")])


def test_an_address_is_signed_as_the_official_library_signs_it() -> None:
    library = boto3.client(
        "s3",
        endpoint_url="https://nyc3.digitaloceanspaces.com",
        region_name="nyc3",
        aws_access_key_id="DO00",
        aws_secret_access_key=S3["SecretKey"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    wanted = urlsplit(
        library.generate_presigned_url("get_object", {"Bucket": "caches", "Key": "runner/a b/default"}, ExpiresIn=3600)
    )
    query = parse_qs(wanted.query)
    now = dt.datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    found = urlsplit(remote_caches.presigned("GET", S3, "runner/a b/default", now))
    assert (found.netloc, found.path) == (wanted.netloc, wanted.path)
    assert parse_qs(found.query) == query


def test_a_job_gets_the_addresses_of_its_own_keys_below_its_project_and_never_the_key_of_the_bucket() -> None:
    found = remote_caches.addresses(RUNNER, JOB, MAIN)
    assert list(found) == ["topic", "main"]
    assert urlsplit(found["main"]["GET"]).path.endswith("/project/3/main")
    assert found["main"]["GET"] != found["main"]["PUT"]
    assert "the-secret" not in str(found)
    assert remote_caches.addresses({"token": "glrt-x"}, JOB, MAIN) == {}


def test_what_there_is_is_fetched_and_what_a_job_has_made_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = {"https://s3/main": b"archive"}

    def request(method: str, url: str, *, content: bytes | None, **_: object) -> httpx.Response:
        if method == "PUT":
            bucket[url] = content or b""
        return httpx.Response(200, content=bucket[url]) if url in bucket else httpx.Response(404)

    monkeypatch.setattr(httpx, "request", request)
    urls = {key: {"GET": f"https://s3/{key}", "PUT": f"https://s3/{key}"} for key in ("topic", "main")}
    remote_caches.fetch(tmp_path, JOB, urls)
    assert cache_file(tmp_path, JOB, "main").read_bytes() == b"archive"
    assert not cache_file(tmp_path, JOB, "topic").exists()
    cache_file(tmp_path, JOB, "topic").parent.mkdir(parents=True)
    cache_file(tmp_path, JOB, "topic").write_bytes(b"new")
    remote_caches.send(tmp_path, JOB, urls)
    assert bucket["https://s3/topic"] == b"new"


def test_a_refusal_does_not_show_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(403))
    with pytest.raises(ArchiveError, match=r"^received: 403 Forbidden$"):
        remote_caches.fetch(tmp_path, JOB, {"main": {"GET": "https://s3/main?signature", "PUT": ""}})
