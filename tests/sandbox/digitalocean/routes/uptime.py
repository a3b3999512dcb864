"""/v2/uptime: checks and their alerts.

A wrong field is answered with 400 and `invalid value for field '…': …`. That form, and the words about an address that
is not verified, are known (digitalocean/openapi#830); those about other fields are not.
"""

from __future__ import annotations

import uuid
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import CheckState, Incident, Notifications, UptimeAlert, UptimeCheck
from tests.sandbox.digitalocean.routes.common import Body, answer, cloud_of, find, json_of, no_content, page
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import BadRequest, NotFound

B = TypeVar("B", bound=Body)
#: The condition of these types has a number.
_WITH_THRESHOLD = ("latency", "ssl_expiry")


class CheckBody(Body):
    name: str
    type: Literal["ping", "http", "https"]
    target: str
    regions: list[Literal["us_east", "us_west", "eu_west", "se_asia"]]
    enabled: bool


class AlertBody(Body):
    name: str
    type: Literal["latency", "down", "down_global", "ssl_expiry"]
    threshold: int | None = None
    comparison: Literal["greater_than", "less_than"] | None = None
    notifications: Notifications
    period: Literal["2m", "3m", "5m", "10m", "15m", "30m", "1h"]


async def _body(request: Request, model: type[B]) -> B:
    content = await json_of(request)
    if isinstance(channels := content.get("notifications"), dict):
        content["notifications"] = with_lists(channels)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise invalid(field_name(first["loc"]), first["msg"]) from error


def with_lists(channels: dict[str, Any]) -> dict[str, Any]:
    """Channels in which null, as the official plugin sends it, is the empty list."""
    return channels | {name: channels.get(name) or [] for name in ("email", "slack")}


