"""Functions of the provider: lookups that create nothing."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Function, Kind, PluginError
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.droplets import droplet_state
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
            # A limit that the token may not read is left out of the answer; the official client makes it 0.
            "dropletLimit": account.get("droplet_limit", 0),
            "floatingIpLimit": account.get("floating_ip_limit", 0),
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


class GetRecords(Function):
    """Records of a domain that fit some filters."""

    full_name = "digitalocean:index/getRecords:getRecords"
    inputs: ClassVar[Fields] = {"domain": Field(required=True), **_FILTERS}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        domain = inputs["domain"]
        names = {name: name for name in ("id", "name", "type", "priority", "port", "ttl", "weight", "flags", "tag")}
        records = [
            {"domain": domain, **{name: record.get(api) for name, api in (names | {"value": "data"}).items()}}
            for record in session_of(call).every(f"/v2/domains/{segment(domain)}/records", "domain_records")
        ]
        # What does not apply to a type of record is 0 or empty in the official client.
        absent = {"priority": 0, "port": 0, "weight": 0, "flags": 0, "tag": ""}
        filled = [{name: absent.get(name) if value is None else value for name, value in r.items()} for r in records]
        return {**inputs, "id": "records", "records": _filtered(filled, inputs.get("filters", []))}


def _own_image(call: Call, name: str) -> Properties:
    """The messages are those of the official provider."""
    images = session_of(call).every("/v2/images", "images")
    found: list[Properties] = [one for one in images if one["name"] == name and not one["public"]]
    if not found:
        raise PluginError(f"no user image found with name {name}")
    if len(found) > 1:
        raise PluginError(f"too many user images found with name {name} (found {len(found)}, expected 1)")
    return found[0]


class GetImage(Function):
    """An image by its slug or ID, or one of the account's own by its name."""

    full_name = "digitalocean:index/getImage:getImage"
    inputs: ClassVar[Fields] = {"slug": Field(), "id": Field(Kind.INTEGER), "name": Field()}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        key = inputs.get("slug") or inputs.get("id")
        if key:
            image = _found(session_of(call).find(f"/v2/images/{segment(key)}"), f"image {key}: image")["image"]
        elif name := inputs.get("name"):
            image = _own_image(call, str(name))
        else:
            raise PluginError("one of id, name or slug must be assigned")
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


class GetDroplets(Function):
    """Droplets of the account that fit some filters."""

    full_name = "digitalocean:index/getDroplets:getDroplets"
    inputs: ClassVar[Fields] = {**_FILTERS, "gpus": Field(Kind.BOOLEAN)}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        droplets = [
            {"id": int(droplet["id"]), "urn": f"do:droplet:{droplet['id']}", **droplet_state(droplet)}
            for droplet in session_of(call).every("/v2/droplets", "droplets")
        ]
        droplets = [{"image": "", **droplet} for droplet in droplets]
        return {**inputs, "id": "droplets", "droplets": _filtered(droplets, inputs.get("filters", []))}


class GetVpc(Function):
    """A network by its ID or its name, or the default one of a region."""

    full_name = "digitalocean:index/getVpc:getVpc"
    inputs: ClassVar[Fields] = {"id": Field(), "name": Field(), "region": Field()}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        vpc = self._find(call, inputs)
        names = ("id", "name", "region", "description", "ip_range", "urn", "default", "created_at")
        return {_camel(name): vpc.get(name) for name in names}

    def _find(self, call: Call, inputs: Properties) -> Properties:
        session, identifier = session_of(call), inputs.get("id")
        if identifier:
            found: Properties = session.get(f"/v2/vpcs/{segment(identifier)}")["vpc"]
            return found
        name, region = inputs.get("name"), inputs.get("region")
        vpcs = list(session.every("/v2/vpcs", "vpcs"))
        if region:
            of_region = [vpc for vpc in vpcs if vpc["region"] == region and vpc["default"]]
            if len(of_region) != 1:
                raise PluginError(f"Error retrieving VPC: unable to find default VPC in {region} region")
            return dict(of_region[0])
        named = [vpc for vpc in vpcs if vpc["name"] == name]
        if len(named) != 1:
            raise PluginError(f"Error retrieving VPC: no VPCs found with name {name}")
        return dict(named[0])


class GetProject(Function):
    """A project by its ID or its name, or else the default one."""

    full_name = "digitalocean:index/getProject:getProject"
    inputs: ClassVar[Fields] = {"id": Field(), "name": Field()}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        session = session_of(call)
        projects = list(session.every("/v2/projects", "projects"))
        key = next((key for key in ("id", "name") if inputs.get(key)), None)
        fits = [one for one in projects if (one[key] == inputs[key] if key else one["is_default"])]
        project = _found(fits[0] if len(fits) == 1 else None, f"project {inputs.get(key) if key else 'by default'}")
        resources = session.every(f"/v2/projects/{project['id']}/resources", "resources")
        names = ("id", "name", "description", "purpose", "environment", "is_default", "created_at", "updated_at")
        return {
            **{_camel(name): project.get(name) for name in (*names, "owner_uuid", "owner_id")},
            "resources": [resource["urn"] for resource in resources],
        }


class GetReservedIp(Function):
    """A reserved address. As in the official plugin, one that does not exist has no region, and no droplet is named."""

    full_name = "digitalocean:index/getReservedIp:getReservedIp"
    inputs: ClassVar[Fields] = {"ipAddress": Field(required=True)}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        address = inputs["ipAddress"]
        found = session_of(call).find(f"/v2/reserved_ips/{segment(address)}")
        if found is None:
            return {**inputs, "id": "", "urn": "", "region": "", "dropletId": 0}
        region = found["reserved_ip"]["region"]["slug"]
        return {**inputs, "id": address, "urn": f"do:reservedip:{address}", "region": region, "dropletId": 0}


class GetSshKey(Function):
    """An SSH key of the account by its name."""

    full_name = "digitalocean:index/getSshKey:getSshKey"
    inputs: ClassVar[Fields] = {"name": Field(required=True)}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        name = inputs["name"]
        keys = session_of(call).every("/v2/account/keys", "ssh_keys")
        key = _found(next((item for item in keys if item["name"] == name), None), f"SSH key {name}")
        return {"id": key["id"], "name": name, "publicKey": key["public_key"], "fingerprint": key["fingerprint"]}
