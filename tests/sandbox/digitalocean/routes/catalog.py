"""/v2/regions, /v2/sizes and /v2/images: what the service offers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.routes.common import answer, cloud_of, page, unsupported
from tests.sandbox.digitalocean.routes.views import image_json, region_json, size_json
from tests.sandbox.digitalocean.state.errors import NotFound


async def list_regions(request: Request) -> Response:
    cloud = cloud_of(request)
    return page(request, "regions", list(cloud.catalog.regions.values()), lambda region: region_json(cloud, region))


async def list_sizes(request: Request) -> Response:
    return page(request, "sizes", list(cloud_of(request).catalog.sizes.values()), size_json)


async def list_images(request: Request) -> Response:
    cloud = cloud_of(request)
    images = list(cloud.catalog.images.values())
    # All offered images are public base images: there are no applications and no private ones.
    query = request.query_params
    if query.get("type", "distribution") != "distribution" or query.get("private") == "true" or "tag_name" in query:
        images = []
    return page(request, "images", images, lambda image: image_json(cloud, image))


async def show_image(request: Request) -> Response:
    image = cloud_of(request).catalog.image(request.path_params["image"])
    if image is None:
        raise NotFound
    return answer({"image": image_json(cloud_of(request), image)})


ROUTES = [
    Route("/v2/regions", list_regions, methods=["GET"]),
    Route("/v2/sizes", list_sizes, methods=["GET"]),
    Route("/v2/images", list_images, methods=["GET"]),
    Route("/v2/images", unsupported("custom images"), methods=["POST"]),
    Route("/v2/images/{image}", show_image, methods=["GET"]),
    Route("/v2/images/{image}", unsupported("custom images"), methods=["PUT", "DELETE"]),
]
