"""The files of builders in jobs on Kubernetes: each is a ConfigMap of its own, which is mounted in one place.

GitLab Runner names the volume of a ConfigMap like the ConfigMap, and Kubernetes refuses a pod with two volumes of one
name. So what is needed in two places is there twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from components.rendering import render, script
from components.settings import Builder


@dataclass(frozen=True)
class MountedFile:
    """A file, which is the only key of the ConfigMap `name`.

    With `in_registry`, `path` is a folder, and the file has that name in one of its folders, named like the registry.
    """

    name: str
    key: str
    content: str
    path: str
    in_registry: str = ""


def builder_files(builder: Builder, mirror: str | None, authority: str | None) -> tuple[MountedFile, ...]:
    """Return what the containers of each job have. `authority` is the certificate of a private one."""
    return tuple(_files(builder, mirror, authority))


def _files(builder: Builder, mirror: str | None, authority: str | None) -> Iterator[MountedFile]:
    if builder is Builder.BUILDAH:
        registries = render("registries.conf.j2", registry_mirror=mirror)
        yield MountedFile("builder-registries", "registries.conf", registries, "/etc/containers/registries.conf")
        storage = script("runner/storage.conf")
        yield MountedFile("builder-storage", "storage.conf", storage, "/etc/containers/storage.conf")
    if authority:
        # Docker, or Buildah, reads it. The folder has a colon in its name, which the path of a mount must not have.
        yield MountedFile("builder-authority", "authority.crt", authority, "/etc/docker/certs.d", "ca.crt")
    if authority and builder is Builder.DOCKER:
        # The client, when it talks to the registry itself, reads this one, next to the system's own certificates.
        path = "/etc/ssl/certs/slipway-authority.pem"
        yield MountedFile("builder-client-authority", "authority.crt", authority, path)
