"""The sandbox's Docker Hub over HTTP: tokens, manifests, layers, and what it refuses."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest

from tests.sandbox.cloud.authority import Authority
from tests.sandbox.hub.build import BUNDLE, blob, folder, write_layer
from tests.sandbox.hub.registry import create_hub_app

REGISTRY, AUTH = "https://registry-1.docker.io", "https://auth.docker.io"


@pytest.fixture
def hub(tmp_path: Path, authority: Authority) -> httpx.AsyncClient:
    """A hub whose layers hold one small file each."""
    cache, known = tmp_path / "cache", {}
    (folder(cache) / "blobs").mkdir(parents=True)
    (folder(cache) / "ca-certificates.crt").write_bytes(b"public authorities\n")
    for name in ("base", "cli", "dind", "node"):
        file = io.BytesIO()
        layer = write_layer(lambda archive, name=name: archive.addfile(tarfile.TarInfo(name)), file)  # type: ignore[misc]
        blob(cache, layer.digest).write_bytes(file.getvalue())
        known[name] = asdict(layer)
    (folder(cache) / "layers.json").write_text(json.dumps(known))
    transport = httpx.ASGITransport(create_hub_app(cache, authority.certificate_file))
    return httpx.AsyncClient(transport=transport)


async def with_token(hub: httpx.AsyncClient, path: str) -> httpx.Response:
    token = (await hub.get(f"{AUTH}/token?service=registry.docker.io")).json()["token"]
    return await hub.get(f"{REGISTRY}{path}", headers={"Authorization": f"Bearer {token}"})


async def test_a_request_without_a_token_is_told_where_to_get_one(hub: httpx.AsyncClient) -> None:
    answer = await hub.get(f"{REGISTRY}/v2/")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith(f'Bearer realm="{AUTH}/token"')
    assert (await with_token(hub, "/v2/")).status_code == 200


async def test_every_part_of_an_image_has_the_digest_that_its_manifest_names(hub: httpx.AsyncClient) -> None:
    answer = await with_token(hub, "/v2/library/docker/manifests/29-dind")
    assert answer.status_code == 200
    assert f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == answer.headers["docker-content-digest"]
    manifest = answer.json()
    assert len(manifest["layers"]) == 4
    for part in [manifest["config"], *manifest["layers"]]:
        content = (await with_token(hub, f"/v2/library/docker/blobs/{part['digest']}")).content
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == part["digest"]
        assert len(content) == part["size"]


async def test_the_last_layer_adds_trust_in_the_sandbox(hub: httpx.AsyncClient, authority: Authority) -> None:
    manifest = (await with_token(hub, "/v2/library/node/manifests/lts")).json()
    layer = (await with_token(hub, f"/v2/library/node/blobs/{manifest['layers'][-1]['digest']}")).content
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        file = archive.extractfile(BUNDLE)
        assert file is not None
        assert file.read() == b"public authorities\n" + authority.certificate_file.read_bytes()


async def test_client_and_engine_are_told_apart_by_tag(hub: httpx.AsyncClient) -> None:
    digests = {
        tag: (await with_token(hub, f"/v2/library/docker/manifests/{tag}")).headers["docker-content-digest"]
        for tag in ("latest", "29", "29-cli", "dind", "29-dind")
    }
    assert digests["latest"] == digests["29"] == digests["29-cli"]
    assert digests["dind"] == digests["29-dind"] != digests["29"]


async def test_an_image_can_be_pulled_by_digest_and_an_unknown_tag_cannot(hub: httpx.AsyncClient) -> None:
    digest = (await with_token(hub, "/v2/library/node/manifests/lts")).headers["docker-content-digest"]
    assert (await with_token(hub, f"/v2/library/node/manifests/{digest}")).status_code == 200
    missing = await with_token(hub, "/v2/library/node/manifests/0.1")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")


async def test_an_unknown_repository_is_denied_as_on_docker_hub(hub: httpx.AsyncClient) -> None:
    answer = await with_token(hub, "/v2/library/nonesuch/manifests/latest")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (401, "UNAUTHORIZED")


async def test_nothing_can_be_pushed(hub: httpx.AsyncClient) -> None:
    token = {"Authorization": "Bearer x"}
    assert (await hub.put(f"{REGISTRY}/v2/library/node/manifests/x", headers=token)).status_code == 405
    assert (await hub.post(f"{REGISTRY}/v2/library/node/blobs/uploads/", headers=token)).status_code in (404, 405)
