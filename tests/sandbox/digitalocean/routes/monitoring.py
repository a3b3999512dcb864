"""/v2/monitoring/alerts: alert policies on metrics of droplets, and on those of databases, which are not measured."""

from __future__ import annotations

import re
import uuid
from typing import Literal

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import AlertPolicy, DatabaseCluster, Droplet, Incident, Notifications
from tests.sandbox.digitalocean.routes.common import Body, answer, cloud_of, find, gap, json_of, no_content, page
from tests.sandbox.digitalocean.routes.uptime import field_name, invalid, require_verified, with_lists
from tests.sandbox.digitalocean.state.errors import ServerError

#: Metrics that the emulator measures. Those of load balancers and pools have nothing to measure here.
MEASURED = (
    "v1/insights/droplet/load_1",
    "v1/insights/droplet/load_5",
    "v1/insights/droplet/load_15",
    "v1/insights/droplet/memory_utilization_percent",
    "v1/insights/droplet/disk_utilization_percent",
)
#: Metrics of databases: a policy on one is kept, and as long as there is no data, it neither fires nor ends.
OF_DATABASES = frozenset(
    f"v1/dbaas/alerts/{name}"
    for name in ("load_15_alerts", "cpu_alerts", "memory_utilization_alerts", "disk_utilization_alerts")
)
_OTHERS = re.compile(
    r"v1/insights/droplet/(cpu|disk_read|disk_write|(public|private)_(in|out)bound_bandwidth)"
    r"|v1/insights/lbaas/.+|v1/droplet/autoscale_alerts/.+"
)


class PolicyBody(Body):
    type: str
    description: str
    compare: Literal["GreaterThan", "LessThan"]
    value: float
    window: Literal["5m", "10m", "30m", "1h"]
    entities: list[str]
    tags: list[str]
    alerts: Notifications
    enabled: bool


async def _body(request: Request) -> PolicyBody:
    content = await json_of(request)
    # What the program leaves out reaches the service as an empty list, and as null where there is no such list.
    content |= {name: content.get(name) or [] for name in ("entities", "tags")}
    if isinstance(channels := content.get("alerts"), dict):
        content["alerts"] = with_lists(channels)
    try:
        body = PolicyBody.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise invalid(field_name(first["loc"]), first["msg"]) from error
    _require_possible(request, body)
    return body


def _require_possible(request: Request, body: PolicyBody) -> None:
    cloud = cloud_of(request)
    if body.type not in MEASURED and body.type not in OF_DATABASES:
        if _OTHERS.fullmatch(body.type):
            raise gap(request, "alert policies on other metrics than load, memory and disk of droplets")
        raise invalid("type", f"invalid type '{body.type}'")
    if not body.alerts.email and not body.alerts.slack:
        # As digitalocean/doctl#1006 reports it.
        raise ServerError("Server Error")
    # That an address has to be verified is documented for the control panel; the words are those of uptime alerts.
    require_verified(cloud, body.alerts, "alerts")
    kind = DatabaseCluster if body.type in OF_DATABASES else Droplet
    for place, entity in enumerate(body.entities):
        if cloud.store.get(kind, entity) is None:
            raise invalid(f"entities[{place}]", f"invalid entity '{entity}'")


def policy_json(policy: AlertPolicy) -> dict[str, object]:
    """A policy."""
    return policy.model_dump()


async def list_policies(request: Request) -> Response:
    return page(request, "policies", cloud_of(request).store.all(AlertPolicy), policy_json)


async def create_policy(request: Request) -> Response:
    """Create a policy: 200, not 201."""
    policy = AlertPolicy(uuid=str(uuid.uuid4()), **(await _body(request)).model_dump())
    cloud_of(request).store.put(policy)
    return answer({"policy": policy_json(policy)})


async def show_policy(request: Request) -> Response:
    return answer({"policy": policy_json(find(request, AlertPolicy, request.path_params["alert_uuid"]))})


async def change_policy(request: Request) -> Response:
    policy = find(request, AlertPolicy, request.path_params["alert_uuid"])
    changed = AlertPolicy(uuid=policy.uuid, **(await _body(request)).model_dump())
    cloud_of(request).store.put(changed)
    return answer({"policy": policy_json(changed)})


async def delete_policy(request: Request) -> Response:
    cloud = cloud_of(request)
    policy = find(request, AlertPolicy, request.path_params["alert_uuid"])
    with cloud.store.transaction():
        for incident in cloud.store.where(Incident, alert=policy.uuid):
            cloud.store.delete(incident)
        cloud.store.delete(policy)
    return no_content()


_POLICY = "/v2/monitoring/alerts/{alert_uuid}"
ROUTES = [
    Route("/v2/monitoring/alerts", list_policies, methods=["GET"]),
    Route("/v2/monitoring/alerts", create_policy, methods=["POST"]),
    Route(_POLICY, show_policy, methods=["GET"]),
    Route(_POLICY, change_policy, methods=["PUT"]),
    Route(_POLICY, delete_policy, methods=["DELETE"]),
]
