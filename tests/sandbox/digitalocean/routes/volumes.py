"""/v2/volumes and their actions."""

from __future__ import annotations

import re
import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Action, Droplet, Volume, now
from tests.sandbox.digitalocean.routes.actions import list_for, show_for
from tests.sandbox.digitalocean.routes.common import (
    Body,
    answer,
    body_of,
    cloud_of,
    find,
    gap,
    no_content,
    page,
    succeeded,
    unsupported,
)
from tests.sandbox.digitalocean.routes.views import action_json, volume_json
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import (
    AttachmentNotFound,
    NotFound,
    PendingEvent,
    Unprocessable,
    VolumeAttached,
    VolumeLimit,
    VolumeNameTaken,
)
from tests.sandbox.digitalocean.state.projects import join_default_project
from tests.sandbox.digitalocean.state.tagging import ensure_tags, note_tagged, uri_of

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
LARGEST_GIB = 16384
#: Longest label by filesystem.
LABELS = {"ext4": 16, "xfs": 12}
VOLUMES_ON_A_DROPLET = 15


class NewVolume(Body):
    name: str = ""
    region: str | None = None
    size_gigabytes: int | None = None
    description: str | None = None
    filesystem_type: str | None = None
    filesystem_label: str | None = None
    snapshot_id: str | None = None
    tags: list[str] | None = None


class NewAction(Body):
    type: str | None = None
    droplet_id: int | None = None
    volume_name: str | None = None
    size_gigabytes: int | None = None
    region: str | None = None


def _check(cloud: Cloud, body: NewVolume) -> tuple[str, int]:
    """Region and size of a new volume, if it can be made."""
    if not _NAME.fullmatch(body.name):
        raise Unprocessable(
            "name must be lowercase and be composed only of numbers, letters and dashes, up to a limit of 64"
            " characters, and must begin with a letter"
        )
    region = cloud.catalog.regions.get(body.region or "")
    if region is None or not region.available:
        raise Unprocessable("region does not exist or does not support storage")
    if body.size_gigabytes is None or not 1 <= body.size_gigabytes <= LARGEST_GIB:
        raise Unprocessable(f"size_gigabytes must be between 1 and {LARGEST_GIB}")
    if body.filesystem_type and body.filesystem_type not in LABELS:
        raise Unprocessable("filesystem_type must be ext4 or xfs")
    if body.filesystem_label and not body.filesystem_type:
        raise Unprocessable("filesystem_label may only be used in conjunction with filesystem_type")
    if len(body.filesystem_label or "") > LABELS.get(body.filesystem_type or "", 0):
        raise Unprocessable("filesystem_label is too long")
    if cloud.store.where(Volume, name=body.name, region=region.slug):
        raise VolumeNameTaken
    # An account with a limit of 0 has none.
    if 0 < cloud.volume_limit <= len(cloud.store.all(Volume)):
        raise VolumeLimit
    return region.slug, body.size_gigabytes


async def create_volume(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, NewVolume)
    if body.snapshot_id:
        raise gap(request, "volumes from snapshots")
    region, size = _check(cloud, body)
    with cloud.store.transaction():
        tags = ensure_tags(cloud, body.tags or [])
        volume = Volume(
            id=str(uuid.uuid4()),
            name=body.name,
            region=region,
            size_gigabytes=size,
            description=body.description or "",
            filesystem_type=body.filesystem_type or "",
            filesystem_label=body.filesystem_label or "",
            tags=tags,
            created_at=now(),
        )
        cloud.store.put(volume)
        plural, uri = uri_of(str(request.base_url).rstrip("/"), volume)
        note_tagged(cloud, tags, plural, uri)
        join_default_project(cloud, volume.urn)
        action = cloud.act("volume.create", volume, type_="create", region=region, public=False)
    ended = await cloud.finished(action)
    if ended.status != "completed":
        cloud.store.delete(volume)
    succeeded(ended)
    return answer({"volume": volume_json(cloud, volume)}, 201)


def _filtered(request: Request) -> list[Volume]:
    volumes = cloud_of(request).store.all(Volume)
    query = request.query_params
    if (name := query.get("name")) is not None:
        volumes = [volume for volume in volumes if volume.name == name]
    if (region := query.get("region")) is not None:
        volumes = [volume for volume in volumes if volume.region == region]
    if (tag := query.get("tag_name")) is not None:
        volumes = [volume for volume in volumes if tag in volume.tags]
    return volumes


async def list_volumes(request: Request) -> Response:
    cloud = cloud_of(request)
    return page(request, "volumes", _filtered(request), lambda volume: volume_json(cloud, volume))


async def show_volume(request: Request) -> Response:
    volume = find(request, Volume, request.path_params["volume_id"])
    return answer({"volume": volume_json(cloud_of(request), volume)})


async def _delete(cloud: Cloud, volume: Volume) -> Response:
    if volume.droplet_id is not None:
        raise VolumeAttached
    if cloud.pending_for(volume):
        raise PendingEvent("Volume already has a pending event.")
    succeeded(
        await cloud.finished(cloud.act("volume.delete", volume, type_="delete", region=volume.region, public=False))
    )
    return no_content()


