"""A runner on Kubernetes: what DigitalOcean offers for it, what it costs, and what is refused at preview."""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from unittest import mock

import pytest

from components import api, lost_answers
from components.settings import SettingsError
from tests.unit.delivered import delivered
from tests.unit.engine import KUBERNETES, ROOT, RecordingEngine, account_of, run_program
from tests.unit.engine_answers import RefusedCall
from tests.unit.on_kubernetes import CLUSTER, NAME, deployed, errors, on_kubernetes, with_pool


def test_a_stack_without_such_a_runner_neither_loads_the_sdk_nor_asks_what_there_is() -> None:
    program = (
        "import sys; from tests.unit.delivered import delivered; from unittest import mock\n"
        "engine = delivered()\n"
        "assert 'pulumi_kubernetes' not in sys.modules\n"
        "assert not [one for one in engine.registrations if 'kubernetes' in one.type]\n"
    )
    environment = {"DIGITALOCEAN_TOKEN": "none", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    engine = RecordingEngine(listed={"/v2/kubernetes/options": api.RefusedError("not to be asked", 500)})
    run_program(engine=engine)


def test_a_cluster_keeps_its_patch_and_is_upgraded_by_minor_release() -> None:
    assert on_kubernetes(engine=RecordingEngine(known=deployed())).named(CLUSTER).inputs["version"] == "1.35.2-do.0"
    same = on_kubernetes({"cluster": {"version": "1.35"}}, engine=RecordingEngine(known=deployed()))
    assert same.named(CLUSTER).inputs["version"] == "1.35.2-do.0"
    newer = on_kubernetes({"cluster": {"version": "1.36"}}, engine=RecordingEngine(known=deployed()))
    assert newer.named(CLUSTER).inputs["version"] == "1.36.3-do.0"
    first = on_kubernetes({"cluster": {"version": "1.35"}})
    assert first.named(CLUSTER).inputs["version"] == "1.35.6-do.1"


def test_a_patch_that_the_state_does_not_know_yet_replaces_no_cluster() -> None:
    """An update with --refresh reads it after the program, and the provider replaces a cluster for an older one."""

    def ignored(runner: dict[str, Any], known: dict[str, Any]) -> list[str]:
        cluster = on_kubernetes(runner, engine=RecordingEngine(known=known)).named(CLUSTER)
        return list(cluster.request.ignoreChanges)

    same = {"cluster": {"version": "1.35"}}
    assert ignored({}, deployed()) == ignored(same, deployed()) == ["version"]
    assert ignored({"cluster": {"version": "1.36"}}, deployed()) == ignored({}, {}) == []


@pytest.mark.parametrize(
    ("runner", "known", "beginning"),
    [
        (
            {"cluster": {"version": "1.38"}},
            {},
            "runners[0].cluster.version: DigitalOcean does not offer Kubernetes",
        ),
        ({"cluster": {"version": "1.34"}}, deployed(), "runners[0].cluster.version: 1.34 is older than 1.35"),
        (
            {"cluster": {"version": "1.36"}},
            deployed(version="1.34.1-do.0"),
            "runners[0].cluster.version: the cluster has 1.34, and is upgraded by one release at a time",
        ),
        ({"size": "s-1vcpu-1gb"}, {}, "runners[0].size: s-1vcpu-1gb is not a size of nodes"),
        (
            {"cluster": {"managerSize": "s-8vcpu-16gb"}},
            {},
            "runners[0].cluster.managerSize: s-8vcpu-16gb is not",
        ),
        ({"cluster": {"jobMemory": "4Gi"}}, {}, "runners[0].cluster.jobMemory: 4Gi fits on no node"),
        ({"cluster": {"jobCpu": "2"}}, {}, "runners[0].cluster.jobCpu: 2 fits on no node"),
        ({}, deployed(ha=True), "runners[0].cluster.highAvailability: the cluster has it"),
    ],
)
def test_what_the_cluster_cannot_be_is_refused_at_preview(
    runner: dict[str, Any], known: dict[str, Any], beginning: str
) -> None:
    found = errors(runner, RecordingEngine(known=known))
    assert [line for line in found if line.startswith(beginning)], found


def test_what_a_node_has_for_jobs_is_what_the_pods_of_digitalocean_leave_of_it() -> None:
    """They request about half a processor and 400 MiB of every node, of 1900m and 2560Mi of this size."""
    most = {"jobCpu": "1380m", "jobMemory": "2060Mi"}
    assert on_kubernetes({"size": "s-2vcpu-4gb", "cluster": most}).named(CLUSTER)
    memory, cpu = errors({"size": "s-2vcpu-4gb", "cluster": {"jobCpu": "1381m", "jobMemory": "2061Mi"}})
    assert "which has 2060Mi for jobs" in memory
    assert "which has 1380m for jobs" in cpu


def test_a_release_that_promises_nothing_to_pods_is_refused() -> None:
    [line] = errors({"cluster": {"version": "1.33"}})
    assert line.startswith("runners[0].cluster.version: is older than 1.34, the first release in which")


def test_a_region_without_kubernetes_is_refused() -> None:
    offer = {**KUBERNETES, "regions": [{"slug": "fra1"}]}
    [line] = errors(engine=RecordingEngine(listed={"/v2/kubernetes/options": offer}))
    assert line.startswith("runners[0].kind: DigitalOcean has no Kubernetes in nyc3; the cluster could not be created.")


def test_a_cluster_of_the_same_name_that_is_not_the_stacks_is_refused() -> None:
    listed = {"/v2/kubernetes/clusters": [{"id": "c9", "name": "slipway-test-docker-builder"}]}
    [line] = errors(engine=RecordingEngine(listed=listed))
    assert line.startswith("runners[0].name: the account has a cluster slipway-test-docker-builder (ID c9)")
    assert line.endswith("make recover STACK=test takes over its data and deletes the rest")
    assert on_kubernetes(engine=RecordingEngine(listed=listed, known=deployed())).named(CLUSTER)


def test_a_cluster_of_the_same_name_that_is_being_deleted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider does not wait for the end of a cluster, and DigitalOcean refuses a second one of its name."""
    cluster = {"id": "c9", "name": "slipway-test-docker-builder", "status": {"state": "deleting"}}
    engine = on_kubernetes(engine=RecordingEngine(listed={"/v2/kubernetes/clusters": [cluster]}))
    free, note = engine.named(CLUSTER).request.hooks.before_create
    assert (free, note) == (f"{CLUSTER}-name-is-free", f"{CLUSTER}-before-create")
    listed = [[cluster], [cluster, {**cluster, "name": "another"}], [{**cluster, "name": "another"}]]
    monkeypatch.setattr(lost_answers, "_POLL", 0)
    monkeypatch.setattr(api, "every", lambda *_: iter(listed.pop(0)))
    lost_answers.wait_for_the_name({"name": cluster["name"]})
    assert listed == []


def test_another_size_of_the_node_that_is_always_there_is_refused_because_the_cluster_would_be_replaced() -> None:
    known = RecordingEngine(known=deployed(nodePool={"size": "s-2vcpu-4gb"}))
    [line] = errors({"cluster": {"managerSize": "s-4vcpu-8gb"}}, engine=known)
    assert line.startswith(
        "runners[0].cluster.managerSize: the cluster has a node of the size s-2vcpu-4gb, which cannot"
    )
    again = RecordingEngine(known=deployed(nodePool={"size": "s-4vcpu-8gb"}))
    assert on_kubernetes({"cluster": {"managerSize": "s-4vcpu-8gb"}}, engine=again).named(CLUSTER)


def test_a_token_that_may_not_read_clusters_is_named() -> None:
    refusal = api.RefusedError("403", 403)
    [line] = errors(engine=RecordingEngine(listed={"/v2/kubernetes/options": refusal}))
    assert line.startswith("DIGITALOCEAN_TOKEN: may not read Kubernetes clusters (403)")


def droplets(*tags: str, count: int) -> RecordingEngine:
    """An account with a limit of 25 that has so many droplets, of which the first one has tags."""
    found = [{"name": f"other-{n}", "tags": [], "size": "s-1vcpu-1gb", "priceMonthly": 6.0} for n in range(count)]
    found[0]["tags"] = list(tags)
    return RecordingEngine(answers={"getDroplets": {"droplets": found}})


def test_an_account_without_room_for_all_nodes_that_there_may_be_is_told_so() -> None:
    """DigitalOcean wants room for them when a pool is made. The server of the stack needs a droplet as well."""
    [line] = errors({"cluster": {"maxNodes": 7}}, droplets(count=17))
    assert line.startswith("runners[0].cluster.maxNodes: the cluster may have 8 nodes in all, with which the account")
    assert "would have 26 droplets, and its limit is 25" in line
    assert on_kubernetes({"cluster": {"maxNodes": 7}}, engine=droplets(count=16)).named(CLUSTER)


def test_a_pool_that_may_grow_further_needs_room_for_what_it_does_not_have_yet() -> None:
    def account(count: int) -> RecordingEngine:
        engine = droplets("k8s", "k8s:c1", count=count)
        engine.known = with_pool({"id": "c1"})
        return engine

    assert on_kubernetes({"cluster": {"maxNodes": 3}}, engine=account(24)).named(CLUSTER)
    assert on_kubernetes({"cluster": {"maxNodes": 6}}, engine=account(18)).named(CLUSTER)
    [line] = errors({"cluster": {"maxNodes": 6}}, account(19))
    assert line.startswith("runners[0].cluster.maxNodes: the cluster may have 7 nodes in all")


@pytest.mark.parametrize(
    ("size", "words"),
    [("s-1vcpu-1gb", "is not a size of nodes"), ("s-1vcpu-2gb", "is not available in nyc3")],
)
def test_another_size_of_the_nodes_is_refused_before_the_old_ones_are_deleted(size: str, words: str) -> None:
    listed = (account_of("getSizes", {}) or {})["sizes"]
    sizes = [{**one, "regions": ["fra1"] if one["slug"] == "s-1vcpu-2gb" else one["regions"]} for one in listed]
    runner = {"cluster": {"jobCpu": "100m", "jobMemory": "64Mi"}}

    def engine(current: str) -> RecordingEngine:
        return RecordingEngine(known=with_pool(size=current), answers={"getSizes": {"sizes": sizes}})

    found = errors({**runner, "size": size}, engine("s-2vcpu-4gb"))
    assert [line for line in found if line.startswith(f"runners[0].size: {size} {words}; no node of it could be")]
    kept = on_kubernetes({**runner, "size": "s-1vcpu-2gb"}, engine=engine("s-1vcpu-2gb"))
    assert kept.named(f"{NAME}-kubernetes-jobs").inputs["size"] == "s-1vcpu-2gb"


def test_sizes_that_could_not_be_read_are_reported_once() -> None:
    [line] = errors(engine=RecordingEngine(answers={"getSizes": RefusedCall("500 Server Error")}))
    assert "the sizes" in line


@pytest.mark.parametrize("place", [{"vpcUuid": "another"}, {"region": "fra1"}])
def test_a_cluster_that_is_replaced_gets_a_version_that_is_offered_now(place: dict[str, str]) -> None:
    """The patch that it has may not be offered any more, and the old cluster goes before the new one is asked for."""
    server = {"vpcCidr": "10.20.0.0/24"}
    cluster = on_kubernetes(engine=RecordingEngine(known=deployed(**place)), server=server).named(CLUSTER)
    assert cluster.inputs["version"] == "1.35.6-do.1"
    assert list(cluster.request.ignoreChanges) == []


def upgradable(*slugs: str) -> RecordingEngine:
    """The deployed cluster, and what DigitalOcean would upgrade it to."""
    cluster = {"id": "c1", "name": "slipway-test-docker-builder", "version": "1.35.2-do.0"}
    listed = {
        "/v2/kubernetes/clusters": [cluster],
        "/v2/kubernetes/clusters/c1/upgrades": [{"slug": slug} for slug in slugs],
    }
    return RecordingEngine(known=deployed(), listed=listed)


def test_an_upgrade_before_the_newest_patch_is_refused_as_digitalocean_would() -> None:
    [line] = errors({"cluster": {"version": "1.36"}}, upgradable("1.35.6-do.1"))
    assert line.startswith(
        "runners[0].cluster.version: DigitalOcean would refuse to upgrade the cluster from 1.35.2-do.0 to 1.36: the "
    )
    assert "doctl kubernetes cluster upgrade c1 --version 1.35.6-do.1. Until then, set it to 1.35" in line
    [line] = errors({"cluster": {"version": "1.36"}}, upgradable())
    assert "doctl kubernetes cluster upgrade c1. Until then, set it to 1.35" in line


def test_a_cluster_is_upgraded_to_what_digitalocean_offers_to_it() -> None:
    newer = on_kubernetes({"cluster": {"version": "1.36"}}, engine=upgradable("1.36.1-do.4", "1.36.0-do.1"))
    assert newer.named(CLUSTER).inputs["version"] == "1.36.1-do.4"


def test_what_is_in_a_cluster_waits_for_the_end_of_its_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider does not, and nobody reaches the API server meanwhile."""
    hooks = on_kubernetes().named(CLUSTER).request.hooks
    assert list(hooks.after_update) == [f"{CLUSTER}-is-upgraded"]
    states = [("running", "1.35.2-do.0"), ("upgrading", "1.36.3-do.0"), ("running", "1.36.4-do.0")]
    answers = [{"kubernetes_cluster": {"status": {"state": state}, "version": version}} for state, version in states]
    request = mock.Mock(side_effect=answers)
    monkeypatch.setattr(lost_answers, "_POLL", 0)
    monkeypatch.setattr(api, "request", request)
    lost_answers.wait_for_the_upgrade("c1", {"version": "1.36.3-do.0"})
    assert request.mock_calls == [mock.call("/v2/kubernetes/clusters/c1")] * 3


def test_a_pool_whose_creation_was_lost_is_looked_for() -> None:
    """Its name is taken then, and the provider has not recorded it."""
    pool = on_kubernetes().named(f"{NAME}-kubernetes-jobs")
    assert list(pool.request.hooks.after_create) == [f"{NAME}-kubernetes-jobs-after-create"]
    assert lost_answers.NODE_POOL.list_path({"clusterId": "c1"}) == "/v2/kubernetes/clusters/c1/node_pools"


@pytest.mark.parametrize(("version", "is_refused"), [("18.10.3-1", True), ("18.11.0-1", False), ("19.0.0-1", False)])
def test_a_runner_that_would_ignore_what_jobs_are_promised_is_refused(version: str, is_refused: bool) -> None:
    if is_refused:
        [line] = errors({"version": version})
        assert line.startswith("runners[0].version: is older than 18.11, and would silently ignore")
    else:
        assert on_kubernetes({"version": version}).named(CLUSTER)
    assert delivered(runner={"version": version})


def test_without_the_package_it_is_said_which_one_and_how_to_install_it() -> None:
    with mock.patch("importlib.util.find_spec", return_value=None):
        [line] = errors()
    assert "needs the package pulumi-kubernetes" in line
    assert "requirements-kubernetes.txt" in line
    assert (ROOT / "requirements-kubernetes.txt").exists()


@pytest.mark.parametrize(
    ("runner", "key"),
    [
        ({"kind": "kubernetes", "count": 2}, "count"),
        ({"kind": "kubernetes", "keepLayers": True}, "keepLayers"),
        ({"kind": "kubernetes", "dockerHubCache": False}, "dockerHubCache"),
        ({"kind": "kubernetes", "image": "debian-13-x64"}, "image"),
        ({"cluster": {"maxNodes": 2}}, "cluster"),
    ],
)
def test_a_setting_of_the_other_kind_of_runner_is_refused(runner: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        delivered(runner=runner)
    [line] = caught.value.errors
    assert line.startswith(f"runners[0].{key}: is a setting of a runner whose kind is ")


def test_jobs_of_a_cluster_cannot_deploy_over_the_private_network() -> None:
    place = {"name": "production", "droplet": {}, "healthCheck": {"path": "/", "port": 3000}}
    with pytest.raises(SettingsError) as caught:
        delivered({"deploy": [place]}, {"kind": "kubernetes"})
    assert [line for line in caught.value.errors if line.startswith("projects[0].deploy: has a droplet")]


def test_a_stack_pays_for_the_node_that_stays_and_is_told_what_the_others_cost() -> None:
    items = on_kubernetes({"cluster": {"minNodes": 1, "highAvailability": True}}).exports["monthly_cost"]["items"]
    assert items["runner docker-builder, manager, s-2vcpu-4gb"] == 24.0
    assert items["runner docker-builder, 1 x s-2vcpu-4gb (at most 3, each 24.00 while it is there)"] == 24.0
    assert items["runner docker-builder, control plane with high availability"] == 40.0
