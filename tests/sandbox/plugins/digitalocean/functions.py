"""Functions of the provider: lookups that create nothing."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Function, Kind, PluginError
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.session import segment, session_of

_FILTERS: Fields = {
    "filters": Field(
        Kind.LIST,
        fields={
            "key": Field(required=True),
            "values": Field(Kind.LIST, items=Kind.STRING, required=True),
            "matchBy": Field(choices=("exact",)),
        },
    )
}


def _found(answer: Any, what: str) -> Any:
    if answer is None:
        raise PluginError(f"{what} was not found")
    return answer


def _filtered(items: list[Properties], filters: list[Properties]) -> list[Properties]:
    """Items that have one of the values, for every filter."""

    def fits(item: Properties, wanted: Properties) -> bool:
        if wanted["key"] not in item:
            raise PluginError(f"filters: there is no field {wanted['key']}; there are {', '.join(sorted(item))}")
        value = item[wanted["key"]]
        texts = {str(each).lower() for each in (value if isinstance(value, list) else [value])}
        return bool(texts & {str(each).lower() for each in wanted["values"]})

    return [item for item in items if all(fits(item, wanted) for wanted in filters)]


class GetAccount(Function):
    """The account of the token."""

    full_name = "digitalocean:index/getAccount:getAccount"

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        del inputs
        account = session_of(call).get("/v2/account")["account"]
        return {
            "id": account["uuid"],
            "uuid": account["uuid"],
            "email": account["email"],
            "emailVerified": account["email_verified"],
            "dropletLimit": account["droplet_limit"],
            "floatingIpLimit": account.get("floating_ip_limit", account.get("reserved_ip_limit")),
            "status": account["status"],
            "statusMessage": account.get("status_message") or "",
        }


class GetDomain(Function):
    """A domain by its name."""

    full_name = "digitalocean:index/getDomain:getDomain"
    inputs: ClassVar[Fields] = {"name": Field(required=True)}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        name = inputs["name"]
        domain = _found(session_of(call).find(f"/v2/domains/{segment(name)}"), f"domain {name}")["domain"]
        return {
            "id": name,
            "name": name,
            "ttl": domain["ttl"],
            "zoneFile": domain.get("zone_file") or "",
            "domainUrn": f"do:domain:{name}",
        }


class GetRecord(Function):
    """A record by its name."""

    full_name = "digitalocean:index/getRecord:getRecord"
    inputs: ClassVar[Fields] = {"domain": Field(required=True), "name": Field(required=True)}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        domain, name = inputs["domain"], inputs["name"]
        records = session_of(call).every(f"/v2/domains/{segment(domain)}/records", "domain_records")
        record = _found(next((item for item in records if item["name"] == name), None), f"record {name} of {domain}")
        fields = ("data", "flags", "port", "priority", "tag", "ttl", "type", "weight")
        return {**inputs, "id": str(record["id"]), **{field: record.get(field) for field in fields}}


class GetImage(Function):
    """An image by its slug or ID."""

    full_name = "digitalocean:index/getImage:getImage"
    inputs: ClassVar[Fields] = {"slug": Field(), "id": Field(Kind.INTEGER)}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        key = inputs.get("slug") or inputs.get("id")
        if not key:
            raise PluginError("slug or id must be given")
        image = _found(session_of(call).find(f"/v2/images/{segment(key)}"), f"image {key}")["image"]
        return {
            "id": image["id"],
            "image": str(image["id"]),
            "slug": image.get("slug") or "",
            "name": image["name"],
            "distribution": image["distribution"],
            "type": image["type"],
            "private": not image["public"],
            "regions": image["regions"],
            "minDiskSize": image["min_disk_size"],
            "sizeGigabytes": image["size_gigabytes"],
            "created": image["created_at"],
            "description": image.get("description") or "",
            "status": image.get("status") or "",
            "errorMessage": image.get("error_message") or "",
            "tags": image.get("tags") or [],
        }


def _region(region: Properties) -> Properties:
    return {name: region[name] for name in ("slug", "name", "available", "features", "sizes")}


class GetRegion(Function):
    """A region by its slug."""

    full_name = "digitalocean:index/getRegion:getRegion"
    inputs: ClassVar[Fields] = {"slug": Field(required=True)}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        slug = inputs["slug"]
        regions = (_region(item) for item in session_of(call).every("/v2/regions", "regions"))
        return {"id": slug, **_found(next((item for item in regions if item["slug"] == slug), None), f"region {slug}")}


class GetRegions(Function):
    """Regions that fit some filters."""

    full_name = "digitalocean:index/getRegions:getRegions"
    inputs: ClassVar[Fields] = _FILTERS

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        regions = [_region(item) for item in session_of(call).every("/v2/regions", "regions")]
        return {**inputs, "id": "regions", "regions": _filtered(regions, inputs.get("filters", []))}


class GetSizes(Function):
    """Sizes of droplets that fit some filters."""

    full_name = "digitalocean:index/getSizes:getSizes"
    inputs: ClassVar[Fields] = _FILTERS

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        names = {
            "slug": "slug",
            "available": "available",
            "disk": "disk",
            "memory": "memory",
            "vcpus": "vcpus",
            "transfer": "transfer",
            "priceHourly": "price_hourly",
            "priceMonthly": "price_monthly",
            "regions": "regions",
        }
        sizes = [
            {name: size[api] for name, api in names.items()} for size in session_of(call).every("/v2/sizes", "sizes")
        ]
        filters = [{**item, "key": _camel(item["key"])} for item in inputs.get("filters", [])]
        return {**inputs, "id": "sizes", "sizes": _filtered(sizes, filters)}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


class GetSshKey(Function):
    """An SSH key of the account by its name."""

    full_name = "digitalocean:index/getSshKey:getSshKey"
    inputs: ClassVar[Fields] = {"name": Field(required=True)}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        name = inputs["name"]
        keys = session_of(call).every("/v2/account/keys", "ssh_keys")
        key = _found(next((item for item in keys if item["name"] == name), None), f"SSH key {name}")
        return {"id": key["id"], "name": name, "publicKey": key["public_key"], "fingerprint": key["fingerprint"]}
