"""The cache of Docker Hub: the real registry with the program's settings, and the real Buildah that pulls from it."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.sandbox_tests.support.buildah import Workshop, workshop
from tests.sandbox_tests.support.hub_cache import Upstream, cache_of, certificate, counting
from tests.sandbox_tests.support.official_images import CONFIG, LAYER, MANIFEST, push_blob
from tests.sandbox_tests.support.ports import free_port

IMAGE = "library/tiny"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A workshop whose registry is Docker Hub, with one small image."""
    with workshop(tmp_path_factory.mktemp("workshop")) as running:
        push_image(running.registry, "latest", b"first\n")
        running.write("project/Dockerfile", "FROM tiny\nCOPY own /own\n")
        running.write("project/own", "ours\n")
        yield running


@pytest.fixture
def hub(place: Workshop) -> Iterator[Upstream]:
    with counting(place.registry) as upstream:
        yield upstream


def push_image(registry: httpx.Client, tag: str, content: bytes) -> str:
    """Push an image of one file; returns its digest."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as layer:
        entry = tarfile.TarInfo("which")
        entry.size = len(content)
        layer.addfile(entry, io.BytesIO(content))
    part = push_blob(registry, IMAGE, archive.getvalue(), LAYER)
    described = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [part["digest"]]},
    }
    config = push_blob(registry, IMAGE, json.dumps(described).encode(), CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [part]}
    answer = registry.put(f"{IMAGE}/manifests/{tag}", json=manifest, headers={"Content-Type": MANIFEST})
    return str(answer.raise_for_status().headers["docker-content-digest"])


def build(place: Workshop, hub: Upstream, port: int, store: str) -> subprocess.CompletedProcess[str]:
    """Build on a machine that has pulled nothing yet, with a cache at `port`."""
    place.write(
        "registries.conf",
        'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n'
        f'[[registry]]\nprefix = "docker.io/library"\nlocation = "127.0.0.1:{hub.port}/library"\ninsecure = true\n'
        f'[[registry.mirror]]\nlocation = "127.0.0.1:{port}/library"\n',
    )
    words = ["buildah build --pull=newer --iidfile id.txt .", "buildah from --name c $(cat id.txt)"]
    return place.run([*words, "cat $(buildah mount c)/which"], project(place), store)


def project(place: Workshop) -> Path:
    return place.folder / "project"


def trust(place: Workshop, file: Path, port: int) -> None:
    place.write(f"home/.config/containers/certs.d/127.0.0.1:{port}/docker-hub-cache.crt", file.read_text())


def test_a_second_build_takes_nothing_from_docker_hub_and_sees_that_a_tag_has_moved(
    place: Workshop, hub: Upstream, tmp_path: Path
) -> None:
    port = free_port()
    with cache_of(hub, tmp_path, port):
        trust(place, tmp_path / "certificate.pem", port)
        first = build(place, hub, port, "first")
        assert first.returncode == 0, first.stderr
        # The manifest, the description and the layer.
        assert len(hub.taken) == 3
        second = build(place, hub, port, "second")
        assert second.returncode == 0, second.stderr
        assert len(hub.taken) == 3
        push_image(place.registry, "latest", b"moved\n")
        assert build(place, hub, port, "third").stdout.endswith("moved\n")
        assert len(hub.taken) == 6
    # Without the cache, each build is a pull.
    for number in (1, 2):
        assert build(place, hub, port, f"without-{number}").returncode == 0
        assert len(hub.taken) == 6 + 3 * number


def test_something_else_that_answers_in_the_place_of_the_cache_is_not_asked(
    place: Workshop, hub: Upstream, tmp_path: Path
) -> None:
    port = free_port()
    with counting(place.registry) as attacker, cache_of(attacker, tmp_path / "attacker", port):
        trust(place, certificate(tmp_path / "own"), port)
        ran = build(place, hub, port, "attacked")
        assert ran.returncode == 0, ran.stderr
        assert attacker.taken == []
        assert len(hub.taken) == 3


def test_nobody_pushes_to_the_cache_or_deletes_from_it(hub: Upstream, tmp_path: Path) -> None:
    accept = {"Accept": MANIFEST}
    with cache_of(hub, tmp_path, free_port()) as cache:
        manifest = cache.get(f"{IMAGE}/manifests/latest", headers=accept).raise_for_status()
        digest, layer = manifest.headers["docker-content-digest"], manifest.json()["layers"][0]["digest"]
        cache.get(f"{IMAGE}/blobs/{layer}").raise_for_status()
        kind = {"Content-Type": MANIFEST}
        refused = [
            cache.post(f"{IMAGE}/blobs/uploads/"),
            cache.post(f"{IMAGE}/blobs/uploads/?mount={layer}&from=library/other"),
            cache.put(f"{IMAGE}/manifests/latest", content=manifest.content, headers=kind),
            cache.put(f"library/mine/manifests/{digest}", content=manifest.content, headers=kind),
            cache.delete(f"{IMAGE}/manifests/latest"),
            cache.delete(f"{IMAGE}/manifests/{digest}"),
            cache.delete(f"{IMAGE}/blobs/{layer}"),
        ]
        assert [(one.status_code, one.json()["errors"][0]["code"]) for one in refused] == [(405, "UNSUPPORTED")] * 7
        before = len(hub.taken)
        assert cache.get(f"{IMAGE}/manifests/latest", headers=accept).content == manifest.content
        assert len(hub.taken) == before
