"""Domains and their records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Failure, Field, Fields, Kind, PluginError, Resource, made
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.session import given, segment, session_of

#: Types whose value is a name: the API drops the last dot.
_NAME_TYPES = ("CNAME", "MX", "NS", "SRV", "CAA")
_RECORD_TYPES = ("A", "AAAA", "CAA", "CNAME", "MX", "NS", "SRV", "TXT")
_NEEDED = {"MX": ("priority",), "SRV": ("priority", "weight", "port"), "CAA": ("flags", "tag")}
_BODY = {
    "type": "type",
    "name": "name",
    "value": "data",
    "ttl": "ttl",
    "priority": "priority",
    "port": "port",
    "weight": "weight",
    "flags": "flags",
    "tag": "tag",
}


class Domain(Resource):
    """A zone."""

    full_name = "digitalocean:index/domain:Domain"
    inputs: ClassVar[Fields] = {"name": Field(required=True, replace=True), "ipAddress": Field(replace=True)}
    outputs = ("domainUrn", "ttl")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        body = given(inputs, {"name": "name", "ipAddress": "ip_address"})
        name = session_of(call).post("/v2/domains", body)["domain"]["name"]
        with made(name, inputs):
            return name, self._state(session_of(call).get(f"/v2/domains/{segment(name)}")["domain"])

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/domains/{segment(identifier)}")
        return found and (identifier, self._state(found["domain"]))

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/v2/domains/{segment(identifier)}")

    def _state(self, domain: Properties) -> Properties:
        return {"name": domain["name"], "ttl": domain["ttl"], "domainUrn": f"do:domain:{domain['name']}"}


class DnsRecord(Resource):
    """A record of a zone. A value that is a name ends with a dot."""

    full_name = "digitalocean:index/dnsRecord:DnsRecord"
    autoname = True
    inputs: ClassVar[Fields] = {
        "domain": Field(required=True, replace=True),
        "type": Field(required=True, replace=True, choices=_RECORD_TYPES),
        "value": Field(required=True),
        "name": Field(),
        "ttl": Field(Kind.INTEGER, computed=True),
        "priority": Field(Kind.INTEGER),
        "port": Field(Kind.INTEGER),
        "weight": Field(Kind.INTEGER),
        "flags": Field(Kind.INTEGER),
        "tag": Field(choices=("issue", "issuewild", "iodef")),
    }
    outputs = ("fqdn", "ttl")

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        needed = _NEEDED.get(inputs["type"], ()) if isinstance(inputs["type"], str) else ()
        return [Failure(name, f"is required when type is {inputs['type']}") for name in needed if name not in inputs]

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        path = f"/v2/domains/{segment(inputs['domain'])}/records"
        record = session_of(call).post(path, given(inputs, _BODY))["domain_record"]
        with made(str(record["id"]), inputs):
            found = session_of(call).get(f"{path}/{record['id']}")["domain_record"]
        return str(record["id"]), self._state(inputs["domain"], found)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        domain = state.get("domain")
        if domain is None:
            domain, _, identifier = identifier.partition(",")
            if not identifier.isdigit():
                raise PluginError("the ID to import must be <domain>,<record id>")
        found = session_of(call).find(f"/v2/domains/{segment(domain)}/records/{identifier}")
        return found and (identifier, self._state(domain, found["domain_record"]))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        path = f"/v2/domains/{segment(inputs['domain'])}/records/{identifier}"
        session_of(call).put(path, given(inputs, _BODY))
        return self._state(inputs["domain"], session_of(call).get(path)["domain_record"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        session_of(call).delete(f"/v2/domains/{segment(state['domain'])}/records/{identifier}", missing_ok=True)

    def _state(self, domain: str, record: Properties) -> Properties:
        value = record["data"]
        if record["type"] in _NAME_TYPES and value != "@" and record.get("tag") != "iodef":
            value = value.rstrip(".") + "."
        name = record["name"]
        state = {api_name: record.get(api) for api_name, api in _BODY.items()}
        return {
            **{key: item for key, item in state.items() if item is not None},
            "domain": domain,
            "value": value,
            "fqdn": domain if name == "@" else f"{name}.{domain}",
        }
