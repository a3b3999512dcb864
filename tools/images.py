"""A released image in another environment's registry, under the digest that it has.

`docker pull`, `tag` and `push` would give it another digest, because an engine writes its own manifest. `imagetools` of
Docker's buildx copies manifests and indexes as they are: all platforms, and the provenance in the image's index.
"""

from __future__ import annotations

import re

from tools.clients import FAILURES, CheckError, Docker, Outputs
from tools.progress import ToolError, say
from tools.verify import log_in


def copy_image(source: str, target: str, image: str) -> str:
    """Copy an image, such as `root/hello:latest`, from one stack's registry to the other's; returns its digest.

    The project has to exist in the target's GitLab. An image that has the tag there loses it.

    Raises:
        ToolError: `image` is no image of a project, it could not be copied, or the copy has another digest.
    """
    found = re.fullmatch(r"(?P<path>[^:@\s]+)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?", image)
    if not found or not (found["tag"] or found["digest"]):
        raise ToolError(f"{image} is not an image of a project. Give its path and tag, such as root/hello:latest")
    try:
        return _copied(Outputs.of_stack(source), Outputs.of_stack(target), *found.group("path", "tag", "digest"))
    except FAILURES as error:
        raise ToolError(f"{image} was not copied from {source} to {target}: {error}") from error


def _copied(source: Outputs, target: Outputs, path: str, tag: str | None, digest: str | None) -> str:
    with Docker.session() as docker:
        for one in (source, target):
            log_in(docker, one)
        name = f"{source.registry}/{path}"
        digest = digest or docker.digest_of(f"{name}:{tag}")
        say(f"{path}: copying {digest} from {source.registry} to {target.registry}")
        # Without a tag, the first digits of its digest are one: an image without tags is collected as garbage.
        copy = f"{target.registry}/{path}:{tag or digest.replace(':', '-')[:19]}"
        docker.copy(f"{name}@{digest}", copy)
        if (there := docker.digest_of(copy)) != digest:
            raise CheckError(f"it has the digest {there} there, not {digest}; do not deploy it")
        say(f"{copy}@{digest}")
    return digest
