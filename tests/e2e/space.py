"""Space that comes back: what the registry's garbage collector frees after a tag was deleted."""

from __future__ import annotations

from tools.clients import Docker, Outputs, stored, temporary_project
from tools.pipelines import until

#: Bytes of the image that `Docker.make_image` makes.
_IMAGE = 1 << 20


def assert_space_comes_back(outputs: Outputs) -> None:
    """Push an image, delete its tag through GitLab, and wait until the storage has shrunk by the image."""
    with temporary_project(outputs) as path, Docker.session() as docker:
        image = f"{outputs.registry}/{path}:freed"
        docker.login(outputs.registry, outputs.user, outputs.password)
        docker.make_image(image)
        docker.push(image)
        docker.forget(image)
        full = stored(outputs).size
        [repository] = outputs.gitlab().projects.get(path).repositories.list(get_all=True)
        repository.tags.delete("freed")
        until(lambda: stored(outputs).size <= full - _IMAGE, "the storage is smaller by the image")
