"""Images in the registry: that they are kept, and that their space comes back; and a bucket for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import boto3
import pydo

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


@contextmanager
def kept_image(outputs: Outputs, at_the_end: Callable[[], Outputs] | None = None) -> Iterator[tuple[str, str]]:
    """An image in a temporary project, with its digest; the project is deleted when the block ends.

    Pass `at_the_end` to read the outputs again for that, if the block recreates the installation.
    """
    with temporary_project(outputs, at_the_end) as path, Docker.session() as docker:
        image = f"{outputs.registry}/{path}:kept"
        docker.login(outputs.registry, outputs.user, outputs.password)
        docker.make_image(image)
        digest = docker.push(image)
        docker.forget(image)
        yield image, digest


def pulled(outputs: Outputs, image: str) -> str:
    """Pull an image and return its digest."""
    with Docker.session() as docker:
        docker.login(outputs.registry, outputs.user, outputs.password)
        digest = docker.pull(image)
        docker.forget(image)
        return digest


@contextmanager
def given_bucket(bucket: str = "given-to-the-stack") -> Iterator[dict[str, str]]:
    """A bucket outside the stack and a key for it, as the settings in `registry.s3` expect them."""
    api = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])
    key = api.spaces_key.create({"name": bucket, "grants": [{"bucket": "", "permission": "fullaccess"}]})["key"]
    endpoint = "https://fra1.digitaloceanspaces.com"
    client = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key["access_key"],
        aws_secret_access_key=key["secret_key"],
    )
    made = client.Bucket(bucket)

    def created() -> bool:
        # A new key is unknown to Spaces for some seconds.
        try:
            made.create()
        except client.meta.client.exceptions.ClientError as error:
            if "InvalidAccessKeyId" not in str(error):
                raise
            return False
        return True

    until(created, "Spaces knows the new key")
    try:
        yield {
            "bucket": bucket,
            "endpoint": endpoint,
            "region": "us-east-1",
            "accessKey": key["access_key"],
            "secretKey": key["secret_key"],
        }
    finally:
        made.objects.delete()
        made.delete()
        api.spaces_key.delete(access_key=key["access_key"])
