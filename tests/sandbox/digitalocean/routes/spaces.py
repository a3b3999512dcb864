"""/v2/spaces/keys."""

from __future__ import annotations

import secrets
import string

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Grant, SpacesKey, now
from tests.sandbox.digitalocean.routes.common import (
    Body,
    answer,
    body_of,
    cloud_of,
    find,
    no_content,
    page,
    succeeded,
)
from tests.sandbox.digitalocean.routes.views import spaces_key_json
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import BadRequest, CannotMixFullAccess

PERMISSIONS = ("read", "readwrite", "fullaccess")
_ALPHABET = string.ascii_uppercase + string.digits


class KeyBody(Body):
    name: str = ""
    grants: list[Grant] | None = None


async def _check(cloud: Cloud, body: KeyBody) -> list[Grant]:
    """The grants, if they can be given."""
    if not body.name:
        raise BadRequest("name is required")
    grants = body.grants or []
    for grant in grants:
        if grant.permission not in PERMISSIONS:
            raise BadRequest(f"invalid permission {grant.permission!r}: must be one of {', '.join(PERMISSIONS)}")
        if (grant.permission == "fullaccess") != (not grant.bucket):
            raise BadRequest("fullaccess takes no bucket, and any other permission takes one")
    if len({grant.permission == "fullaccess" for grant in grants}) > 1:
        raise CannotMixFullAccess
    buckets = await cloud.backend.spaces_buckets()
    if missing := [grant.bucket for grant in grants if grant.bucket and grant.bucket not in buckets]:
        raise BadRequest(f"bucket {missing[0]} does not exist")
    return grants


async def list_keys(request: Request) -> Response:
    keys = cloud_of(request).store.all(SpacesKey)
    query = request.query_params
    if (name := query.get("name")) is not None:
        keys = [key for key in keys if key.name == name]
    if (bucket := query.get("bucket")) is not None:
        keys = [key for key in keys if any(grant.bucket == bucket for grant in key.grants)]
    if (permission := query.get("permission")) is not None:
        keys = [key for key in keys if any(grant.permission == permission for grant in key.grants)]
    return page(request, "keys", keys, spaces_key_json)


async def create_key(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, KeyBody)
    key = SpacesKey(
        access_key="DO00" + "".join(secrets.choice(_ALPHABET) for _ in range(16)),
        secret_key=secrets.token_urlsafe(32).replace("-", "x").replace("_", "y"),
        name=body.name,
        grants=await _check(cloud, body),
        created_at=now(),
    )
    cloud.store.put(key)
    if after := cloud.config.spaces_key_seconds:
        cloud.act("spaces_key.put", key, type_="put", public=False, params={"after": after})
    else:
        await _apply(cloud, key)
    return answer({"key": spaces_key_json(key, with_secret=True)}, 201)


async def _apply(cloud: Cloud, key: SpacesKey) -> None:
    succeeded(await cloud.finished(cloud.act("spaces_key.put", key, type_="put", public=False)))


def _find(request: Request) -> SpacesKey:
    return find(request, SpacesKey, request.path_params["access_key"])


async def show_key(request: Request) -> Response:
    return answer({"key": spaces_key_json(_find(request))})


async def change_key(request: Request) -> Response:
    """PUT states everything; PATCH may leave out the grants or the name."""
    cloud, present = cloud_of(request), _find(request)
    body = await body_of(request, KeyBody)
    if request.method == "PATCH":
        body.name = body.name or present.name
        body.grants = body.grants if body.grants is not None else present.grants
    grants = await _check(cloud, body)
    # The check took a moment: the key may be gone by now.
    key = _find(request)
    key.name, key.grants = body.name, grants
    cloud.store.put(key)
    await _apply(cloud, key)
    return answer({"key": spaces_key_json(key)})


async def delete_key(request: Request) -> Response:
    cloud, key = cloud_of(request), _find(request)
    succeeded(await cloud.finished(cloud.act("spaces_key.delete", key, type_="delete", public=False)))
    return no_content()


ROUTES = [
    Route("/v2/spaces/keys", list_keys, methods=["GET"]),
    Route("/v2/spaces/keys", create_key, methods=["POST"]),
    Route("/v2/spaces/keys/{access_key}", show_key, methods=["GET"]),
    Route("/v2/spaces/keys/{access_key}", change_key, methods=["PUT", "PATCH"]),
    Route("/v2/spaces/keys/{access_key}", delete_key, methods=["DELETE"]),
]
