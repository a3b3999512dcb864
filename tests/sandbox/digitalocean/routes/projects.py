"""/v2/projects and their resources."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Droplet, Project, ProjectMember, ReservedIp, now
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, gap, no_content, page
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    ProjectHasResources,
    ReservedIpFollowsDroplet,
    Unprocessable,
)
from tests.sandbox.digitalocean.state.projects import (
    OWNER_ID,
    default_project,
    find_resource,
    join_project,
    owner_uuid,
    project_of,
)

ENVIRONMENTS = ("Development", "Staging", "Production")
PURPOSES = (
    "Just trying out DigitalOcean",
    "Class project / Educational purposes",
    "Website or blog",
    "Web Application",
    "Service or API",
    "Mobile Application",
    "Machine learning / AI / Data processing",
    "IoT",
    "Operational / Developer tooling",
)
#: Plurals of the resource types that projects hold here.
PATHS = {
    "droplet": "droplets",
    "volume": "volumes",
    "dbaas": "databases",
    "domain": "domains",
    "floatingip": "floating_ips",
    "reservedip": "reserved_ips",
}
LACKING = frozenset({"app", "loadbalancer", "image"})


class ProjectBody(Body):
    name: str | None = None
    description: str | None = None
    purpose: str | None = None
    environment: str | None = None
    is_default: bool | None = None


class Resources(Body):
    resources: list[str]


def project_json(project: Project) -> dict[str, Any]:
    return project.model_dump()


def _find(request: Request) -> Project:
    cloud = cloud_of(request)
    wanted = request.path_params["project_id"]
    project = default_project(cloud) if wanted == "default" else cloud.store.get(Project, wanted)
    if project is None:
        raise NotFound
    return project


def _fill(cloud: Cloud, project: Project, body: ProjectBody) -> None:
    """Change what the body names. Raises Unprocessable or Conflict."""
    if body.name is not None:
        if not 1 <= len(body.name) <= 175:
            raise Unprocessable("name must have between 1 and 175 characters")
        if any(other.id != project.id for other in cloud.store.where(Project, name=body.name)):
            raise Conflict("name is already in use")
        project.name = body.name
    if body.description is not None:
        project.description = body.description
    if body.purpose is not None:
        project.purpose = body.purpose if body.purpose in PURPOSES else f"Other: {body.purpose}"
    if body.environment:
        wanted = body.environment.capitalize()
        if wanted not in ENVIRONMENTS:
            raise Unprocessable(f"environment must be one of {', '.join(ENVIRONMENTS)}")
        project.environment = wanted
    if len(project.description) > 255 or not 1 <= len(project.purpose) <= 255:
        raise Unprocessable("description and purpose may have at most 255 characters, and purpose must not be empty")
    project.updated_at = now()


def _put(cloud: Cloud, project: Project, is_default: bool | None) -> None:
    with cloud.store.transaction():
        if is_default and not project.is_default:
            former = default_project(cloud)
            former.is_default = False
            cloud.store.put(former)
            project.is_default = True
        cloud.store.put(project)


async def list_projects(request: Request) -> Response:
    cloud = cloud_of(request)
    default_project(cloud)
    return page(request, "projects", cloud.store.all(Project), project_json)


async def create_project(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, ProjectBody)
    if not body.name or not body.purpose:
        raise Unprocessable("name and purpose are required")
    moment = now()
    project = Project(
        id=str(uuid.uuid4()),
        owner_uuid=owner_uuid(cloud),
        owner_id=OWNER_ID,
        name=body.name,
        purpose=body.purpose,
        created_at=moment,
        updated_at=moment,
    )
    _fill(cloud, project, body)
    default_project(cloud)
    _put(cloud, project, is_default=False)
    return answer({"project": project_json(project)}, 201)


async def show_project(request: Request) -> Response:
    return answer({"project": project_json(_find(request))})


async def change_project(request: Request) -> Response:
    """PUT states everything, PATCH what is to change."""
    cloud, project = cloud_of(request), _find(request)
    body = await body_of(request, ProjectBody)
    if request.method == "PUT" and None in (
        body.name,
        body.description,
        body.purpose,
        body.environment,
        body.is_default,
    ):
        raise Unprocessable("name, description, purpose, environment and is_default are required")
    if body.is_default is False and project.is_default:
        raise Unprocessable("the default project can only be changed by making another one the default")
    _fill(cloud, project, body)
    _put(cloud, project, body.is_default)
    return answer({"project": project_json(project)})


async def delete_project(request: Request) -> Response:
    cloud, project = cloud_of(request), _find(request)
    if project.is_default:
        raise Forbidden("cannot delete the default project")
    if await _members(cloud, project):
        raise ProjectHasResources
    cloud.store.delete(project)
    return no_content()


async def _members(cloud: Cloud, project: Project) -> list[ProjectMember]:
    """What is in a project. Buckets that were never assigned are in the default project; deleted ones are in none."""
    buckets = {f"do:space:{name}" for name in await cloud.backend.spaces_buckets()}
    known = {member.urn: member for member in cloud.store.all(ProjectMember)}
    members = [member for member in known.values() if member.project_id == project.id]
    members = [m for m in members if not m.urn.startswith("do:space:") or m.urn in buckets]
    if project.is_default:
        members += [
            ProjectMember(urn=urn, project_id=project.id, assigned_at=project.created_at)
            for urn in sorted(buckets - known.keys())
        ]
    return members


def resource_json(request: Request, member: ProjectMember, status: str) -> dict[str, Any]:
    base = str(request.base_url).rstrip("/")
    _, type_, key = member.urn.split(":", 2)
    # A bucket has no address in this API; the real service names its endpoint.
    link = f"https://{key}.digitaloceanspaces.com" if type_ == "space" else f"{base}/v2/{PATHS[type_]}/{key}"
    return {"urn": member.urn, "assigned_at": member.assigned_at, "links": {"self": link}, "status": status}


async def list_resources(request: Request) -> Response:
    members = await _members(cloud_of(request), _find(request))
    return page(request, "resources", members, lambda member: resource_json(request, member, "ok"))


async def _check_urn(request: Request, urn: str) -> str:
    """A resource's name in the form that it is kept in. Raises BadRequest or NotFound."""
    cloud = cloud_of(request)
    parts = urn.split(":", 2)
    if len(parts) != 3 or parts[0] != "do" or not parts[2]:
        raise BadRequest(f"invalid urn {urn!r}")
    type_, key = parts[1].lower(), parts[2]
    if type_ in LACKING:
        raise gap(request, f"resources of type {type_} in projects")
    if type_ == "space":
        if key not in await cloud.backend.spaces_buckets():
            raise NotFound(f"resource {urn} not found")
        return f"do:space:{key}"
    if type_ not in PATHS:
        raise BadRequest(f"resources of type {type_!r} cannot be assigned to a project")
    if find_resource(cloud, type_, key) is None:
        raise NotFound(f"resource {urn} not found")
    # Reserved IPs go by their former name in projects.
    return f"do:floatingip:{key}" if type_ == "reservedip" else f"do:{type_}:{key}"


