"""The account: keys, tags, projects, Spaces keys, domains, and what is offered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from tests.sandbox.digitalocean.routes import ROUTES
from tests.sandbox.digitalocean.scopes import scope_of
from tests.sandbox_tests.support.emulated_cloud import DROPLET, EmulatedCloud, public_key
from tests.sandbox_tests.support.waiting import eventually


def test_regions_sizes_and_images_are_offered_as_the_real_service_offers_them(cloud: EmulatedCloud) -> None:
    assert cloud.client.account.get()["account"]["status"] == "active"
    regions = {region["slug"]: region for region in cloud.client.regions.list(per_page=200)["regions"]}
    assert (regions["nyc3"]["available"], regions["sfo1"]["available"]) == (True, False)
    assert "s-1vcpu-512mb-10gb" in regions["fra1"]["sizes"]
    assert "s-1vcpu-512mb-10gb" not in regions["nyc3"]["sizes"]
    sizes = {size["slug"]: size for size in cloud.client.sizes.list(per_page=200)["sizes"]}
    assert (sizes["s-4vcpu-8gb"]["price_monthly"], sizes["s-4vcpu-8gb"]["price_hourly"]) == (48.0, 0.07143)
    images = cloud.client.images.list(type="distribution")["images"]
    assert [image["slug"] for image in images] == ["debian-12-x64", "debian-13-x64"]
    assert cloud.http.get("/v2/images/debian-13-x64").json()["image"]["id"] == images[1]["id"]
    assert cloud.client.images.list(private=True)["images"] == []


def test_an_ssh_key_is_found_by_number_and_fingerprint_and_exists_once(cloud: EmulatedCloud) -> None:
    body = {"name": "me", "public_key": public_key()}
    key = cloud.client.ssh_keys.create(body=body)["ssh_key"]
    refusal = cloud.refused("POST", "/v2/account/keys", body | {"name": "again"})
    assert refusal == (422, "unprocessable_entity", "SSH Key is already in use on your account")
    assert cloud.client.ssh_keys.get(key["fingerprint"])["ssh_key"] == key
    renamed = cloud.client.ssh_keys.update(key["id"], body={"name": "you"})["ssh_key"]
    assert (renamed["name"], renamed["public_key"]) == ("you", public_key())
    cloud.client.ssh_keys.delete(key["id"])
    assert cloud.refused("GET", f"/v2/account/keys/{key['id']}")[0] == 404


@pytest.mark.parametrize(
    "text", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa " + public_key().split()[1], "-----BEGIN"]
)
def test_an_invalid_public_key_is_refused(cloud: EmulatedCloud, text: str) -> None:
    assert cloud.refused("POST", "/v2/account/keys", {"name": "me", "public_key": text})[0] == 422


def test_tags_keep_their_first_spelling_and_count_their_resources(cloud: EmulatedCloud) -> None:
    cloud.client.tags.create(body={"name": "Prod"})
    assert cloud.client.tags.create(body={"name": "prod"})["tag"]["name"] == "Prod"
    number = cloud.droplet(tags=["PROD"])["id"]
    tag = cloud.client.tags.get("Prod")["tag"]
    assert (tag["resources"]["count"], tag["resources"]["droplets"]["count"]) == (1, 1)
    assert tag["resources"]["last_tagged_uri"].endswith(f"/v2/droplets/{number}")
    cloud.client.tags.delete("Prod")
    assert cloud.client.droplets.get(number)["droplet"]["tags"] == []
    assert cloud.refused("POST", "/v2/tags", {"name": "no spaces"})[0] == 422


def test_volumes_can_be_tagged_and_unknown_resources_cannot(cloud: EmulatedCloud) -> None:
    body = {"name": "data", "region": "nyc3", "size_gigabytes": 1, "tags": ["a"]}
    disk = cloud.client.volumes.create(body=body)["volume"]
    resource = {"resources": [{"resource_id": disk["id"], "resource_type": "volume"}]}
    cloud.client.tags.create(body={"name": "b"})
    cloud.client.tags.assign_resources("b", body=resource)
    assert cloud.client.volumes.get(disk["id"])["volume"]["tags"] == ["a", "b"]
    unknown = {"resources": [{"resource_id": "7", "resource_type": "droplet"}]}
    assert cloud.refused("POST", "/v2/tags/b/resources", unknown)[0] == 404


def project(cloud: EmulatedCloud, name: str = "slip") -> dict[str, Any]:
    body = {"name": name, "purpose": "Service or API", "environment": "Development"}
    made: dict[str, Any] = cloud.client.projects.create(body=body)["project"]
    return made


def test_resources_start_in_the_default_project_and_can_be_moved(cloud: EmulatedCloud) -> None:
    number, made = cloud.droplet()["id"], project(cloud)
    assert (made["is_default"], made["environment"]) == (False, "Development")
    urn = f"do:droplet:{number}"
    default = cloud.client.projects.get_default()["project"]
    listed = cloud.client.projects.list_resources(default["id"])["resources"]
    assert [item["urn"] for item in listed] == [urn]
    assigned = cloud.client.projects.assign_resources(made["id"], body={"resources": [urn]})["resources"]
    assert [(item["urn"], item["status"]) for item in assigned] == [(urn, "assigned")]
    assert assigned[0]["links"]["self"].endswith(f"/v2/droplets/{number}")
    path = f"/v2/projects/{made['id']}"
    assert cloud.refused("DELETE", path)[:2] == (412, "precondition_failed")
    cloud.client.projects.assign_resources_default(body={"resources": [urn]})
    cloud.client.projects.delete(made["id"])
    assert cloud.refused("GET", path)[0] == 404


def test_a_project_accepts_only_existing_resources(cloud: EmulatedCloud) -> None:
    path = f"/v2/projects/{project(cloud)['id']}/resources"
    volume = {"name": "data", "region": "nyc3", "size_gigabytes": 1}
    there = f"do:volume:{cloud.client.volumes.create(body=volume)['volume']['id']}"
    several = cloud.http.post(path, json={"resources": ["do:droplet:7", there, "do:space:nothing"]}).json()["resources"]
    assert {item["urn"]: item["status"] for item in several} == {
        "do:droplet:7": "not_found",
        there: "assigned",
        "do:space:nothing": "not_found",
    }
    assert cloud.refused("POST", path, {"resources": ["droplet 7"]})[0] == 400
    assert cloud.refused("POST", path, {"resources": ["do:vpc:7"]})[0] == 400
    cloud.backend.buckets["images"] = "nyc3"
    assert cloud.http.post(path, json={"resources": ["do:space:images"]}).status_code == 200


def test_a_reserved_ip_moves_with_its_droplet_under_its_former_name(cloud: EmulatedCloud) -> None:
    number, made, address = cloud.droplet()["id"], project(cloud), ""
    answer = cloud.client.reserved_ips.create(body={"droplet_id": number})
    address = answer["reserved_ip"]["ip"]
    cloud.completed(answer["links"]["actions"][0])
    path = f"/v2/projects/{made['id']}/resources"
    assert cloud.refused("POST", path, {"resources": [f"do:reservedip:{address}"]})[0] == 412
    cloud.http.post(path, json={"resources": [f"do:droplet:{number}"]}).raise_for_status()
    urns = {item["urn"] for item in cloud.http.get(path).json()["resources"]}
    assert urns == {f"do:droplet:{number}", f"do:floatingip:{address}"}
    assert cloud.client.reserved_ips.get(address)["reserved_ip"]["project_id"] == made["id"]


def test_projects_are_changed_in_part_and_one_is_always_the_default(cloud: EmulatedCloud) -> None:
    made = project(cloud)
    changed = cloud.client.projects.patch(made["id"], body={"description": "d", "purpose": "fun"})["project"]
    assert (changed["description"], changed["purpose"], changed["name"]) == ("d", "Other: fun", "slip")
    cloud.client.projects.patch(made["id"], body={"is_default": True})
    assert cloud.client.projects.get_default()["project"]["id"] == made["id"]
    assert cloud.refused("DELETE", f"/v2/projects/{made['id']}")[0] == 403
    assert cloud.refused("POST", "/v2/projects", {"name": "slip", "purpose": "x"})[0] == 409
    assert cloud.refused("POST", "/v2/projects", {"name": "other"})[0] == 422


def test_the_secret_of_a_spaces_key_is_shown_once(cloud: EmulatedCloud) -> None:
    full = [{"bucket": "", "permission": "fullaccess"}]
    key = cloud.client.spaces_key.create(body={"name": "full", "grants": full})["key"]
    assert cloud.backend.keys[key["access_key"]][0] == key["secret_key"]
    read = cloud.client.spaces_key.get(key["access_key"])["key"]
    assert "secret_key" not in read
    assert read["grants"] == full
    cloud.backend.buckets["images"] = "nyc3"
    scoped = {"name": "scoped", "grants": [{"bucket": "images", "permission": "readwrite"}]}
    cloud.http.put(f"/v2/spaces/keys/{key['access_key']}", json=scoped).raise_for_status()
    secret, grants = cloud.backend.keys[key["access_key"]]
    assert (secret, grants[0].bucket, grants[0].permission) == (key["secret_key"], "images", "readwrite")
    cloud.client.spaces_key.delete(key["access_key"])
    assert cloud.backend.keys == {}
    assert cloud.refused("GET", f"/v2/spaces/keys/{key['access_key']}")[0] == 404


@pytest.mark.parametrize(
    "grants",
    [
        [{"bucket": "nothing", "permission": "read"}],
        [{"bucket": "images", "permission": "write"}],
        [{"bucket": "", "permission": "read"}],
        [{"bucket": "", "permission": "fullaccess"}, {"bucket": "images", "permission": "read"}],
    ],
)
def test_an_invalid_grant_is_refused(cloud: EmulatedCloud, grants: list[dict[str, str]]) -> None:
    cloud.backend.buckets["images"] = "nyc3"
    assert cloud.refused("POST", "/v2/spaces/keys", {"name": "k", "grants": grants})[:2] == (400, "bad_request")
    assert cloud.backend.keys == {}


def test_a_domain_has_its_name_servers_and_the_address_it_was_created_with(cloud: EmulatedCloud) -> None:
    body = {"name": "Example.com", "ip_address": "203.0.113.9"}
    assert cloud.client.domains.create(body=body)["domain"] == {"name": "example.com", "ttl": 1800, "zone_file": None}
    read = cloud.client.domains.get("example.com")["domain"]
    assert read["ttl"] == 1800
    assert "203.0.113.9" in read["zone_file"]
    records = cloud.client.domains.list_records("example.com")["domain_records"]
    assert [record["type"] for record in records] == ["SOA", "NS", "NS", "NS", "A"]
    assert records[1] | {"id": 0} == {
        "id": 0,
        "type": "NS",
        "name": "@",
        "data": "ns1.digitalocean.com",
        "priority": None,
        "port": None,
        "ttl": 1800,
        "weight": None,
        "flags": None,
        "tag": None,
    }
    assert cloud.refused("POST", "/v2/domains", body)[2] == "domain 'example.com': name already exists"
    assert cloud.refused("POST", "/v2/domains", {"name": "example"})[0] == 422
    assert cloud.refused("POST", "/v2/domains", {"name": "exa_mple.com"})[0] == 422
    cloud.client.domains.delete("example.com")
    assert cloud.refused("GET", "/v2/domains/example.com/records")[0] == 404


def test_records_are_created_found_changed_and_deleted(cloud: EmulatedCloud) -> None:
    cloud.client.domains.create(body={"name": "example.com"})
    client = cloud.client.domains
    for body in (
        {"type": "A", "name": "git", "data": "203.0.113.5", "ttl": 60},
        {"type": "CNAME", "name": "www", "data": "git.example.com."},
        {"type": "CAA", "name": "@", "data": "letsencrypt.org.", "flags": 0, "tag": "issue"},
        {"type": "MX", "name": "@", "data": "mail.example.com.", "priority": 10},
        {"type": "SRV", "name": "_x._tcp", "data": "git.example.com.", "priority": 1, "port": 5, "weight": 0},
        {"type": "TXT", "name": "@", "data": "v=spf1 -all"},
    ):
        client.create_record("example.com", body=body)
    found = client.list_records("example.com", type="CNAME")["domain_records"]
    assert [(record["name"], record["data"], record["ttl"]) for record in found] == [("www", "git.example.com", 1800)]
    [record] = client.list_records("example.com", name="git.example.com")["domain_records"]
    changed = client.update_record("example.com", record["id"], body={"type": "A", "ttl": 300})["domain_record"]
    assert (changed["ttl"], changed["data"]) == (300, "203.0.113.5")
    client.delete_record("example.com", record["id"])
    assert cloud.refused("GET", f"/v2/domains/example.com/records/{record['id']}")[0] == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"type": "CNAME", "name": "x", "data": "git.example.com"}, "Data needs to end with a dot (.)"),
        (
            {"type": "CAA", "name": "@", "data": "ca.org", "flags": 0, "tag": "issue"},
            "Data needs to end with a dot (.)",
        ),
        ({"type": "MX", "name": "@", "data": "m.example.com", "priority": 1}, "Data needs to end with a dot (.)"),
        ({"type": "A", "name": "x", "data": "::1"}, "Data needs to be a valid IPv4 address"),
        ({"type": "AAAA", "name": "x", "data": "10.0.0.1"}, "Data needs to be a valid IPv6 address"),
        ({"type": "A", "name": "", "data": "10.0.0.1"}, "Name can't be blank"),
        ({"type": "A", "name": "x", "data": ""}, "Data can't be blank"),
        ({"type": "A", "name": "x", "data": "10.0.0.1", "ttl": 5}, "TTL must be at least 30 seconds"),
        ({"type": "MX", "name": "@", "data": "m.example.com."}, "Priority must be between 0 and 65535"),
        (
            {"type": "CAA", "name": "@", "data": "ca.org.", "flags": 0, "tag": "no"},
            "Tag must be one of issue, issuewild, iodef",
        ),
        ({"type": "CNAME", "name": "git", "data": "x.org."}, "CNAME records cannot share a name with other records"),
        ({"type": "CNAME", "name": "@", "data": "x.org."}, "CNAME records cannot share a name with other records"),
        ({"type": "A", "name": "www", "data": "10.0.0.1"}, "CNAME records cannot share a name with other records"),
        (
            {"type": "PTR", "name": "x", "data": "x.org."},
            "Type must be one of A, AAAA, CAA, CNAME, MX, NS, SOA, SRV, TXT",
        ),
    ],
)
def test_an_invalid_record_is_refused(cloud: EmulatedCloud, body: dict[str, Any], message: str) -> None:
    cloud.client.domains.create(body={"name": "example.com"})
    for made in (
        {"type": "A", "name": "git", "data": "203.0.113.5"},
        {"type": "CNAME", "name": "www", "data": "git.example.com."},
    ):
        cloud.client.domains.create_record("example.com", body=made)
    refusal = cloud.refused("POST", "/v2/domains/example.com/records", body)
    assert refusal == (422, "unprocessable_entity", message)


def test_deleting_everything_leaves_nothing_behind(cloud: EmulatedCloud) -> None:
    cloud.client.domains.create(body={"name": "example.com"})
    number = cloud.droplet()["id"]
    assert len(cloud.control.get("/resources").json()["droplets"]) == 1
    cloud.client.domains.delete("example.com")
    cloud.client.droplets.destroy(number)
    eventually(lambda: not any(cloud.control.get("/resources").json().values()))


def test_a_token_without_the_scope_of_a_request_is_refused(cloud: EmulatedCloud) -> None:
    cloud.control.put("/account", json={"scopes": ["account:read", "droplet:read"]}).raise_for_status()
    assert cloud.get("/v2/account")["account"]["droplet_limit"] == 25
    assert "reserved_ip_limit" not in cloud.get("/v2/account")["account"]
    refusal = (403, "forbidden", "You are not authorized to perform this operation.")
    assert cloud.refused("POST", "/v2/droplets", DROPLET) == refusal
    assert cloud.refused("GET", "/v2/sizes") == refusal
    assert cloud.get("/v2/droplets")["droplets"] == []


def test_records_are_created_and_deleted_with_the_scope_to_update_a_domain(cloud: EmulatedCloud) -> None:
    cloud.client.domains.create(body={"name": "example.com"})
    cloud.control.put("/account", json={"scopes": ["domain:update"]}).raise_for_status()
    record = {"type": "A", "name": "www", "data": "203.0.113.7"}
    number = cloud.client.domains.create_record("example.com", body=record)["domain_record"]["id"]
    cloud.client.domains.delete_record("example.com", number)
    assert cloud.refused("POST", "/v2/domains", {"name": "example.org"})[0] == 403
    assert cloud.refused("DELETE", "/v2/domains/example.com")[0] == 403


def test_the_control_panel_names_the_scopes_of_a_token_and_the_api_does_not(cloud: EmulatedCloud) -> None:
    panel, path = {"Host": "cloud.digitalocean.com"}, "/v1/oauth/token/info"
    assert cloud.http.get(path, headers=panel).json()["scopes"] == ["read", "write"]
    cloud.control.put("/account", json={"scopes": ["vpc:read"], "tokens": {"dop_v1_reads": ["droplet:read"]}})
    assert cloud.http.get(path, headers=panel).json()["scopes"] == ["vpc:read"]
    reader = {"Authorization": "Bearer dop_v1_reads"}
    assert cloud.http.get(path, headers=panel | reader).json()["scopes"] == ["droplet:read"]
    assert cloud.http.get(path, headers=panel | {"Authorization": "Bearer dop_v1_other"}).status_code == 401
    assert cloud.http.get(path).status_code == 404


def test_further_tokens_have_scopes_of_their_own(cloud: EmulatedCloud) -> None:
    cloud.control.put("/account", json={"tokens": {"dop_v1_reads": ["droplet:read"]}}).raise_for_status()
    reader = {"Authorization": "Bearer dop_v1_reads"}
    assert cloud.http.get("/v2/droplets", headers=reader).json()["droplets"] == []
    refusal = cloud.http.post("/v2/droplets", headers=reader, json=DROPLET)
    assert (refusal.status_code, refusal.json()["message"]) == (
        403,
        "You are not authorized to perform this operation.",
    )
    assert cloud.http.get("/v2/droplets", headers={"Authorization": "Bearer dop_v1_other"}).status_code == 401
    assert cloud.droplet()["id"]


@pytest.mark.parametrize("standing", [{"email_verified": False}, {"status": "locked"}])
def test_an_account_that_is_not_in_good_standing_creates_nothing(
    cloud: EmulatedCloud, standing: dict[str, object]
) -> None:
    cloud.control.put("/account", json=standing).raise_for_status()
    assert cloud.refused("POST", "/v2/droplets", DROPLET)[:2] == (403, "forbidden")
    assert {name: cloud.get("/v2/account")["account"][name] for name in standing} == standing


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_route_needs_a_scope(route: Route) -> None:
    path = re.sub(r"\{[^}]+\}", "7", route.path)
    assert [method for method in route.methods or () if not scope_of(method, path)] == []


def test_a_new_spaces_key_reaches_spaces_some_time_after_the_api_has_returned_it(tmp_path: Path) -> None:
    with EmulatedCloud(tmp_path, spaces_key_seconds=0.3) as slow:
        body = {"name": "key", "grants": [{"bucket": "", "permission": "fullaccess"}]}
        key = slow.client.spaces_key.create(body=body)["key"]["access_key"]
        assert f"put_spaces_key {key}" not in slow.backend.calls
        eventually(lambda: f"put_spaces_key {key}" in slow.backend.calls)
