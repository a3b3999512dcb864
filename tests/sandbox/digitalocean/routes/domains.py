"""/v2/domains and their records. The rules for records are in `state/records.py`."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Domain, DomainRecord
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, find, no_content, page
from tests.sandbox.digitalocean.routes.views import domain_json
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import NotFound, Unprocessable
from tests.sandbox.digitalocean.state.projects import join_default_project, leave_projects
from tests.sandbox.digitalocean.state.records import RecordFields, check_domain_name, check_record, relative_name
from tests.sandbox.digitalocean.state.zones import zone_file


class NewDomain(Body):
    name: str = ""
    ip_address: str | None = None


class RecordBody(Body):
    type: str | None = None
    name: str | None = None
    data: str | None = None
    priority: int | None = None
    port: int | None = None
    ttl: int | None = None
    weight: int | None = None
    flags: int | None = None
    tag: str | None = None


def _next_serial(former: int = 0) -> int:
    return max(former + 1, int(datetime.now(UTC).timestamp()))


def _touch(cloud: Cloud, domain: Domain) -> None:
    domain.serial = _next_serial(domain.serial)
    cloud.store.put(domain)


def _put_record(cloud: Cloud, domain: Domain, fields: RecordFields, number: int | None = None) -> DomainRecord:
    record = DomainRecord(
        id=number if number is not None else cloud.store.next_number("domain_record", 1_800_000_001),
        domain=domain.name,
        **fields.model_dump(),
    )
    cloud.store.put(record)
    _touch(cloud, domain)
    return record


def _records(cloud: Cloud, domain: Domain) -> list[DomainRecord]:
    return cloud.store.where(DomainRecord, domain=domain.name)


def record_json(record: DomainRecord) -> dict[str, object]:
    view = record.model_dump()
    del view["domain"]
    return view


async def list_domains(request: Request) -> Response:
    cloud = cloud_of(request)
    return page(
        request,
        "domains",
        cloud.store.all(Domain),
        lambda domain: domain_json(domain, zone_file(domain, _records(cloud, domain))),
    )


async def create_domain(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, NewDomain)
    name = check_domain_name(body.name)
    if cloud.store.get(Domain, name) is not None:
        raise Unprocessable(f"domain '{name}': name already exists")
    if body.ip_address:
        _check_address(body.ip_address)
    with cloud.store.transaction():
        domain = Domain(name=name, serial=_next_serial())
        cloud.store.put(domain)
        join_default_project(cloud, domain.urn)
        soa = RecordFields(type="SOA", name="@", data=str(domain.ttl), ttl=domain.ttl)
        _put_record(cloud, domain, soa)
        for server in cloud.config.nameservers:
            _put_record(cloud, domain, RecordFields(type="NS", name="@", data=server, ttl=domain.ttl))
        if body.ip_address:
            kind = "A" if ip_address(body.ip_address).version == 4 else "AAAA"
            apex = RecordFields(type=kind, name="@", data=body.ip_address, ttl=domain.ttl)
            _put_record(cloud, domain, apex)
    return answer({"domain": domain_json(domain, None)}, 201)


def _check_address(text: str) -> None:
    try:
        ip_address(text)
    except ValueError as error:
        raise Unprocessable("ip_address is not a valid IP address") from error


def _domain(request: Request) -> Domain:
    return find(request, Domain, request.path_params["domain"].lower())


async def show_domain(request: Request) -> Response:
    domain = _domain(request)
    return answer({"domain": domain_json(domain, zone_file(domain, _records(cloud_of(request), domain)))})


async def delete_domain(request: Request) -> Response:
    cloud, domain = cloud_of(request), _domain(request)
    with cloud.store.transaction():
        for record in _records(cloud, domain):
            cloud.store.delete(record)
        leave_projects(cloud, domain.urn)
        cloud.store.delete(domain)
    return no_content()


async def list_records(request: Request) -> Response:
    cloud, domain = cloud_of(request), _domain(request)
    records = _records(cloud, domain)
    query = request.query_params
    if (kind := query.get("type")) is not None:
        records = [record for record in records if record.type == kind.upper()]
    if (name := query.get("name")) is not None:
        # The filter takes whole names: `www.example.com` for the record `www`.
        wanted = relative_name(name, domain.name)
        records = [record for record in records if record.name == wanted]
    return page(request, "domain_records", records, record_json)


async def create_record(request: Request) -> Response:
    cloud, domain = cloud_of(request), _domain(request)
    body = await body_of(request, RecordBody)
    if (body.type or "").upper() == "SOA":
        raise Unprocessable("a domain has exactly one SOA record")
    fields = check_record(body.model_dump(), domain, _records(cloud, domain))
    with cloud.store.transaction():
        record = _put_record(cloud, domain, fields)
    return answer({"domain_record": record_json(record)}, 201)


def _record(request: Request, domain: Domain) -> DomainRecord:
    record = find(request, DomainRecord, request.path_params["record_id"])
    if record.domain != domain.name:
        raise NotFound
    return record


async def show_record(request: Request) -> Response:
    return answer({"domain_record": record_json(_record(request, _domain(request)))})


async def change_record(request: Request) -> Response:
    """PUT and PATCH change what the body names and keep the rest; the type stays."""
    cloud, domain = cloud_of(request), _domain(request)
    record = _record(request, domain)
    body = await body_of(request, RecordBody)
    if body.type is not None and body.type.upper() != record.type:
        raise Unprocessable("the type of a record cannot be changed")
    given = {name: value for name, value in body.model_dump().items() if value is not None}
    others = [other for other in _records(cloud, domain) if other.id != record.id]
    fields = check_record(record_json(record) | given, domain, others, data_given="data" in given)
    with cloud.store.transaction():
        record = _put_record(cloud, domain, fields, record.id)
        if record.type == "SOA":
            domain.ttl = record.ttl
            cloud.store.put(domain)
    return answer({"domain_record": record_json(record)})


async def delete_record(request: Request) -> Response:
    cloud, domain = cloud_of(request), _domain(request)
    record = _record(request, domain)
    if record.type == "SOA":
        raise Unprocessable("the SOA record of a domain cannot be deleted")
    with cloud.store.transaction():
        cloud.store.delete(record)
        _touch(cloud, domain)
    return no_content()


ROUTES = [
    Route("/v2/domains", list_domains, methods=["GET"]),
    Route("/v2/domains", create_domain, methods=["POST"]),
    Route("/v2/domains/{domain}", show_domain, methods=["GET"]),
    Route("/v2/domains/{domain}", delete_domain, methods=["DELETE"]),
    Route("/v2/domains/{domain}/records", list_records, methods=["GET"]),
    Route("/v2/domains/{domain}/records", create_record, methods=["POST"]),
    Route("/v2/domains/{domain}/records/{record_id:int}", show_record, methods=["GET"]),
    Route("/v2/domains/{domain}/records/{record_id:int}", change_record, methods=["PUT", "PATCH"]),
    Route("/v2/domains/{domain}/records/{record_id:int}", delete_record, methods=["DELETE"]),
]
