"""A developer poisons the cache of branches: what the stack's pipeline builds then, with the real Buildah and registry.

Buildah finds a cached layer by a tag that is made of the instruction and the files, and compares its history. The
attack leaves both and adds a file to the layer.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from components.build_pipeline import pipeline
from components.settings import Builder
from tests.sandbox_tests.support.buildah import Workshop, workshop

MANIFESTS = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
INDEXES = {"Accept": "application/vnd.docker.distribution.manifest.list.v2+json"}


class Builds:
    """Builds of one commit, each of which starts with no layers of its own."""

    def __init__(self, place: Workshop) -> None:
        self._place, self._builds, self._registry = place, 0, place.registry
        self.image = f"{place.host}/root/hello"
        place.write("project/Dockerfile", 'FROM scratch\nENV A=1\nCOPY *.js /app/\nCMD ["node"]\n')
        place.write("project/server.js", "served\n")

    def build(self, branch: str, *, protected: bool) -> list[str]:
        """Run the build job of the stack's pipeline; returns the files in the image that it hands on."""
        self._builds += 1
        project = self._place.folder / "project"
        variables = {
            "CI_REGISTRY_IMAGE": self.image,
            "CI_COMMIT_SHA": "1" * 40,
            "CI_COMMIT_REF_SLUG": branch,
            "CI_COMMIT_REF_NAME": branch,
            "CI_COMMIT_REF_PROTECTED": str(protected).lower(),
            "CI_COMMIT_BRANCH": branch,
            "CI_DEFAULT_BRANCH": "main",
            "CI_JOB_ID": str(self._builds),
        }
        script = yaml.safe_load(pipeline(Builder.BUILDAH, (), None))["build"]["script"]
        ran = self._place.run(script, project, f"store-{self._builds}", **variables)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return self._files((project / "image.txt").read_text().strip().partition("@")[2])

    def poison(self, repository: str) -> None:
        """Add a file to the last layer of every cached image whose last instruction has made one."""
        for tag in self._registry.get(f"{repository}/tags/list").raise_for_status().json()["tags"]:
            manifest = self._get(f"{repository}/manifests/{tag}", MANIFESTS).json()
            config = self._get(f"{repository}/blobs/{manifest['config']['digest']}").json()
            if config["history"][-1].get("empty_layer"):
                continue
            layer = manifest["layers"][-1]
            changed = with_file(self._get(f"{repository}/blobs/{layer['digest']}").content, "poisoned")
            config["rootfs"]["diff_ids"][-1] = digest(changed)
            layer |= self._push(repository, gzip.compress(changed))
            manifest["config"] |= self._push(repository, json.dumps(config).encode())
            kind = {"Content-Type": MANIFESTS["Accept"]}
            self._registry.put(f"{repository}/manifests/{tag}", json=manifest, headers=kind).raise_for_status()

    def _files(self, index: str) -> list[str]:
        [entry] = self._get(f"root/hello/manifests/{index}", INDEXES).json()["manifests"]
        manifest = self._get(f"root/hello/manifests/{entry['digest']}", MANIFESTS).json()
        layers = [self._get(f"root/hello/blobs/{layer['digest']}").content for layer in manifest["layers"]]
        return [name for layer in layers for name in names_in(layer)]

    def _push(self, repository: str, content: bytes) -> dict[str, Any]:
        place = self._registry.post(f"{repository}/blobs/uploads/").raise_for_status().headers["location"]
        url = httpx.URL(place).copy_merge_params({"digest": digest(content)})
        self._registry.put(url, content=content).raise_for_status()
        return {"digest": digest(content), "size": len(content)}

    def _get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return self._registry.get(path, headers=headers).raise_for_status()


def names_in(layer: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        return archive.getnames()


def with_file(layer: bytes, name: str) -> bytes:
    changed = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(layer)) as old, tarfile.open(fileobj=changed, mode="w") as new:
        for member in old:
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
        new.addfile(tarfile.TarInfo(name))
    return changed.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def builds(tmp_path: Path) -> Iterator[Builds]:
    with workshop(tmp_path) as place:
        yield Builds(place)


def test_a_developer_who_poisons_the_cache_of_branches_changes_no_release(builds: Builds) -> None:
    clean = builds.build("feature", protected=False)
    builds.poison("root/hello/cache")
    assert "poisoned" in builds.build("feature", protected=False), "the attack works"
    # The very commit that the developer has built, merged into the protected default branch.
    assert builds.build("main", protected=True) == clean
    assert "poisoned" not in builds.build("release", protected=True)
