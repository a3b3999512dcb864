"""Managed databases: what the program declares, who may reach it, and what stays until GitLab has its data back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pulumi import RunError

from components.api import RefusedError
from components.settings import SettingsError
from components.settings.databases import REGISTRY_CONNECTIONS
from tests.unit.engine import RecordingEngine, run_program
from tests.unit.test_nasty_stack_files import shell
from tests.unit.test_state import KEPT

BOTH: dict[str, Any] = {"postgresql": {"kind": "managed"}, "valkey": {"kind": "managed"}}
EVERYTHING: dict[str, Any] = {"removal": "everything"}
MINE = {**KEPT, "kept": False}
USED = {"has_databases": ["postgresql", "valkey"], "uses_databases": ["postgresql", "valkey"]}
MOVED_BACK = {"has_databases": ["postgresql", "valkey"]}
URN = "urn:pulumi:test::slipway::slipway:index:ManagedDatabases$digitalocean:index/databaseCluster:DatabaseCluster::"
NETWORK = "urn:pulumi:test::slipway::slipway:index:Network$digitalocean:index/vpc:Vpc::network-vpc"
CLUSTER_ID = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"


def cluster(engine: str, **changes: Any) -> dict[str, Any]:
    """A cluster in the state."""
    return {
        "name": f"slipway-test-{engine}",
        "region": "nyc3",
        "size": "db-s-2vcpu-4gb",
        "nodeCount": 1.0,
        "version": {"postgresql": "17", "valkey": "8"}[engine],
        "privateNetworkUuid": "network",
        "storageSizeMib": "61440",
        **changes,
    }


def state(**changes: Any) -> dict[str, dict[str, Any]]:
    """The clusters in the state of a stack, and its network."""
    found = {f"{URN}databases-{engine}": cluster(engine, **changes) for engine in BOTH}
    return {**found, NETWORK: {"name": "slipway-test-nyc3", "ipRange": "10.20.0.0/24"}}


def after(deployed: dict[str, Any], known: dict[str, Any] | None = None, **settings: Any) -> RecordingEngine:
    """The update that follows `deployed`, with the clusters in the state."""
    engine = RecordingEngine(known=state() if known is None else known)
    return run_program({"deployed": deployed}, engine=engine, **settings)


def refusals(known: dict[str, Any], listed: dict[str, Any] | None = None, **settings: Any) -> list[str]:
    """The errors of a preview."""
    engine = RecordingEngine(known=known, listed=listed or {})
    with pytest.raises((SettingsError, RunError)) as caught:
        run_program({"deployed": {**MINE, **USED}} if known else None, engine=engine, dry_run=True, **settings)
    assert not engine.of_type(":DatabaseCluster")
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines() if line.startswith("  - ")]


def declared(engine: RecordingEngine) -> list[str]:
    return [one.name for one in engine.custom if one.name.startswith("databases")]


@pytest.fixture(scope="module")
def engine() -> RecordingEngine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return run_program(databases=BOTH)


def test_the_clusters_are_in_the_stacks_network_with_the_pinned_versions(engine: RecordingEngine) -> None:
    tables, memory = (engine.named(f"databases-{one}").inputs for one in BOTH)
    assert (tables["engine"], tables["version"], tables["name"]) == ("pg", "17", "slipway-test-postgresql")
    assert (memory["engine"], memory["version"], memory["name"]) == ("valkey", "8", "slipway-test-valkey")
    assert tables["privateNetworkUuid"] == memory["privateNetworkUuid"] == "id-of-network-vpc"
    assert (tables["size"], tables["nodeCount"]) == ("db-s-4vcpu-8gb", 1)
    assert memory["evictionPolicy"] == "noeviction"
    assert "evictionPolicy" not in tables
    assert tables["maintenanceWindows"] == [{"day": "sunday", "hour": "03:00:00"}]


@pytest.mark.parametrize("name", ["postgresql", "valkey"])
def test_only_the_server_may_reach_a_cluster_and_before_anything_is_in_it(engine: RecordingEngine, name: str) -> None:
    guard = engine.named(f"databases-{name}-firewall")
    assert guard.inputs["rules"] == [{"type": "tag", "value": "slipway-test-server"}]
    inside = [one for one in engine.custom if one.inputs.get("clusterId") == f"id-of-databases-{name}"]
    assert all(guard.name in one.depends_on for one in inside if one is not guard)
    first = engine.named("gitlab-databases")
    assert {f"databases-{name}-firewall", "databases-gitlab"} & first.depends_on


def test_the_network_has_the_time_that_clusters_take_to_leave_it(engine: RecordingEngine) -> None:
    assert engine.named("network-vpc").request.customTimeouts.delete == "15m"


def test_nothing_in_a_cluster_goes_away_before_the_cluster(engine: RecordingEngine) -> None:
    for name in declared(engine):
        one = engine.named(name)
        if one.type.endswith(":DatabaseCluster"):
            assert not one.deleted_with
        else:
            assert one.deleted_with == {"databases-valkey-firewall": "databases-valkey"}.get(
                name, "databases-postgresql"
            )


@pytest.mark.parametrize(("removal", "is_kept"), [("keep-data", True), ("everything", False)])
def test_kept_data_includes_the_clusters_and_what_keeps_them_closed(removal: str, is_kept: bool) -> None:
    engine = run_program(databases=BOTH, removal=removal)
    assert len(declared(engine)) == 6
    for name in declared(engine):
        request = engine.named(name).request
        assert (request.protect, request.retainOnDelete) == (is_kept, is_kept)


def test_gitlab_and_the_registry_use_them_over_verified_tls(engine: RecordingEngine) -> None:
    sent = shell(engine, "gitlab-configuration")
    rb = sent["GITLAB_RB"]
    assert "\npostgresql['enable'] = false\n" in rb
    assert "\nredis['enable'] = false\n" in rb
    host = "private-slipway-test-postgresql.m.db.ondigitalocean.com"
    for line in (
        f"gitlab_rails['db_host'] = '{host}'",
        "gitlab_rails['db_port'] = 25060",
        "gitlab_rails['db_sslmode'] = 'verify-full'",
        "gitlab_rails['db_sslrootcert'] = '/etc/gitlab/ssl/slipway-database.crt'",
        f"registry['database']['host'] = '{host}'",
        "registry['database']['sslmode'] = 'verify-full'",
        f"registry['database']['pool'] = {{ 'maxopen' => {REGISTRY_CONNECTIONS} }}",
        "gitlab_rails['redis_host'] = 'private-slipway-test-valkey.m.db.ondigitalocean.com'",
        "gitlab_rails['redis_ssl'] = true",
    ):
        assert f"\n{line}\n" in rb
    # It would be the only one that is trusted, and a public authority signs for Valkey.
    assert "redis_tls_ca_cert_file" not in rb
    assert rb.index("from_file '/etc/gitlab/registry.rb'") < rb.index("registry['database']['host']")
    prepared = shell(engine, "gitlab-databases")
    assert (prepared["DATABASE_CA"], prepared["VALKEY_CA"]) == ("CERTIFICATE OF THE AUTHORITY",) * 2
    assert (sent["USES_DATABASE"], sent["USES_VALKEY"]) == ("yes", "yes")


def test_no_password_is_in_gitlab_rb_or_shown_in_a_preview(engine: RecordingEngine) -> None:
    sent = shell(engine, "gitlab-configuration")
    known = json.loads(sent["SECRETS_JSON"])
    assert known == {
        "databases.postgresql": "password-databases-user",
        "databases.valkey": "admin-password-databases-valkey",
    }
    passwords = {*known.values(), "admin-password-databases-postgresql"}
    assert not [one for one in passwords if one in sent["GITLAB_RB"]]
    # GitLab's own user is no administrator.
    prepared = shell(engine, "gitlab-databases")
    assert prepared["DATABASE_PASSWORD"] == known["databases.postgresql"] != prepared["DATABASE_ADMIN_PASSWORD"]
    for step in ("gitlab-databases", "gitlab-configuration"):
        shown = json.dumps(engine.named(f"{step}-rendered").inputs)
        assert "GITLAB_RB" not in shown or "db_host" in shown
    cluster_secrets = set(engine.named("databases-postgresql").request.additionalSecretOutputs)
    assert {"password", "uri", "privateUri"} <= cluster_secrets
    assert "password" in engine.named("databases-user").request.additionalSecretOutputs


def test_the_databases_are_prepared_between_the_package_and_the_configuration(engine: RecordingEngine) -> None:
    assert "gitlab-package" in engine.named("gitlab-databases").depends_on
    assert "gitlab-databases" in engine.named("gitlab-configuration").depends_on
    sent = shell(engine, "gitlab-databases")
    assert sent["REGISTRY_DATABASE"].startswith("registry_")
    assert "databases-gitlab" in engine.named("gitlab-databases").depends_on


@pytest.mark.parametrize(("one", "other"), [("postgresql", "valkey"), ("valkey", "postgresql")])
def test_each_of_the_two_can_be_managed_alone(one: str, other: str) -> None:
    engine = run_program(databases={one: {"kind": "managed"}})
    assert [cluster.name for cluster in engine.of_type(":DatabaseCluster")] == [f"databases-{one}"]
    sent = shell(engine, "gitlab-configuration")
    uses = {"postgresql": sent["USES_DATABASE"], "valkey": sent["USES_VALKEY"]}
    assert uses == {one: "yes", other: "no"}
    assert list(json.loads(sent["SECRETS_JSON"])) == [f"databases.{one}"]


def test_a_stack_with_the_databases_of_the_package_has_none_of_this() -> None:
    engine = run_program()
    assert declared(engine) == []
    assert not [one for one in engine.registrations if one.name == "gitlab-databases"]
    sent = shell(engine, "gitlab-configuration")
    assert "db_host" not in sent["GITLAB_RB"]
    assert (sent["DATABASE_HOST"], sent["VALKEY_HOST"], sent["SECRETS_JSON"]) == ("", "", "")
    assert not [one for one in engine.calls if "Database" in one[0]]


def test_size_standby_nodes_storage_and_maintenance_are_those_of_the_settings() -> None:
    tables = {"kind": "managed", "size": "db-s-6vcpu-16gb", "standbyNodes": 1, "storageSizeGb": 300}
    engine = run_program(databases={"postgresql": tables, "maintenanceDay": "monday", "maintenanceHour": 22})
    inputs = engine.named("databases-postgresql").inputs
    assert (inputs["size"], inputs["nodeCount"], inputs["storageSizeMib"]) == ("db-s-6vcpu-16gb", 2, "307200")
    assert inputs["maintenanceWindows"] == [{"day": "monday", "hour": "22:00:00"}]


def test_the_update_that_takes_the_data_back_keeps_the_clusters_as_they_are() -> None:
    engine = after({**MINE, **USED}, **EVERYTHING)
    assert len(declared(engine)) == 6
    assert engine.named("databases-postgresql").inputs["size"] == "db-s-2vcpu-4gb"
    sent = shell(engine, "gitlab-configuration")
    assert (sent["USES_DATABASE"], sent["USES_VALKEY"]) == ("no", "no")
    assert sent["DATABASE_HOST"]
    assert sent["SECRETS_JSON"] == ""
    assert "db_host" not in sent["GITLAB_RB"]
    deployed = engine.exports["deployed"]
    assert deployed["has_databases"] == ["postgresql", "valkey"]
    assert "uses_databases" not in deployed


def test_the_next_update_deletes_them() -> None:
    assert declared(after({**MINE, **MOVED_BACK}, **EVERYTHING)) == []


def test_protected_clusters_stay_although_nothing_uses_them_and_the_preview_says_what_they_cost() -> None:
    engine = run_program({"deployed": {**KEPT, **MOVED_BACK}}, engine=RecordingEngine(known=state()), dry_run=True)
    assert len(declared(engine)) == 6
    assert "60.90  managed postgresql, 1 x db-s-2vcpu-4gb (not used any more)" in "\n".join(engine.notes)


def test_clusters_of_an_update_that_failed_stay_until_their_data_has_moved_back() -> None:
    engine = after(MINE, **EVERYTHING)
    assert len(declared(engine)) == 6
    assert shell(engine, "gitlab-configuration")["USES_DATABASE"] == "no"


def test_a_cluster_keeps_the_version_that_it_has() -> None:
    known = {f"{URN}databases-valkey": cluster("valkey", size="db-s-1vcpu-1gb", version="9")}
    engine = after({**MINE, **USED}, known, databases=BOTH)
    assert engine.named("databases-valkey").inputs["version"] == "9"


def test_a_preview_tells_the_cost_of_all_nodes() -> None:
    tables = {"kind": "managed", "size": "db-s-4vcpu-8gb", "standbyNodes": 1, "storageSizeGb": 160}
    engine = run_program(dry_run=True, databases={"postgresql": tables, "valkey": {"kind": "managed"}})
    notes = "\n".join(engine.notes)
    assert "244.20  managed postgresql, 2 x db-s-4vcpu-8gb" in notes
    assert "15.15  managed valkey, 1 x db-s-1vcpu-1gb" in notes
    assert "20 GiB of further storage" in notes


def test_alerts_watch_the_clusters_that_gitlab_uses() -> None:
    alerts = {"email": ["ops@example.test"], "diskPercent": 75}
    engine = run_program(databases={"postgresql": {"kind": "managed"}}, alerts=alerts)
    of_databases = [one.inputs for one in engine.of_type(":MonitorAlert") if "dbaas" in one.inputs["type"]]
    assert {(one["type"].rpartition("/")[2], one["value"]) for one in of_databases} == {
        ("disk_utilization_alerts", 75),
        ("memory_utilization_alerts", 90),
        ("cpu_alerts", 90),
    }
    assert all(one["entities"] == ["id-of-databases-postgresql"] for one in of_databases)
    moved_back = after({**MINE, **USED}, alerts=alerts, **EVERYTHING)
    assert not [one for one in moved_back.of_type(":MonitorAlert") if "dbaas" in one.inputs["type"]]


@pytest.mark.parametrize(
    ("server", "size", "is_enough"),
    [
        ("s-2vcpu-4gb", "db-s-1vcpu-2gb", False),
        ("s-2vcpu-4gb", "db-s-2vcpu-4gb", True),
        ("s-4vcpu-8gb", "db-s-2vcpu-4gb", False),
        ("s-4vcpu-8gb", "db-s-4vcpu-8gb", True),
        ("s-8vcpu-16gb", "db-s-4vcpu-8gb", False),
        ("s-8vcpu-16gb", "db-s-6vcpu-16gb", True),
    ],
)
def test_a_cluster_has_to_accept_as_many_connections_as_gitlab_may_need(
    server: str, size: str, is_enough: bool
) -> None:
    settings: dict[str, Any] = {
        "server": {"size": server},
        "databases": {"postgresql": {"kind": "managed", "size": size}},
    }
    if is_enough:
        assert declared(run_program(**settings))
        return
    [found] = refusals({}, **settings)
    assert found.startswith(f"databases.postgresql.size: {size} accepts ")


@pytest.mark.parametrize(
    "line",
    [
        "postgresql['max_connections'] = 400",
        "gitlab_rails['db_sslmode'] = 'require'",
        "redis['maxmemory'] = '1gb'",
        "gitlab_rails['redis_host'] = 'elsewhere'",
    ],
)
def test_lines_of_gitlab_rb_cannot_override_the_connection(line: str) -> None:
    [found] = refusals({}, databases=BOTH, gitlab={"extraConfiguration": line})
    assert found.startswith("gitlab.extraConfiguration: sets ")
    assert run_program(gitlab={"extraConfiguration": line})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"postgresql": {"kind": "managed", "size": "db-s-9vcpu-9gb"}},
            "databases.postgresql.size: db-s-9vcpu-9gb is not a size of managed PostgreSQL",
        ),
        (
            {"valkey": {"kind": "managed", "standbyNodes": 1}},
            "databases.valkey.standbyNodes: db-s-1vcpu-1gb cannot have 1; DigitalOcean would refuse",
        ),
    ],
)
def test_sizes_that_the_account_is_not_offered_are_refused(settings: dict[str, Any], words: str) -> None:
    [found] = refusals({}, databases=settings)
    assert found.startswith(words)


def test_a_region_and_a_version_that_are_not_offered_are_refused() -> None:
    offer = {
        "pg": {"regions": ["fra1"], "versions": ["18"], "layouts": [{"num_nodes": 1, "sizes": ["db-s-4vcpu-8gb"]}]}
    }
    found = refusals({}, {"/v2/databases/options": offer}, databases={"postgresql": {"kind": "managed"}})
    assert len(found) == 2
    assert found[0].startswith("databases.postgresql.kind: DigitalOcean has no managed PostgreSQL in nyc3")
    assert found[1].startswith("databases.postgresql.kind: DigitalOcean does not offer PostgreSQL 17")


@pytest.mark.parametrize("gigabytes", [60, 290, 30720])
def test_a_storage_that_the_size_cannot_have_is_refused(gigabytes: int) -> None:
    tables = {"kind": "managed", "size": "db-s-4vcpu-8gb", "storageSizeGb": gigabytes}
    [line] = refusals({}, databases={"postgresql": tables})
    assert line.startswith(
        f"databases.postgresql.storageSizeGb: {gigabytes} is not a storage of db-s-4vcpu-8gb, which has 140 to 280 GiB"
    )


@pytest.mark.parametrize(
    ("known", "settings", "words"),
    [
        (
            {"size": "db-s-6vcpu-16gb"},
            {"databases": {"postgresql": {"kind": "managed"}}},
            "databases.postgresql.size: db-s-4vcpu-8gb cannot follow",
        ),
        (
            {"size": "db-s-1vcpu-2gb"},
            {"databases": {"postgresql": {"kind": "managed", "storageSizeGb": 40}}},
            "databases.postgresql.storageSizeGb: 40 cannot follow 60",
        ),
        (
            {"size": "db-s-1vcpu-2gb", "version": "16"},
            {"databases": {"postgresql": {"kind": "managed"}}},
            "databases.postgresql.kind: the cluster has PostgreSQL 16, and GitLab needs 17",
        ),
    ],
)
def test_what_digitalocean_does_to_no_cluster_is_refused(
    known: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    found = refusals(state(**known), **settings, **EVERYTHING)
    assert [line for line in found if line.startswith(words)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"region": "fra1"}, "region: fra1 cannot follow nyc3; the cluster slipway-test-postgresql would be replaced"),
        ({"server": {"vpcCidr": "10.30.0.0/24"}}, "server.vpcCidr: 10.30.0.0/24 cannot follow 10.20.0.0/24"),
    ],
)
def test_a_cluster_is_not_replaced_because_the_network_is(settings: dict[str, Any], words: str) -> None:
    found = refusals(state(size="db-s-1vcpu-2gb"), databases=BOTH, **EVERYTHING, **settings)
    assert [line for line in found if line.startswith(words)]


def test_a_cluster_of_the_same_name_that_no_state_has_is_refused_with_the_way_to_take_it_over() -> None:
    listed = {"/v2/databases": [{"id": CLUSTER_ID, "name": "slipway-test-postgresql"}]}
    [found] = refusals({}, listed, databases={"postgresql": {"kind": "managed"}})
    assert found.startswith("databases.postgresql.kind: the account has a cluster slipway-test-postgresql")
    assert f"recover.postgresql: {CLUSTER_ID}" in found


def test_a_lost_state_takes_over_the_cluster_and_what_is_in_it() -> None:
    listed = {"/v2/databases": [{"id": CLUSTER_ID, "name": "slipway-test-postgresql"}]}
    tables = {"postgresql": {"kind": "managed"}}
    engine = run_program(engine=RecordingEngine(listed=listed), databases=tables, recover={"postgresql": CLUSTER_ID})
    imported = {one.name: one.request.importId for one in engine.custom if one.request.importId}
    assert imported == {
        "databases-postgresql": CLUSTER_ID,
        "databases-postgresql-firewall": CLUSTER_ID,
        "databases-gitlab": f"{CLUSTER_ID},gitlabhq_production",
        "databases-user": f"{CLUSTER_ID},gitlab",
    }
    known = {f"{URN}databases-postgresql": cluster("postgresql", size="db-s-1vcpu-2gb")}
    again = run_program(
        {"deployed": {**MINE, **USED}},
        engine=RecordingEngine(known=known),
        databases=tables,
        recover={"postgresql": CLUSTER_ID},
    )
    assert not [one for one in again.custom if one.request.importId]


def test_a_token_that_may_not_read_databases_is_named() -> None:
    listed = {"/v2/databases": RefusedError("403", 403)}
    [found] = refusals({}, listed, databases=BOTH)
    assert found.startswith("DIGITALOCEAN_TOKEN: may not read managed databases (403)")