def field_name(location: tuple[int | str, ...]) -> str:
    """The name of a field as the service writes it, such as `notifications.email[0]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")


def invalid(field: str, why: str) -> BadRequest:
    """The error about one field."""
    return BadRequest(f"invalid value for field '{field}': {why}")


def require_verified(cloud: Cloud, given: Notifications, field: str) -> None:
    """Raise BadRequest for the first address that nobody in the account has confirmed."""
    verified = {address.lower() for address in (cloud.config.email, *cloud.account.verified_emails)}
    for place, address in enumerate(given.email):
        if address.lower() not in verified:
            raise invalid(f"{field}.email[{place}]", f"invalid email '{address}'")


def _require_target(body: CheckBody) -> None:
    parts = urlsplit(body.target)
    if body.type != "ping" and (parts.scheme != body.type or not parts.hostname):
        raise invalid("target", f"invalid url '{body.target}'")
    if not body.name or not body.regions:
        raise invalid("regions" if body.name else "name", "is required")


def _require_condition(cloud: Cloud, body: AlertBody) -> None:
    require_verified(cloud, body.notifications, "notifications")
    if not body.name:
        raise invalid("name", "is required")
    if not body.notifications.email and not body.notifications.slack:
        raise invalid("notifications", "is required")
    if body.type in _WITH_THRESHOLD and (not body.threshold or not body.comparison):
        raise invalid("comparison" if body.threshold else "threshold", "is required")


def _check_json(check: UptimeCheck) -> dict[str, object]:
    return check.model_dump()


def _alert_json(alert: UptimeAlert) -> dict[str, object]:
    return alert.model_dump(exclude={"check_id"}, exclude_none=True)


def _alerts(cloud: Cloud, check: UptimeCheck) -> list[UptimeAlert]:
    return cloud.store.where(UptimeAlert, check_id=check.id)


async def list_checks(request: Request) -> Response:
    return page(request, "checks", cloud_of(request).store.all(UptimeCheck), _check_json)


async def create_check(request: Request) -> Response:
    body = await _body(request, CheckBody)
    _require_target(body)
    check = UptimeCheck(id=str(uuid.uuid4()), **body.model_dump())
    cloud_of(request).store.put(check)
    return answer({"check": _check_json(check)}, 201)


async def show_check(request: Request) -> Response:
    return answer({"check": _check_json(find(request, UptimeCheck, request.path_params["check_id"]))})


async def change_check(request: Request) -> Response:
    check = find(request, UptimeCheck, request.path_params["check_id"])
    body = await _body(request, CheckBody)
    _require_target(body)
    changed = UptimeCheck(id=check.id, **body.model_dump())
    cloud_of(request).store.put(changed)
    return answer({"check": _check_json(changed)})


async def delete_check(request: Request) -> Response:
    """Delete a check, and its alerts with it."""
    cloud = cloud_of(request)
    check = find(request, UptimeCheck, request.path_params["check_id"])
    with cloud.store.transaction():
        for alert in _alerts(cloud, check):
            forget(cloud, alert)
        if state := cloud.store.get(CheckState, check.id):
            cloud.store.delete(state)
        cloud.store.delete(check)
    return no_content()


def forget(cloud: Cloud, alert: UptimeAlert) -> None:
    """Delete an alert; what it has fired ends without a word."""
    for incident in cloud.store.where(Incident, alert=alert.id):
        cloud.store.delete(incident)
    cloud.store.delete(alert)


async def show_state(request: Request) -> Response:
    cloud = cloud_of(request)
    check = find(request, UptimeCheck, request.path_params["check_id"])
    state = cloud.store.get(CheckState, check.id) or CheckState(check_id=check.id)
    regions = {
        region: {"status": status, "status_changed_at": since} for region, (status, since) in state.regions.items()
    }
    for region in check.regions:
        regions.setdefault(region, {"status": "CHECKING"})
    last = state.previous_outage
    outage = {"previous_outage": last.model_dump(exclude_none=True)} if last else {}
    return answer({"state": {"regions": regions, **outage}})


async def list_alerts(request: Request) -> Response:
    check = find(request, UptimeCheck, request.path_params["check_id"])
    return page(request, "alerts", _alerts(cloud_of(request), check), _alert_json)


async def create_alert(request: Request) -> Response:
    cloud = cloud_of(request)
    check = find(request, UptimeCheck, request.path_params["check_id"])
    body = await _body(request, AlertBody)
    _require_condition(cloud, body)
    alert = UptimeAlert(id=str(uuid.uuid4()), check_id=check.id, **body.model_dump())
    cloud.store.put(alert)
    return answer({"alert": _alert_json(alert)}, 201)


def _find_alert(request: Request) -> UptimeAlert:
    alert = find(request, UptimeAlert, request.path_params["alert_id"])
    if alert.check_id != request.path_params["check_id"]:
        raise NotFound
    return alert


async def show_alert(request: Request) -> Response:
    return answer({"alert": _alert_json(_find_alert(request))})


async def change_alert(request: Request) -> Response:
    cloud = cloud_of(request)
    alert = _find_alert(request)
    body = await _body(request, AlertBody)
    _require_condition(cloud, body)
    changed = UptimeAlert(id=alert.id, check_id=alert.check_id, **body.model_dump())
    cloud.store.put(changed)
    return answer({"alert": _alert_json(changed)})


async def delete_alert(request: Request) -> Response:
    forget(cloud_of(request), _find_alert(request))
    return no_content()


_CHECK, _ALERT = "/v2/uptime/checks/{check_id}", "/v2/uptime/checks/{check_id}/alerts/{alert_id}"
ROUTES = [
    Route("/v2/uptime/checks", list_checks, methods=["GET"]),
    Route("/v2/uptime/checks", create_check, methods=["POST"]),
    Route(_CHECK, show_check, methods=["GET"]),
    Route(_CHECK, change_check, methods=["PUT"]),
    Route(_CHECK, delete_check, methods=["DELETE"]),
    Route(f"{_CHECK}/state", show_state, methods=["GET"]),
    Route(f"{_CHECK}/alerts", list_alerts, methods=["GET"]),
    Route(f"{_CHECK}/alerts", create_alert, methods=["POST"]),
    Route(_ALERT, show_alert, methods=["GET"]),
    Route(_ALERT, change_alert, methods=["PUT"]),
    Route(_ALERT, delete_alert, methods=["DELETE"]),
]
