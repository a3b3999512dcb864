"""The sandbox's own control interface, beside the API: what exists, how long actions take, which faults to inject."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import (
    Account,
    Action,
    AlertPolicy,
    DatabaseCluster,
    Domain,
    DomainRecord,
    Droplet,
    Firewall,
    KubernetesCluster,
    Mail,
    NodePool,
    Project,
    Record,
    ReservedIp,
    SlackMessage,
    Snapshot,
    SpacesKey,
    SshKey,
    Tag,
    UptimeAlert,
    UptimeCheck,
    Volume,
    Vpc,
)
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.transitions import TransitionTable
from tests.sandbox.gitlab.web import faults

#: What an account can hold, by the name that the list uses.
RESOURCES: dict[str, type[Record]] = {
    "ssh_keys": SshKey,
    "droplets": Droplet,
    "volumes": Volume,
    "databases": DatabaseCluster,
    "reserved_ips": ReservedIp,
    "snapshots": Snapshot,
    "firewalls": Firewall,
    "vpcs": Vpc,
    "domains": Domain,
    "domain_records": DomainRecord,
    "tags": Tag,
    "projects": Project,
    "spaces_keys": SpacesKey,
    "uptime_checks": UptimeCheck,
    "uptime_alerts": UptimeAlert,
    "alert_policies": AlertPolicy,
    "kubernetes_clusters": KubernetesCluster,
    "kubernetes_node_pools": NodePool,
}
M = TypeVar("M", bound=BaseModel)


def is_built_in(record: Record) -> bool:
    """Whether the service creates it by itself and never deletes it: default VPCs and the default project.

    A snapshot that was deleted is remembered, too.
    """
    if isinstance(record, Snapshot):
        return record.status == "deleted"
    return (isinstance(record, Vpc) and record.default) or (isinstance(record, Project) and record.is_default)


def _cloud(request: Request) -> Cloud:
    cloud: Cloud = request.app.state.cloud
    return cloud


async def _read(request: Request, model: type[M]) -> M | Response:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        return JSONResponse({"errors": wrong}, status_code=422)


async def health(request: Request) -> Response:
    """Whether the firewalls are in force, and how much is under way."""
    cloud = _cloud(request)
    return JSONResponse(
        {
            "status": "ok" if cloud.network.settled else "degraded" if cloud.network.failed else "busy",
            "actions_in_progress": len(cloud.store.where(Action, status="in-progress")),
        }
    )


async def reset(request: Request) -> Response:
    """Stop everything under way, remove everything that exists, forget everything that was logged."""
    cloud = _cloud(request)
    await cloud.stop()
    await cloud.backend.reset()
    cloud.store.wipe()
    await cloud.start()
    await cloud.network.in_force()
    return Response(status_code=204)


async def resources(request: Request) -> Response:
    """Everything that exists now, without secrets and without what the service makes by itself."""
    cloud = _cloud(request)
    found: dict[str, list[Any]] = {}
    for name, model in RESOURCES.items():
        records = [record for record in cloud.store.all(model) if not is_built_in(record)]
        found[name] = [record.model_dump(exclude=set(record.secret_fields)) for record in records]
    buckets = await cloud.backend.spaces_buckets()
    found["buckets"] = [{"name": name, "region": region} for name, region in sorted(buckets.items())]
    return JSONResponse(found)


async def show_transitions(request: Request) -> Response:
    """How long things take."""
    return JSONResponse(_cloud(request).transitions.table.model_dump())


async def change_transitions(request: Request) -> Response:
    """Replace the whole table; what was held and no longer is goes on."""
    table = await _read(request, TransitionTable)
    if isinstance(table, Response):
        return table
    _cloud(request).transitions.table = table
    return JSONResponse(table.model_dump())


async def list_requests(request: Request) -> Response:
    """The log of the API's requests, from after entry `after`."""
    after = request.query_params.get("after", "0")
    return JSONResponse(_cloud(request).store.requests(int(after) if after.isdigit() else 0))


async def list_gaps(request: Request) -> Response:
    """What was asked for and is lacking."""
    return JSONResponse(_cloud(request).store.gaps())


async def list_notifications(request: Request) -> Response:
    """What people got: mails of the service, and messages in Slack, oldest first."""
    store = _cloud(request).store
    kinds: dict[str, type[Record]] = {"mail": Mail, "slack": SlackMessage}
    return JSONResponse({name: [one.model_dump() for one in store.all(kind)] for name, kind in kinds.items()})


async def show_account(request: Request) -> Response:
    """What the account is like."""
    return JSONResponse(_cloud(request).account.model_dump())


async def change_account(request: Request) -> Response:
    """Replace what the account is like: its limit, its standing, the scopes of its token."""
    account = await _read(request, Account)
    if isinstance(account, Response):
        return account
    _cloud(request).account = account
    return JSONResponse(account.model_dump())


def create_control_app(api: Starlette) -> Starlette:
    """The control interface of an API that `app.create_app` made."""
    app = Starlette(
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/reset", reset, methods=["POST"]),
            Route("/resources", resources, methods=["GET"]),
            Route("/notifications", list_notifications, methods=["GET"]),
            Route("/account", show_account, methods=["GET"]),
            Route("/account", change_account, methods=["PUT"]),
            Route("/transitions", show_transitions, methods=["GET"]),
            Route("/transitions", change_transitions, methods=["PUT"]),
            *faults.FAULT_ROUTES,
            Route("/requests", list_requests, methods=["GET"]),
            Route("/spaces/requests", faults.list_requests, methods=["GET"]),
            Route("/gaps", list_gaps, methods=["GET"]),
        ]
    )
    app.state.cloud = api.state.cloud
    app.state.faults = api.state.faults
    return app
