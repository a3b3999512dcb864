"""Uptime checks, their alerts, and alert policies on metrics of droplets."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Kind, PluginError, Resource, made
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.session import given, session_of

#: One list with one entry in Terraform; only that of a policy, which has at most one, is a map in Pulumi.
_CHANNELS: Fields = {
    "emails": Field(Kind.LIST, items=Kind.STRING),
    "slacks": Field(Kind.LIST, fields={"channel": Field(required=True), "url": Field(required=True)}),
}


def _channels_body(channels: Properties) -> Properties:
    slack = [{"channel": one["channel"], "url": one["url"]} for one in channels.get("slacks") or []]
    # The official plugin sends null where there is nothing.
    return {"email": channels.get("emails") or None, "slack": slack or None}


def _channels_state(channels: Properties) -> Properties:
    slacks = [{"channel": one["channel"], "url": one["url"]} for one in channels.get("slack") or []]
    # A list that is empty is none: otherwise, a refresh would find one that the program has not said anything of.
    return {
        **({"emails": emails} if (emails := channels.get("email")) else {}),
        **({"slacks": slacks} if slacks else {}),
    }


class UptimeCheck(Resource):
    """A target that is requested from several regions."""

    full_name = "digitalocean:index/uptimeCheck:UptimeCheck"
    autoname = True
    inputs: ClassVar[Fields] = {
        "name": Field(),
        "target": Field(required=True),
        "type": Field(default="https", choices=("ping", "http", "https")),
        "regions": Field(Kind.LIST, items=Kind.STRING, unordered=True),
        "enabled": Field(Kind.BOOLEAN, default=True),
    }
    _NAMES: ClassVar = {name: name for name in ("name", "target", "type", "regions")}

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        check = session_of(call).post("/v2/uptime/checks", self._body(inputs))["check"]
        with made(check["id"], inputs):
            return check["id"], self._state(session_of(call).get(f"/v2/uptime/checks/{check['id']}")["check"])

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/uptime/checks/{identifier}")
        return found and (identifier, self._state(found["check"]))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        session_of(call).put(f"/v2/uptime/checks/{identifier}", self._body(inputs))
        return self._state(session_of(call).get(f"/v2/uptime/checks/{identifier}")["check"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/v2/uptime/checks/{identifier}")

    def _body(self, inputs: Properties) -> Properties:
        return {**given(inputs, self._NAMES), "enabled": bool(inputs.get("enabled"))}

    def _state(self, check: Properties) -> Properties:
        return {name: check[name] for name in ("name", "target", "type", "regions", "enabled")}


class UptimeAlert(Resource):
    """A condition on what a check observes."""

    full_name = "digitalocean:index/uptimeAlert:UptimeAlert"
    autoname = True
    inputs: ClassVar[Fields] = {
        "name": Field(),
        "checkId": Field(required=True),
        "type": Field(required=True, choices=("latency", "down", "down_global", "ssl_expiry")),
        "threshold": Field(Kind.INTEGER),
        "comparison": Field(choices=("greater_than", "less_than")),
        "period": Field(choices=("2m", "3m", "5m", "10m", "15m", "30m", "1h")),
        "notifications": Field(Kind.LIST, required=True, fields=_CHANNELS),
    }
    _NAMES: ClassVar = {name: name for name in ("name", "type", "threshold", "comparison", "period")}

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        path = f"/v2/uptime/checks/{inputs['checkId']}/alerts"
        alert = session_of(call).post(path, self._body(inputs))["alert"]
        with made(alert["id"], inputs):
            return alert["id"], self._state(session_of(call).get(f"{path}/{alert['id']}")["alert"])

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        check = state.get("checkId")
        if not state:
            check, _, identifier = identifier.partition(",")
            if not identifier:
                raise PluginError(
                    "must use the IDs of the check and alert joined with a comma (e.g. `check_id,alert_id`)"
                )
        found = session_of(call).find(f"/v2/uptime/checks/{check}/alerts/{identifier}")
        return found and (identifier, {"checkId": check, **self._state(found["alert"])})

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        path = f"/v2/uptime/checks/{inputs['checkId']}/alerts/{identifier}"
        session_of(call).put(path, self._body(inputs))
        return self._state(session_of(call).get(path)["alert"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        session_of(call).delete(f"/v2/uptime/checks/{state['checkId']}/alerts/{identifier}")

    def _body(self, inputs: Properties) -> Properties:
        return {**given(inputs, self._NAMES), "notifications": _channels_body(inputs["notifications"][0])}

    def _state(self, alert: Properties) -> Properties:
        state = {name: alert[name] for name in self._NAMES if alert.get(name) is not None}
        return {**state, "notifications": [_channels_state(alert["notifications"])]}


class MonitorAlert(Resource):
    """A condition on a metric of droplets."""

    full_name = "digitalocean:index/monitorAlert:MonitorAlert"
    inputs: ClassVar[Fields] = {
        "type": Field(required=True),
        "description": Field(required=True),
        "compare": Field(required=True, choices=("GreaterThan", "LessThan")),
        "value": Field(Kind.NUMBER, required=True),
        "window": Field(required=True, choices=("5m", "10m", "30m", "1h")),
        "entities": Field(Kind.LIST, items=Kind.STRING, unordered=True),
        "tags": Field(Kind.LIST, items=Kind.STRING, unordered=True),
        "alerts": Field(Kind.MAP, required=True, fields=_CHANNELS),
        "enabled": Field(Kind.BOOLEAN, default=True),
    }
    outputs = ("uuid",)
    _NAMES: ClassVar = {name: name for name in ("type", "description", "compare", "value", "window")}

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        policy = session_of(call).post("/v2/monitoring/alerts", self._body(inputs))["policy"]
        with made(policy["uuid"], inputs):
            found = session_of(call).get(f"/v2/monitoring/alerts/{policy['uuid']}")["policy"]
            return policy["uuid"], self._state(found)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/monitoring/alerts/{identifier}")
        return found and (identifier, self._state(found["policy"]))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        session_of(call).put(f"/v2/monitoring/alerts/{identifier}", self._body(inputs))
        return self._state(session_of(call).get(f"/v2/monitoring/alerts/{identifier}")["policy"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/v2/monitoring/alerts/{identifier}")

    def _body(self, inputs: Properties) -> Properties:
        lists = {name: inputs.get(name) or [] for name in ("entities", "tags")}
        enabled = bool(inputs.get("enabled"))
        return {
            **given(inputs, self._NAMES),
            **lists,
            "enabled": enabled,
            "alerts": _channels_body(inputs["alerts"]),
        }

    def _state(self, policy: Properties) -> Properties:
        names = (*self._NAMES, "uuid", "entities", "tags", "enabled")
        return {**{name: policy[name] for name in names}, "alerts": _channels_state(policy["alerts"])}
