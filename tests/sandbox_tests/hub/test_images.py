"""The images of the sandbox's Docker Hub and Quay, asked themselves: each is of the version that its tag names."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path

import pytest

from components import versions
from tests.sandbox import versions as sandbox
from tests.sandbox.hub.build import IMAGES, blob, layers
from tests.sandbox.hub.registry import tags
from tests.sandbox.layout import current

#: What tells the version of an image: a program (or a file) in it, and the words to ask it with.
WITNESSES: dict[str, list[tuple[str, list[str]]]] = {
    "docker-cli": [("usr/local/bin/docker", ["--version"])],
    "docker-dind": [("usr/local/bin/docker", ["--version"]), ("usr/local/bin/dockerd", ["--version"])],
    "node": [("usr/local/bin/node", ["--version"])],
    "buildah": [("usr/bin/buildah", ["--version"])],
    "registry": [("usr/local/bin/registry", ["--version"])],
    # It does not tell its version.
    "kamal-proxy": [],
    "debian": [("etc/debian_version", [])],
}
#: Names that are no number, and what they meant when the images were made.
MOVING = {"latest", "stable", "lts", "trixie", "cli", "dind"}


@cache
def layer_of(image: str, path: str) -> Path:
    """The archive of the uppermost layer of an image that has this file."""
    known = layers(current().cache)
    for part in reversed(IMAGES[image][0]):
        archive = blob(current().cache, known[part].digest)
        with tarfile.open(archive) as opened:
            if any(member.name == path for member in opened):
                return archive
    raise AssertionError(f"{path} is not in {image}")


@cache
def answer(image: str, path: str, *words: str) -> str:
    """What a program of an image says, or what is in a file."""
    folder = current().cache / "build" / f"witness-{image}"
    try:
        with tarfile.open(layer_of(image, path)) as opened:
            opened.extract(path, folder, filter="data")
        file = folder / path
        if not words:
            return file.read_text()
        file.chmod(0o755)
        return subprocess.run([file, *words], check=True, capture_output=True, text=True).stdout
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def version_in(tag: str) -> str:
    """The number of a tag, empty for a moving name: `29.8.1` for `29.8.1-dind` and for `v29.8.1`."""
    number = re.match(r"v?(\d+(\.\d+)*)", tag)
    return number[1] if number else ""


#: Made by `make nightly` alone, which checks their versions itself.
ON_DEMAND = {"python", "golang", "nginx", "trivy", "cosign"}
#: The stand-in for GitLab Runner, for clusters alone, under the tags that the official images have.
RUNNER = re.compile(r"gitlab-runner-(helper-)?(?P<version>[\d.]+)")
EVERY_TAG = [
    (repository, tag, image)
    for repository, known in tags().items()
    for tag, image in known.items()
    if image not in ON_DEMAND and not RUNNER.fullmatch(image)
]


@pytest.mark.parametrize(("repository", "tag", "image"), EVERY_TAG)
def test_an_image_is_of_the_version_that_its_tag_names(repository: str, tag: str, image: str) -> None:
    wanted = version_in(tag)
    assert wanted or tag.split("-", maxsplit=1)[0] in MOVING, f"{repository}:{tag}"
    for path, words in WITNESSES[image]:
        found = re.search(r"\d+(\.\d+)+", answer(image, path, *words))
        assert found is not None
        assert f"{found[0]}.".startswith(f"{wanted}." if wanted else "")


def test_the_proxy_is_compiled_of_the_version_that_its_tag_names() -> None:
    path = "usr/local/bin/kamal-proxy"
    with tarfile.open(layer_of("kamal-proxy", path)) as opened:
        program = opened.extractfile(path)
        assert program is not None
        assert b"github.com/basecamp/kamal-proxy\tv" + sandbox.KAMAL_PROXY.encode() + b"\t" in program.read()
    assert f"v{sandbox.KAMAL_PROXY}" in tags()["basecamp/kamal-proxy"]


def test_the_images_of_the_runner_have_the_version_that_their_tags_name_and_are_no_others() -> None:
    found = {
        tag: match["version"]
        for known in tags().values()
        for tag, image in known.items()
        if (match := RUNNER.fullmatch(image))
    }
    # What the tags say of a distribution is the official images': docs/sandbox.md tells what these are made on.
    offered = [package.partition("-")[0] for package in sandbox.GITLAB_RUNNERS]
    assert found == {f"{kind}-v{one}": one for kind in ("alpine", "x86_64") for one in offered}


def test_no_tag_promises_a_distribution_that_is_not_in_the_image() -> None:
    named = {part for _, tag, _ in EVERY_TAG for part in tag.split("-")}
    assert named & {"alpine", "bookworm", "bullseye", "windowsservercore", "rootless"} == set()


def test_every_image_that_the_program_names_is_there() -> None:
    registry, buildah = versions.BUILDAH_IMAGE.split("/", 1)
    assert registry == "quay.io"
    repository, _, tag = buildah.partition(":")
    assert tag in tags()[repository]
    assert {f"{versions.DOCKER}-cli", f"{versions.DOCKER}-dind"} <= tags()["library/docker"].keys()
    assert f"{versions.NODE}-slim" in tags()["library/node"]
    for name in (versions.PROXY_IMAGE, versions.TRIVY_IMAGE, versions.COSIGN_IMAGE.removeprefix("ghcr.io/")):
        repository, _, tag = name.partition(":")
        assert tag in tags()[repository]
