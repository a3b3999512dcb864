"""Managed databases: what the API says of them, what it refuses, and what the machinery is told."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from dnslib import DNSRecord  # type: ignore[import-untyped]

from tests.sandbox.digitalocean.state.backend import Rule
from tests.sandbox_tests.support.emulated_cloud import LOOPBACK, EmulatedCloud
from tests.sandbox_tests.support.waiting import eventually

PG = {
    "name": "gitlab-db",
    "engine": "pg",
    "version": "17",
    "size": "db-s-1vcpu-2gb",
    "region": "nyc3",
    "num_nodes": 1,
}
VALKEY = PG | {"name": "gitlab-cache", "engine": "valkey", "version": "8", "size": "db-s-1vcpu-1gb"}


def online(cloud: EmulatedCloud, **changes: Any) -> dict[str, Any]:
    """A cluster that accepts connections."""
    made = cloud.client.databases.create_cluster(body=PG | changes)["database"]

    def ready() -> dict[str, Any] | None:
        found: dict[str, Any] = cloud.client.databases.get_cluster(made["id"])["database"]
        return found if found["status"] == "online" else None

    return eventually(ready)


def authority_of(cloud: EmulatedCloud, cluster: dict[str, Any]) -> x509.Certificate:
    """What the API returns as the authority of a cluster."""
    answer = cloud.get(f"/v2/databases/{cluster['id']}/ca")["ca"]["certificate"]
    return x509.load_pem_x509_certificate(base64.b64decode(answer))


def certificate_of(cloud: EmulatedCloud) -> x509.Certificate:
    """What the node of the only cluster presents."""
    [server] = cloud.backend.databases.values()
    return x509.load_pem_x509_certificate(server.certificate.encode())


def inbound(cloud: EmulatedCloud) -> tuple[Rule, ...]:
    """What may reach the node of the only cluster."""
    [entry] = cloud.backend.picture.firewalls
    return entry.inbound


def test_a_cluster_is_created_and_comes_online_with_its_administrator(cloud: EmulatedCloud) -> None:
    cloud.hold("database.create")
    made = cloud.client.databases.create_cluster(body=PG)["database"]
    assert (made["status"], made["users"], made["db_names"]) == ("creating", None, None)
    assert cloud.refused("POST", f"/v2/databases/{made['id']}/dbs", {"name": "x"})[2] == "cluster not found"
    cloud.hold()
    there = eventually(
        lambda: next((each for each in cloud.get("/v2/databases")["databases"] if each["status"] == "online"), None)
    )
    assert [user["name"] for user in there["users"]] == ["doadmin"]
    assert there["db_names"] == ["defaultdb"]
    connection = there["connection"]
    assert (connection["port"], connection["user"], connection["ssl"]) == (25060, "doadmin", True)
    assert there["private_connection"]["host"] == f"private-{connection['host']}"
    [server] = cloud.backend.databases.values()
    assert server.users == {"doadmin": connection["password"]}
    assert cloud.client.vpcs.list_members(there["private_network_uuid"])["members"][0]["name"] == "gitlab-db"


def test_the_names_of_a_cluster_resolve_to_its_public_and_private_address(cloud: EmulatedCloud) -> None:
    made = online(cloud)
    [node] = cloud.backend.machines.values()
    for host, address in (
        (made["connection"]["host"], node.public_ipv4),
        (made["private_connection"]["host"], node.private_ipv4),
    ):
        reply = DNSRecord.parse(DNSRecord.question(host).send(LOOPBACK, cloud.dns_port))
        assert [str(record.rdata) for record in reply.rr] == [address]


def test_the_node_has_a_certificate_for_both_names_of_the_authority_that_the_api_returns(cloud: EmulatedCloud) -> None:
    made = online(cloud)
    certificate, authority = certificate_of(cloud), authority_of(cloud, made)
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [made["connection"]["host"], made["private_connection"]["host"]]
    assert names.get_values_for_type(x509.DNSName) == hosts


def test_the_certificate_of_valkey_is_a_public_authoritys_and_not_of_the_one_that_the_api_returns(
    cloud: EmulatedCloud,
) -> None:
    made = online(cloud, **VALKEY)
    certificate = certificate_of(cloud)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(cloud.ca_certificate.read_bytes()))
    with pytest.raises(ValueError, match="does not match certificate issuer"):
        certificate.verify_directly_issued_by(authority_of(cloud, made))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "9"}, "invalid cluster engine version"),
        ({"engine": "redis"}, "caching clusters can no longer be created"),
        ({"engine": "oracle"}, "invalid cluster engine"),
        ({"name": "with_underscore"}, "invalid cluster name"),
        ({"size": "s-1vcpu-1gb"}, "invalid size"),
        ({"region": "sfo1"}, "invalid region"),
        ({"size": "db-s-1vcpu-1gb", "num_nodes": 2}, "invalid number of nodes for this size"),
        ({"storage_size_mib": 5}, "invalid storage size"),
        ({"private_network_uuid": "none"}, "invalid private network UUID"),
    ],
)
def test_a_cluster_that_is_not_offered_is_refused(cloud: EmulatedCloud, changes: dict[str, Any], message: str) -> None:
    assert cloud.refused("POST", "/v2/databases", PG | changes) == (422, "unprocessable_entity", message)
    assert "databases" not in cloud.exists()


def test_names_of_clusters_are_unique(cloud: EmulatedCloud) -> None:
    online(cloud)
    assert cloud.refused("POST", "/v2/databases", PG)[0] == 422


def test_every_offered_version_size_and_region_is_in_the_options(cloud: EmulatedCloud) -> None:
    options = cloud.client.databases.list_options()["options"]
    assert "17" in options["pg"]["versions"]
    assert "nyc3" in options["valkey"]["regions"]
    alone = next(layout["sizes"] for layout in options["pg"]["layouts"] if layout["num_nodes"] == 1)
    assert {"db-s-1vcpu-1gb", "db-s-1vcpu-2gb"} <= set(alone)


def test_without_trusted_sources_anybody_may_try_and_with_them_only_they(cloud: EmulatedCloud) -> None:
    made = online(cloud)
    assert inbound(cloud) == (Rule("tcp", "25060", ("0.0.0.0/0", "::/0")),)
    rules = f"/v2/databases/{made['id']}/firewall"
    body = {"rules": [{"type": "ip_addr", "value": "192.0.2.0/24"}]}
    assert cloud.http.put(rules, json=body).status_code == 204
    assert inbound(cloud) == (Rule("tcp", "25060", ("192.0.2.0/24",)),)
    [kept] = cloud.get(rules)["rules"]
    assert (kept["type"], kept["value"], kept["cluster_uuid"]) == ("ip_addr", "192.0.2.0/24", made["id"])
    assert cloud.http.put(rules, json={"rules": [{"type": "tag", "value": "nobody"}]}).status_code == 204
    assert inbound(cloud) == ()
    assert cloud.refused("PUT", rules, {"rules": [{"type": "ip_addr", "value": "x"}]})[0] == 422
    assert cloud.refused("PUT", rules, {"rules": [{"type": "droplet", "value": "1"}]})[0] == 422


def test_a_tag_is_a_trusted_source_for_every_droplet_that_carries_it(cloud: EmulatedCloud) -> None:
    made = online(cloud)
    rule = {"rules": [{"type": "tag", "value": "gitlab"}]}
    cloud.http.put(f"/v2/databases/{made['id']}/firewall", json=rule).raise_for_status()
    droplet = cloud.droplet(tags=["gitlab"])
    private = next(net["ip_address"] for net in droplet["networks"]["v4"] if net["type"] == "private")

    def peers() -> set[str]:
        found = [entry for entry in cloud.backend.picture.firewalls if entry.machine_id != droplet["id"]]
        return {peer for entry in found for rule in entry.inbound for peer in rule.peers}

    assert f"{private}/32" in peers()


def test_users_and_databases_are_created_on_the_server_and_deleted_with_what_they_hold(cloud: EmulatedCloud) -> None:
    made = online(cloud)
    path = f"/v2/databases/{made['id']}"
    user = cloud.client.databases.add_user(made["id"], body={"name": "gitlab"})["user"]
    assert user["role"] == "normal"
    cloud.client.databases.add(made["id"], body={"name": "gitlabhq_production"})
    [server] = cloud.backend.databases.values()
    assert server.users["gitlab"] == user["password"]
    assert server.databases == ("defaultdb", "gitlabhq_production")
    assert cloud.refused("POST", f"{path}/users", {"name": "gitlab"})[0] == 422
    assert cloud.refused("POST", f"{path}/dbs", {"name": "gitlabhq_production"})[0] == 422
    assert cloud.refused("DELETE", f"{path}/users/doadmin")[0] == 422
    assert cloud.http.delete(f"{path}/dbs/gitlabhq_production").status_code == 204
    assert cloud.http.delete(f"{path}/users/gitlab").status_code == 204
    assert cloud.refused("GET", f"{path}/users/gitlab") == (404, "not_found", "user not found")
    assert cloud.refused("GET", f"{path}/dbs/gitlabhq_production") == (404, "not_found", "database not found")


def test_a_cluster_grows_and_gets_more_connections_and_never_less_storage(cloud: EmulatedCloud) -> None:
    made = online(cloud)
    path = f"/v2/databases/{made['id']}"
    body = {"size": "db-s-2vcpu-4gb", "num_nodes": 1, "storage_size_mib": 61440}
    assert cloud.http.put(f"{path}/resize", json=body).status_code == 202
    eventually(lambda: cloud.get(path)["database"]["status"] == "online")
    [server] = cloud.backend.databases.values()
    assert (server.connections, server.memory_mb) == (97, 4096)
    body = {"size": "db-s-1vcpu-2gb", "num_nodes": 1, "storage_size_mib": 30720}
    assert cloud.refused("PUT", f"{path}/resize", body)[2] == "storage size cannot be decreased"


def test_valkey_has_an_eviction_policy_and_no_databases(cloud: EmulatedCloud) -> None:
    made = online(cloud, **VALKEY)
    path = f"/v2/databases/{made['id']}"
    assert made["connection"]["uri"].startswith("rediss://default:")
    assert cloud.get(f"{path}/eviction_policy") == {"eviction_policy": "noeviction"}
    assert cloud.http.put(f"{path}/eviction_policy", json={"eviction_policy": "allkeys_lru"}).status_code == 204
    [server] = cloud.backend.databases.values()
    assert server.eviction_policy == "allkeys-lru"
    assert cloud.refused("POST", f"{path}/dbs", {"name": "x"})[2] == "operation is not supported for this cluster type"
    assert cloud.refused("PUT", f"{path}/eviction_policy", {"eviction_policy": "never"})[0] == 422
    assert cloud.http.post(f"{path}/users", json={"name": "x"}).status_code == 501


def test_a_maintenance_window_is_kept(cloud: EmulatedCloud) -> None:
    path = f"/v2/databases/{online(cloud)['id']}"
    assert cloud.http.put(f"{path}/maintenance", json={"day": "sunday", "hour": "03:00"}).status_code == 204
    window = cloud.get(path)["database"]["maintenance_window"]
    assert (window["day"], window["hour"]) == ("sunday", "03:00:00")
    assert cloud.refused("PUT", f"{path}/maintenance", {"day": "someday", "hour": "03:00"})[0] == 422


def test_a_deleted_cluster_leaves_nothing_behind_and_its_network_can_go(cloud: EmulatedCloud) -> None:
    cloud.client.vpcs.create(body={"name": "first", "region": "nyc3"})
    vpc = cloud.client.vpcs.create(body={"name": "own", "region": "nyc3"})["vpc"]
    made = online(cloud, private_network_uuid=vpc["id"])
    network = f"/v2/vpcs/{vpc['id']}"
    assert cloud.refused("DELETE", network) == (403, "forbidden", "Can not delete VPC with members")
    assert cloud.http.delete(f"/v2/databases/{made['id']}").status_code == 204
    assert cloud.refused("GET", f"/v2/databases/{made['id']}") == (404, "not_found", "cluster not found")
    assert (cloud.backend.machines, cloud.backend.databases) == ({}, {})
    assert cloud.http.delete(network).status_code == 204


def test_a_token_without_the_scope_for_it_sees_no_password(cloud: EmulatedCloud) -> None:
    made = online(cloud)
    path = f"/v2/databases/{made['id']}"
    account = {"scopes": ["database:read", "database:update"]}
    cloud.control.put("/account", json=account).raise_for_status()
    assert cloud.get(path)["database"]["connection"]["password"] == ""
    assert cloud.refused("DELETE", path)[0] == 403
    account = {"scopes": ["database:read", "database:view_credentials"]}
    cloud.control.put("/account", json=account).raise_for_status()
    assert cloud.get(path)["database"]["connection"]["password"] == made["connection"]["password"]


def test_a_cluster_that_was_being_created_is_completed_by_the_next_process(cloud: EmulatedCloud) -> None:
    cloud.hold("database.create")
    made = cloud.client.databases.create_cluster(body=PG)["database"]
    cloud.restart()
    cloud.hold()
    eventually(lambda: cloud.get(f"/v2/databases/{made['id']}")["database"]["status"] == "online")
