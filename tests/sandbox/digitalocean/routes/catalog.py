"""/v2/regions, /v2/sizes and /v2/images: what the service offers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Snapshot
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, no_content, page, unsupported
from tests.sandbox.digitalocean.routes.snapshots import find_snapshot, remove_snapshot
from tests.sandbox.digitalocean.routes.views import image_json, private_image_json, region_json, size_json


class NewName(Body):
    name: str | None = None


async def list_regions(request: Request) -> Response:
    cloud = cloud_of(request)
    return page(request, "regions", list(cloud.catalog.regions.values()), lambda region: region_json(cloud, region))


async def list_sizes(request: Request) -> Response:
    return page(request, "sizes", list(cloud_of(request).catalog.sizes.values()), size_json)


async def list_images(request: Request) -> Response:
    cloud = cloud_of(request)
    images = list(cloud.catalog.images.values())
    # All public images are base images: there are no applications. Those of the account are snapshots.
    query = request.query_params
    if query.get("type", "distribution") != "distribution" or query.get("private") == "true" or "tag_name" in query:
        images = []
    found = [image_json(cloud, image) for image in images]
    if "type" not in query and "tag_name" not in query:
        found += [private_image_json(one) for one in cloud.store.where(Snapshot, status="available")]
    return page(request, "images", found, lambda image: image)


def _private(request: Request) -> Snapshot:
    return find_snapshot(request, request.path_params["image"])


async def show_image(request: Request) -> Response:
    image = cloud_of(request).catalog.image(request.path_params["image"])
    if image is not None:
        return answer({"image": image_json(cloud_of(request), image)})
    return answer({"image": private_image_json(_private(request))})


async def rename_image(request: Request) -> Response:
    """Only the account's own have a name that can change."""
    body = await body_of(request, NewName)
    snapshot = _private(request)
    if body.name is not None:
        snapshot.name = body.name
        cloud_of(request).store.put(snapshot)
    return answer({"image": private_image_json(snapshot)})


async def delete_image(request: Request) -> Response:
    remove_snapshot(cloud_of(request), _private(request))
    return no_content()


ROUTES = [
    Route("/v2/regions", list_regions, methods=["GET"]),
    Route("/v2/sizes", list_sizes, methods=["GET"]),
    Route("/v2/images", list_images, methods=["GET"]),
    Route("/v2/images", unsupported("custom images"), methods=["POST"]),
    Route("/v2/images/{image}", show_image, methods=["GET"]),
    Route("/v2/images/{image}", rename_image, methods=["PUT"]),
    Route("/v2/images/{image}", delete_image, methods=["DELETE"]),
    Route("/v2/images/{image}/actions", unsupported("transfer of images to other regions"), methods=["GET", "POST"]),
]