def _check_move(cloud: Cloud, urn: str, project: Project) -> None:
    """Refuse to part a reserved IP from its droplet."""
    ip = cloud.store.get(ReservedIp, urn.removeprefix("do:floatingip:"))
    droplet = cloud.store.get(Droplet, ip.droplet_id) if ip and ip.droplet_id is not None else None
    if droplet is not None and project_of(cloud, droplet.urn) != project.id:
        raise ReservedIpFollowsDroplet


def _take_along(cloud: Cloud, urn: str, project: Project) -> None:
    """Reserved IPs go where their droplet goes."""
    if urn.startswith("do:droplet:"):
        for ip in cloud.store.where(ReservedIp, droplet_id=int(urn.removeprefix("do:droplet:"))):
            join_project(cloud, ip.urn, project.id)


async def assign_resources(request: Request) -> Response:
    cloud = cloud_of(request)
    _find(request)
    body = await body_of(request, Resources)
    urns, answers = list[str](), list[dict[str, Any]]()
    for urn in body.resources:
        try:
            urns.append(await _check_urn(request, urn))
        except NotFound:
            # One entry of several: the others are moved all the same (public API document, resource status codes).
            answers.append({"urn": urn, "assigned_at": None, "links": {}, "status": "not_found"})
    # The checks took a moment: the project may be gone by now.
    project = _find(request)
    with cloud.store.transaction():
        # Droplets first: their reserved IPs follow them.
        for urn in sorted(dict.fromkeys(urns), key=lambda urn: not urn.startswith("do:droplet:")):
            _check_move(cloud, urn, project)
            present = cloud.store.get(ProjectMember, urn)
            if present and present.project_id == project.id:
                answers.append(resource_json(request, present, "already_assigned"))
            else:
                answers.append(resource_json(request, join_project(cloud, urn, project.id), "assigned"))
                _take_along(cloud, urn, project)
    return answer({"resources": answers})


ROUTES = [
    Route("/v2/projects", list_projects, methods=["GET"]),
    Route("/v2/projects", create_project, methods=["POST"]),
    Route("/v2/projects/{project_id}", show_project, methods=["GET"]),
    Route("/v2/projects/{project_id}", change_project, methods=["PUT", "PATCH"]),
    Route("/v2/projects/{project_id}", delete_project, methods=["DELETE"]),
    Route("/v2/projects/{project_id}/resources", list_resources, methods=["GET"]),
    Route("/v2/projects/{project_id}/resources", assign_resources, methods=["POST"]),
]
