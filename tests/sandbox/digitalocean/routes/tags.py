"""/v2/tags and the resources that carry them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import DatabaseCluster, Droplet, Firewall, Tag, Volume
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, find, gap, no_content, page
from tests.sandbox.digitalocean.routes.views import tag_json
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import NotFound, Unprocessable
from tests.sandbox.digitalocean.state.tagging import Tagged, ensure_tags, note_tagged, uri_of

LACKING = frozenset({"image", "volume_snapshot", "kubernetes", "load_balancer"})


class NewTag(Body):
    name: str = ""


class Resource(Body):
    resource_id: str | int
    resource_type: str


class Resources(Body):
    resources: list[Resource]


async def list_tags(request: Request) -> Response:
    cloud = cloud_of(request)
    return page(request, "tags", cloud.store.all(Tag), lambda tag: tag_json(cloud, tag))


async def create_tag(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, NewTag)
    # Making a tag that exists is fine.
    [name] = ensure_tags(cloud, [body.name])
    tag = cloud.store.get(Tag, name.lower()) or Tag(name=name)
    return answer({"tag": tag_json(cloud, tag)}, 201)


def _find(request: Request) -> Tag:
    return find(request, Tag, request.path_params["name"].lower())


async def show_tag(request: Request) -> Response:
    return answer({"tag": tag_json(cloud_of(request), _find(request))})


async def delete_tag(request: Request) -> Response:
    cloud, tag = cloud_of(request), _find(request)
    with cloud.store.transaction():
        carriers: list[Tagged] = [
            *cloud.store.all(Droplet),
            *cloud.store.all(Volume),
            *cloud.store.all(DatabaseCluster),
        ]
        for thing in carriers:
            if tag.name in thing.tags:
                thing.tags = [name for name in thing.tags if name != tag.name]
                cloud.store.put(thing)
        for firewall in cloud.store.all(Firewall):
            _forget(cloud, firewall, tag.name)
        cloud.store.delete(tag)
    cloud.network.changed()
    return no_content()


def _forget(cloud: Cloud, firewall: Firewall, name: str) -> None:
    mentions = [firewall.tags, *(rule.target.tags for rule in (*firewall.inbound, *firewall.outbound))]
    if any(name in names for names in mentions):
        for names in mentions:
            names[:] = [other for other in names if other != name]
        cloud.store.put(firewall)


def _resource(request: Request, resource: Resource) -> Tagged:
    store = cloud_of(request).store
    if resource.resource_type in LACKING:
        raise gap(request, f"tags on {resource.resource_type}")
    models: dict[str, type[Tagged]] = {"droplet": Droplet, "volume": Volume, "database": DatabaseCluster}
    model = models.get(resource.resource_type)
    if model is None:
        raise Unprocessable(f"invalid resource type {resource.resource_type!r}")
    found = store.get(model, resource.resource_id)
    if found is None:
        raise NotFound
    return found


async def change_resources(request: Request) -> Response:
    """POST tags, DELETE takes the tag off."""
    cloud, tag = cloud_of(request), _find(request)
    body = await body_of(request, Resources)
    things = [_resource(request, resource) for resource in body.resources]
    with cloud.store.transaction():
        for thing in things:
            others = [name for name in thing.tags if name != tag.name]
            thing.tags = others if request.method == "DELETE" else [*others, tag.name]
            cloud.store.put(thing)
            if request.method == "POST":
                plural, uri = uri_of(str(request.base_url).rstrip("/"), thing)
                note_tagged(cloud, [tag.name], plural, uri)
    cloud.network.changed()
    return no_content()


ROUTES = [
    Route("/v2/tags", list_tags, methods=["GET"]),
    Route("/v2/tags", create_tag, methods=["POST"]),
    Route("/v2/tags/{name}", show_tag, methods=["GET"]),
    Route("/v2/tags/{name}", delete_tag, methods=["DELETE"]),
    Route("/v2/tags/{name}/resources", change_resources, methods=["POST", "DELETE"]),
]
