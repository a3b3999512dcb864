"""The sandbox's Docker Hub over HTTP: tokens, manifests, layers, the limit of pulls, and what it refuses."""

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
from tests.sandbox.hub.pulls import WINDOW_SECONDS, Pulls
from tests.sandbox.hub.registry import create_hub_app

REGISTRY, AUTH = "https://registry-1.docker.io", "https://auth.docker.io"


class Clock:
    """The time that a test says it is."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(tmp_path: Path, authority: Authority, clock: Clock) -> httpx.AsyncClient:
    """A hub whose layers hold one small file each, and from which an address may pull five times."""
    cache, known = tmp_path / "cache", {}
    (folder(cache) / "blobs").mkdir(parents=True)
    (folder(cache) / "ca-certificates.crt").write_bytes(b"public authorities\n")
    for name in ("base", "cli", "dind", "node"):
        file = io.BytesIO()
        layer = write_layer(lambda archive, name=name: archive.addfile(tarfile.TarInfo(name)), file)  # type: ignore[misc]
        blob(cache, layer.digest).write_bytes(file.getvalue())
        known[name] = asdict(layer)
    (folder(cache) / "layers.json").write_text(json.dumps(known))
    transport = httpx.ASGITransport(create_hub_app(cache, authority.certificate_file, Pulls(5, clock)))
    return httpx.AsyncClient(transport=transport)


async def with_token(hub: httpx.AsyncClient, path: str, method: str = "GET", scope: str = "") -> httpx.Response:
    """The answer to a client that asks for a token as it was told to."""
    name = path.removeprefix("/v2/").rpartition("/")[0].rpartition("/")[0]
    query = {"service": "registry.docker.io", "scope": scope or f"repository:{name}:pull"}
    token = (await hub.get(f"{AUTH}/token", params=query)).json()["token"]
    return await hub.request(method, f"{REGISTRY}{path}", headers={"Authorization": f"Bearer {token}"})


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


async def test_a_token_is_for_the_repository_that_it_was_asked_for(hub: httpx.AsyncClient) -> None:
    path = "/v2/library/node/manifests/lts"
    assert (await hub.get(f"{REGISTRY}{path}", headers={"Authorization": "Bearer invented"})).status_code == 401
    other = await with_token(hub, path, scope="repository:library/docker:pull")
    assert other.status_code == 401
    wanted = 'service="registry.docker.io",scope="repository:library/node:pull",error="insufficient_scope"'
    assert other.headers["www-authenticate"].endswith(wanted)
    several = await with_token(hub, path, scope="repository:library/docker:pull repository:library/node:pull")
    assert several.status_code == 200


async def test_an_address_that_had_all_its_pulls_is_refused_until_six_hours_have_passed(
    hub: httpx.AsyncClient, clock: Clock
) -> None:
    path = "/v2/library/node/manifests/lts"
    left = [(await with_token(hub, path)).headers["ratelimit-remaining"] for _ in range(5)]
    assert left == [f"{number};w=21600" for number in (4, 3, 2, 1, 0)]
    clock.now = 60.0
    refused = await with_token(hub, path)
    assert refused.status_code == 429
    message = "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
    assert refused.json() == {"errors": [{"code": "TOOMANYREQUESTS", "message": message}]}
    assert refused.headers["ratelimit-limit"] == "5;w=21600"
    assert refused.headers["docker-ratelimit-source"] == "127.0.0.1"
    assert 0 < int(refused.headers["retry-after"]) <= WINDOW_SECONDS
    clock.now = WINDOW_SECONDS
    assert (await with_token(hub, path)).status_code == 200


async def test_neither_a_question_for_the_digest_nor_a_layer_is_a_pull(hub: httpx.AsyncClient) -> None:
    path = "/v2/library/node/manifests/lts"
    manifest = (await with_token(hub, path)).json()
    for _ in range(3):
        asked = await with_token(hub, path, "HEAD")
        assert (asked.status_code, asked.content) == (200, b"")
        await with_token(hub, f"/v2/library/node/blobs/{manifest['layers'][0]['digest']}")
    assert asked.headers["ratelimit-remaining"] == "4;w=21600"
    assert asked.headers["docker-content-digest"].startswith("sha256:")


async def test_a_mirror_of_docker_hub_and_quay_count_no_pulls(hub: httpx.AsyncClient) -> None:
    token = (await hub.get(f"{AUTH}/token?scope=repository:library/node:pull")).json()["token"]
    for _ in range(6):
        address = "https://mirror.gcr.io/v2/library/node/manifests/lts"
        assert (await hub.get(address, headers={"Authorization": f"Bearer {token}"})).status_code == 200
