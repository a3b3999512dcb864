"""`python -m tools strays`: what it finds, what it leaves alone, and what it removes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from components import api as api_module
from tests.unit.account_api import AccountApi, served
from tests.unit.test_down import resource
from tools import buckets, cli, clusters
from tools import strays as module
from tools.state import StackState


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[AccountApi]:
    with served(monkeypatch) as served_api:
        yield served_api


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """The resources of each stack of the back end; no bucket anywhere, and a stack file that names a zone."""
    stacks: dict[str, list[dict[str, Any]]] = {"staging": [], "production": []}
    monkeypatch.setattr(module, "all_stacks", lambda: [f"organization/slipway/{name}" for name in stacks])
    monkeypatch.setattr(
        StackState,
        "of_stack",
        lambda name: StackState(name, {"deployment": {"resources": stacks[name.rpartition("/")[2]]}}),
    )
    monkeypatch.setattr(buckets, "found", lambda *_: iter([]))
    monkeypatch.setattr(module, "stack_files", lambda: {"staging": {"slipway:domain": "staging.test"}})
    return stacks


def droplet(number: int, name: str, *tags: str) -> dict[str, Any]:
    return {"id": number, "name": name, "tags": list(tags), "size": {"price_monthly": 48.0}, "region": {"slug": "nyc3"}}


def everything(api: AccountApi) -> None:
    """One thing of every kind, on later pages than the first where the kind has several."""
    foreign = [droplet(number, f"theirs-{number}") for number in range(3)]
    tagged = droplet(12, "renamed by hand", "slipway-staging-runner")
    api.things |= {
        "/v2/droplets": [*foreign, droplet(11, "slipway-staging"), tagged],
        "/v2/snapshots": [{"id": "5", "name": "slipway-staging-before", "size_gigabytes": 2, "tags": []}],
        "/v2/volumes": [{"id": "v", "name": "slipway-staging-data", "size_gigabytes": 100, "tags": []}],
        "/v2/firewalls": [{"id": "f", "name": "slipway-staging-public", "tags": []}],
        "/v2/vpcs": [
            {"id": "n1", "name": "slipway-staging-nyc3", "default": False},
            {"id": "n0", "name": "slipway-dev-nyc3", "default": True},
        ],
        "/v2/tags": [{"name": "slipway-staging-server"}, {"name": "slipwayward"}],
        "/v2/account/keys": [{"id": 7, "name": "slipway-staging-admin"}, {"id": 8, "name": "laptop"}],
        "/v2/spaces/keys": [{"access_key": "DO00", "name": "slipway-staging-registry-maker", "grants": []}],
        "/v2/domains": [{"name": "staging.test"}, {"name": "example.test"}],
        "/v2/reserved_ips": [{"ip": "198.51.100.7", "droplet": None}, {"ip": "198.51.100.8", "droplet": {"id": 1}}],
    }


def test_everything_with_the_projects_name_or_tag_that_no_stack_has_is_listed_with_its_price(
    api: AccountApi, states: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del states
    everything(api)
    assert module.strays(None, confirmed=False) == module.FOUND
    printed = capsys.readouterr().out
    listed = [line.split("  ")[-1] for line in printed.splitlines() if "(ID " in line and "points to" not in line]
    assert listed == [
        "Droplet slipway-staging (ID 11)",
        "Droplet renamed by hand (ID 12)",
        "Snapshot slipway-staging-before (ID 5)",
        "Volume slipway-staging-data (ID v)",
        "Firewall slipway-staging-public (ID f)",
        "Vpc slipway-staging-nyc3 (ID n1)",
        "Tag slipway-staging-server (ID slipway-staging-server)",
        "SshKey slipway-staging-admin (ID 7)",
        "SpacesKey slipway-staging-registry-maker (ID DO00)",
        "Domain staging.test (ID staging.test)",
    ]
    assert "5.00  ReservedIp 198.51.100.7 (ID 198.51.100.7)  points to nothing; it has no name" in printed
    assert "198.51.100.8" not in printed
    # Two droplets, 2 and 100 GiB, one idle address.
    assert "111.12  US dollars per month in total" in printed
    assert api.writes == []


@pytest.mark.parametrize("kind", ["managed", "bundled"])
def test_clusters_of_databases_are_looked_for_if_a_stack_has_some(
    kind: str,
    api: AccountApi,
    states: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del states
    files = {"staging": {"slipway:databases": {"valkey": {"kind": kind}}}}
    monkeypatch.setattr(module, "stack_files", lambda: files)
    cluster = {"id": "c1", "name": "slipway-staging-valkey", "size": "db-s-1vcpu-1gb", "num_nodes": 1, "region": "nyc3"}
    api.things["/v2/databases"] = [cluster, {**cluster, "id": "c2", "name": "of-somebody-else"}]
    assert module.strays(None, confirmed=True) == 0
    printed = capsys.readouterr().out
    assert ("15.15  DatabaseCluster slipway-staging-valkey (ID c1)" in printed) is (kind == "managed")
    assert [one["id"] for one in api.things["/v2/databases"]] == (["c2"] if kind == "managed" else ["c1", "c2"])


def test_the_nodes_of_a_cluster_are_left_to_it(api: AccountApi, states: dict[str, Any]) -> None:
    del states
    api.things["/v2/droplets"] = [droplet(21, "slipway-staging-pods-jobs-x1", "k8s", "k8s:cluster", "k8s:worker")]
    assert module.strays(None, confirmed=True) == 0
    assert [one["id"] for one in api.things["/v2/droplets"]] == [21]


def cluster(identifier: str, name: str, state: str = "running", *, ha: bool = False) -> dict[str, Any]:
    return {"id": identifier, "name": name, "ha": ha, "status": {"state": state}, "created_at": "2026-11-28T10:00:00Z"}


def test_clusters_are_looked_for_only_where_a_stack_has_one_and_listed_with_the_price_of_their_nodes(
    api: AccountApi,
    states: dict[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    api.things["/v2/kubernetes/clusters"] = [
        cluster("c1", "slipway-staging-pods", ha=True),
        cluster("c2", "slipway-staging-gone", "deleting"),
        cluster("c3", "shop"),
        cluster("c4", "slipway-production-pods"),
    ]
    api.things["/v2/droplets"] = [droplet(21, "slipway-staging-pods-jobs-x1", "k8s", "k8s:c1", "k8s:worker")]
    assert module.strays("staging", confirmed=False) == 0
    settings = {"staging": {"slipway:runners": [{"name": "pods", "kind": "kubernetes"}]}}
    monkeypatch.setattr(module, "stack_files", lambda: settings)
    states["production"] = [resource("KubernetesCluster", "delivery-pods-kubernetes-cluster", "c4")]
    assert module.strays(None, confirmed=False) == module.FOUND
    listed = [line for line in capsys.readouterr().out.splitlines() if "(ID " in line]
    assert listed == ["     88.00  KubernetesCluster slipway-staging-pods (ID c1)"]


def test_a_cluster_is_removed_with_what_its_pods_have_created_and_waited_for(
    api: AccountApi, states: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_PAUSE", 0)
    states["production"] = [resource("KubernetesCluster", "delivery-pods-kubernetes-cluster", "c4")]
    api.things["/v2/kubernetes/clusters"] = [cluster("c1", "slipway-staging-pods")]
    assert module.strays(None, confirmed=True) == 0
    assert api.writes == ["DELETE /v2/kubernetes/clusters/c1/destroy_with_associated_resources/dangerous"]
    # Somebody else was quicker.
    clusters.remove("c1")
    assert len(api.writes) == 1


def test_what_can_be_kept_comes_with_the_line_that_imports_it(
    api: AccountApi, states: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    everything(api)
    module.strays(None, confirmed=False)
    line = (
        "pulumi import --stack staging --generate-code=false --protect=false digitalocean:index/volume:Volume "
        "server-data v --parent 'parent=urn:pulumi:staging::slipway::slipway:index:GitLabServer::server' "
        "--provider 'provider=urn:pulumi:staging::slipway::pulumi:providers:digitalocean::digitalocean'"
    )
    assert line in capsys.readouterr().out
    # Without such a stack there is no state to import it into.
    del states["staging"]
    module.strays(None, confirmed=False)
    assert "pulumi import" not in capsys.readouterr().out


def test_the_line_that_imports_a_stray_names_a_project_with_a_dash_in_its_name() -> None:
    known = module.Known("my-slipway", "my-slipway-staging", ("staging",), frozenset(), frozenset())
    stray = module.Stray("Volume", "my-slipway-staging-data", "506f78a4", {}, None)
    line = module.import_line(stray, known)
    assert line is not None
    assert "urn:pulumi:staging::my-slipway::" in line


def test_uptime_checks_are_looked_for_only_where_a_stack_has_alerts(
    api: AccountApi, states: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del states
    names = {"c1": "slipway-staging-sign-in", "c2": "slipway-staging-blog", "c3": "landing page"}
    api.things["/v2/uptime/checks"] = [{"id": key, "name": name} for key, name in names.items()]
    assert module.strays("staging", confirmed=False) == 0
    monkeypatch.setattr(module, "stack_files", lambda: {"staging": {"slipway:alerts": {"email": ["ops@x.test"]}}})
    assert module.strays("staging", confirmed=False) == module.FOUND
    printed = capsys.readouterr().out
    assert "1.00  UptimeCheck slipway-staging-sign-in (ID c1)" in printed
    assert "(ID c2)" not in printed
    assert "(ID c3)" not in printed


def test_what_a_stack_has_is_no_stray_even_if_it_is_only_to_be_deleted(
    api: AccountApi, states: dict[str, list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    everything(api)
    for path in ("/v2/snapshots", "/v2/reserved_ips"):
        del api.things[path]
    api.things["/v2/domains/staging.test/records"] = []
    states["staging"] = [
        resource("Droplet", "server-droplet", "11"),
        resource("Droplet", "server-droplet", "12", delete=True),
        resource("Volume", "server-data", "v"),
        resource("Firewall", "public-access-firewall", "f"),
        resource("Vpc", "network-vpc", "n1"),
        resource("Tag", "network-server-tag", "slipway-staging-server"),
        resource("SshKey", "ssh-key", "7"),
        resource("SpacesKey", "maker-key", "DO00"),
        resource("Domain", "dns-domain", "staging.test"),
    ]
    assert module.strays(None, confirmed=True) == 0
    assert "Nothing in the account is named slipway without being in the state of a stack." in capsys.readouterr().out
    assert api.writes == []


def test_only_a_stacks_own_strays_are_looked_for_if_one_is_named(
    api: AccountApi, states: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del states
    api.things["/v2/droplets"] = [droplet(1, "slipway-staging"), droplet(2, "slipway-staging-builder-1")]
    api.things["/v2/droplets"] += [droplet(3, "slipway-production"), droplet(4, "slipway-stagingtwo")]
    assert module.strays("staging", confirmed=False) == module.FOUND
    printed = capsys.readouterr().out
    assert [number for number in "1234" if f"(ID {number})" in printed] == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "noun", "prefix", "is_ours"),
    [
        ("slipway-app", "Droplet", "slipway-app", True),
        ("slipway-app-docker-1", "Droplet", "slipway-app", True),
        ("slipway-app-2", "Droplet", "slipway-app", False),
        ("slipway-app-target-hello-demo", "Droplet", "slipway-app", True),
        ("slipway-app-target-hello-demo", "Firewall", "slipway-app", True),
        ("slipway-app-2-target-hello-demo", "Tag", "slipway-app", False),
        ("slipway-app-2-data", "Volume", "slipway-app", False),
        ("slipway-app-data", "Volume", "slipway-app", True),
        ("slipway-app-2-registry-0a1b2c3d", "SpacesBucket", "slipway-app", False),
        ("slipway-app-ci-secure-files-0a1b2c3d", "SpacesBucket", "slipway-app", True),
        ("slipway-app-objects-maker", "SpacesKey", "slipway-app", True),
        ("slipway-app-2-admin", "SshKey", "slipway-app", False),
        ("slipway-app-nyc3-10.20.0.0-24", "Vpc", "slipway-app", True),
        ("slipway-app-2-nyc3", "Vpc", "slipway-app", False),
        ("slipway-app-data", "Database", "slipway-app", False),
        ("slipway-app-postgresql", "DatabaseCluster", "slipway-app", True),
        ("slipway-app-2-valkey", "DatabaseCluster", "slipway-app", False),
    ],
)
def test_a_stack_whose_name_begins_with_the_same_word_is_another_one(
    name: str, noun: str, prefix: str, is_ours: bool
) -> None:
    assert module.belongs(name, noun, prefix) is is_ours


@pytest.mark.parametrize("is_known", [True, False], ids=["in this back end", "in another back end"])
def test_what_a_stack_with_a_longer_name_has_is_not_offered_for_removal(
    is_known: bool, api: AccountApi, states: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    states |= {"app": []} | ({"app-2": []} if is_known else {})
    api.things |= {
        "/v2/droplets": [
            droplet(1, "slipway-app-2", "slipway-app-2-server"),
            droplet(2, "renamed", "slipway-app-server"),
        ],
        "/v2/volumes": [{"id": "v", "name": "slipway-app-2-data", "size_gigabytes": 1, "tags": []}],
        "/v2/tags": [{"name": "slipway-app-2-server"}, {"name": "slipway-app-runner"}],
        "/v2/spaces/keys": [{"access_key": "DO00", "name": "slipway-app-2-registry", "grants": []}],
    }
    assert module.strays("app", confirmed=True) == 0
    assert api.writes == ["DELETE /v2/droplets/2", "DELETE /v2/tags/slipway-app-runner"]
    assert "slipway-app-2" not in capsys.readouterr().out


def test_with_yes_everything_is_removed_machines_first_and_a_busy_network_is_tried_again(
    api: AccountApi, states: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del states
    everything(api)
    del api.things["/v2/reserved_ips"]
    monkeypatch.setattr(api_module, "_POLL_SECONDS", 0)
    api.refusals["DELETE /v2/vpcs/n1"] = 403
    assert module.strays(None, confirmed=True) == 0
    assert api.writes[:2] == ["DELETE /v2/droplets/11", "DELETE /v2/droplets/12"]
    assert api.writes.count("DELETE /v2/vpcs/n1") > 1
    assert [one["name"] for one in api.things["/v2/droplets"]] == ["theirs-0", "theirs-1", "theirs-2"]
    assert [one["name"] for one in api.things["/v2/vpcs"]] == ["slipway-dev-nyc3"]
    assert [one["name"] for one in api.things["/v2/domains"]] == ["example.test"]


def test_what_is_asked_for_is_removed_and_the_rest_stays(
    api: AccountApi, states: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del states
    everything(api)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("rich.prompt.Confirm.ask", lambda question, **_: "Tag" in question)
    assert module.strays(None, confirmed=False) == module.FOUND
    assert {write.rpartition("/")[0] for write in api.writes} == {"DELETE /v2/tags"}


def test_a_thing_that_cannot_be_removed_is_named_and_the_others_are_removed(
    api: AccountApi, states: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del states
    api.things["/v2/tags"] = [{"name": "slipway-a"}, {"name": "slipway-b"}]
    api.refusals["DELETE /v2/tags/slipway-a"] = 500
    assert module.strays(None, confirmed=True) == module.FOUND
    assert "error: Tag slipway-a could not be deleted: DigitalOcean refused DELETE" in capsys.readouterr().out
    assert [one["name"] for one in api.things["/v2/tags"]] == ["slipway-a"]


def test_records_of_a_zone_that_the_stack_did_not_create_are_strays_and_the_zone_is_not(
    api: AccountApi, states: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states["staging"] = [resource("DnsRecord", "dns-a", "1")]
    file = {"slipway:domain": "example.test", "slipway:hostname": "git", "slipway:dns": {"zone": "existing"}}
    monkeypatch.setattr(module, "stack_files", lambda: {"staging": file})
    api.things["/v2/domains"] = [{"name": "example.test"}]
    kinds = (("git", "A"), ("git", "A"), ("git", "CAA"), ("www", "A"), ("git", "TXT"))
    records = [{"id": at, "name": name, "type": kind, "data": "x"} for at, (name, kind) in enumerate(kinds, 1)]
    api.things["/v2/domains/example.test/records"] = records
    assert module.strays(None, confirmed=False) == module.FOUND
    printed = capsys.readouterr().out
    assert [line.rpartition("ID ")[2] for line in printed.splitlines() if "DnsRecord" in line] == [
        "example.test,2)",
        "example.test,3)",
    ]
    assert "Domain" not in printed


def test_the_command_ends_with_the_code_that_says_whether_strays_are_left(
    api: AccountApi, states: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del states
    api.things["/v2/tags"] = [{"name": "slipway-a"}]
    for words, code in (([], 2), (["--yes"], 0), ([], 0)):
        monkeypatch.setattr("sys.argv", ["tools", "strays", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == code


def test_an_address_that_may_be_anybodys_is_deleted_after_a_question_about_it_and_never_without(
    api: AccountApi, states: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del states
    api.things["/v2/reserved_ips"] = [{"ip": "198.51.100.7", "droplet": None}]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert module.strays(None, confirmed=True) == 0
    assert api.writes == []
    asked: list[str] = []

    def ask(question: str, **_: object) -> bool:
        asked.append(question)
        return True

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("tools.strays.Confirm.ask", ask)
    assert module.strays(None, confirmed=True) == 0
    assert asked == ["Delete ReservedIp 198.51.100.7, which may be anybody's?"]
    assert api.writes == ["DELETE /v2/reserved_ips/198.51.100.7"]


def test_a_key_is_listed_with_what_its_owner_can_do(
    api: AccountApi, states: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del states
    full, one = [{"bucket": "", "permission": "fullaccess"}], [{"bucket": "images", "permission": "readwrite"}]
    api.things["/v2/spaces/keys"] = [
        {"access_key": "DO00", "name": "slipway-staging-registry-maker", "grants": full},
        {"access_key": "DO01", "name": "slipway-staging-registry", "grants": one},
    ]
    assert module.strays(None, confirmed=False) == module.FOUND
    printed = capsys.readouterr().out
    assert "(ID DO00)  can read, change and delete every bucket of the account" in printed
    assert "(ID DO01)  can change what is in images" in printed