async def delete_volume(request: Request) -> Response:
    return await _delete(cloud_of(request), find(request, Volume, request.path_params["volume_id"]))


async def delete_by_name(request: Request) -> Response:
    if not {"name", "region"} <= request.query_params.keys():
        raise Unprocessable("name and region are required")
    found = _filtered(request)
    if not found:
        raise NotFound
    return await _delete(cloud_of(request), found[0])


def _attach(cloud: Cloud, volume: Volume, body: NewAction) -> Action:
    droplet = cloud.store.get(Droplet, body.droplet_id or 0)
    if droplet is None:
        raise NotFound
    if droplet.region != volume.region:
        raise Unprocessable("Droplet and Volume must be in the same region")
    if volume.droplet_id is not None:
        raise Unprocessable("This volume is already attached to a Droplet")
    if cloud.pending(droplet) or cloud.pending_for(volume):
        raise PendingEvent
    if len(cloud.store.where(Volume, droplet_id=droplet.id)) >= VOLUMES_ON_A_DROPLET:
        raise Unprocessable("Droplet already has the maximum number of volumes attached")
    return cloud.act("volume.attach", volume, type_="attach_volume", region=volume.region, droplet_id=droplet.id)


def _detach(cloud: Cloud, volume: Volume, body: NewAction) -> Action:
    if body.droplet_id is None or volume.droplet_id != body.droplet_id:
        raise AttachmentNotFound
    droplet = cloud.store.get(Droplet, body.droplet_id)
    if (droplet and cloud.pending(droplet)) or cloud.pending_for(volume):
        raise PendingEvent
    return cloud.act("volume.detach", volume, type_="detach_volume", region=volume.region, droplet_id=body.droplet_id)


def _resize(cloud: Cloud, volume: Volume, body: NewAction) -> Action:
    size = body.size_gigabytes
    if size is None or size > LARGEST_GIB:
        raise Unprocessable(f"size_gigabytes is required and may be at most {LARGEST_GIB}")
    if size <= volume.size_gigabytes:
        raise Unprocessable("Volumes can only be resized to a larger size")
    droplet = cloud.store.get(Droplet, volume.droplet_id) if volume.droplet_id is not None else None
    if (droplet and cloud.pending(droplet)) or cloud.pending_for(volume):
        raise PendingEvent
    return cloud.act(
        "volume.resize",
        volume,
        type_="resize",
        region=volume.region,
        droplet_id=volume.droplet_id,
        params={"size_gigabytes": size},
    )


BEGIN = {"attach": _attach, "detach": _detach, "resize": _resize}


def _begin(cloud: Cloud, volume: Volume, body: NewAction) -> Response:
    begin = BEGIN.get(body.type or "")
    if begin is None:
        raise Unprocessable("type must be attach, detach or resize")
    if body.region is not None and body.region != volume.region:
        raise Unprocessable("region does not match the region of the volume")
    return answer({"action": action_json(cloud, begin(cloud, volume, body))}, 202)


async def create_action(request: Request) -> Response:
    volume = find(request, Volume, request.path_params["volume_id"])
    return _begin(cloud_of(request), volume, await body_of(request, NewAction))


async def create_action_by_name(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, NewAction)
    found = cloud.store.where(Volume, name=body.volume_name, region=body.region)
    if not found:
        raise NotFound
    return _begin(cloud, found[0], body)


async def list_snapshots(request: Request) -> Response:
    """Nothing: no volume here has any."""
    find(request, Volume, request.path_params["volume_id"])
    nothing: list[dict[str, Any]] = []
    return page(request, "snapshots", nothing, lambda item: item)


async def list_actions(request: Request) -> Response:
    return list_for(request, find(request, Volume, request.path_params["volume_id"]))


async def show_action(request: Request) -> Response:
    return show_for(request, find(request, Volume, request.path_params["volume_id"]))


ROUTES = [
    Route("/v2/volumes", list_volumes, methods=["GET"]),
    Route("/v2/volumes", create_volume, methods=["POST"]),
    Route("/v2/volumes", delete_by_name, methods=["DELETE"]),
    Route("/v2/volumes/actions", create_action_by_name, methods=["POST"]),
    Route("/v2/volumes/{volume_id}", show_volume, methods=["GET"]),
    Route("/v2/volumes/{volume_id}", delete_volume, methods=["DELETE"]),
    Route("/v2/volumes/{volume_id}/snapshots", list_snapshots, methods=["GET"]),
    Route("/v2/volumes/{volume_id}/snapshots", unsupported("snapshots of volumes"), methods=["POST"]),
    Route("/v2/volumes/{volume_id}/actions", list_actions, methods=["GET"]),
    Route("/v2/volumes/{volume_id}/actions", create_action, methods=["POST"]),
    Route("/v2/volumes/{volume_id}/actions/{action_id:int}", show_action, methods=["GET"]),
]
