"""Droplets of the stack that projects are deployed to: what is made, who gets in, what it costs, and what is lost."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from google.protobuf import json_format

from components.rendering import script
from components.settings import SettingsError
from tests.unit.delivered import PROJECT, RUNNER, delivered
from tests.unit.engine import ENVELOPE, RecordingEngine, run_program
from tests.unit.stack_file_corpus import PUBLIC_KEY
from tests.unit.test_account import account, droplet
from tests.unit.test_environments import TARGET, variables

DEMO: dict[str, Any] = {
    "name": "demo",
    "droplet": {"size": "s-1vcpu-2gb"},
    "publish": ["80:3000", "127.0.0.1:9000:9000", "53:53/udp"],
    "healthCheck": {"path": "/health"},
}
COMPOSED = {
    "name": "demo",
    "droplet": {"openPorts": [8080]},
    "compose": "compose.yaml",
    "healthCheck": {"path": "/", "port": 80},
}
NAME, LOGICAL = "slipway-test-target-hello-demo", "delivery-target-hello-demo"
TARGET_URN = "urn:pulumi:test::slipway::slipway:index:Delivery$slipway:index:Target"


NETWORK = {"vpcCidr": "10.20.0.0/24"}
#: The target as the account has it, and a state with it and with the other machines of the stack.
OURS = {**droplet("slipway-test-target-hello-demo"), "name": NAME, "size": "s-1vcpu-2gb", "disk": 50, "region": "nyc3"}
OTHERS = [{**droplet(f"slipway-test-{kind}"), "name": f"slipway-test-{kind}"} for kind in ("server", "runner")]
STATE: dict[str, dict[str, Any]] = {
    f"urn:pulumi:test::slipway::{kind}::{number}": {"name": name}
    for number, name in enumerate((NAME, "slipway-test-server", "slipway-test-runner"))
    for kind in ("digitalocean:index/droplet:Droplet", "digitalocean:index/tag:Tag")
}


def errors(**changes: Any) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        delivered(**changes)
    return refused.value.errors


@pytest.fixture(scope="module")
def engine() -> RecordingEngine:
    """A project that is deployed to a droplet of the stack."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return delivered({"deploy": [DEMO]}, alerts={"email": ["ops@example.test"]})


def test_without_the_setting_nothing_of_it_is_there() -> None:
    engine = delivered({"deploy": [{"name": "staging", **TARGET}]})
    assert [one.name for one in engine.registrations if "target" in one.name] == []


def test_the_droplet_is_named_after_project_and_environment_and_is_in_the_network_of_the_stack(
    engine: RecordingEngine,
) -> None:
    made = engine.named(f"{LOGICAL}-droplet")
    assert (made.inputs["name"], made.inputs["size"]) == (NAME, "s-1vcpu-2gb")
    assert made.inputs["image"] == "ubuntu-24-04-x64"
    assert made.inputs["vpcUuid"] == "id-of-network-vpc"
    assert made.inputs["tags"] == engine.named(f"{LOGICAL}-tag").inputs["name"].split()
    assert f"{LOGICAL}-firewall" in made.depends_on
    assert f"PRIVATE {LOGICAL}-host-keys-first-contact" in made.inputs["userData"]


def test_ssh_is_open_to_runners_and_administrators_and_the_published_ports_to_everybody(
    engine: RecordingEngine,
) -> None:
    ssh, *others = engine.named(f"{LOGICAL}-firewall").inputs["inboundRules"]
    assert (ssh["portRange"], ssh["sourceAddresses"]) == ("22", ["192.0.2.10/32"])
    assert ssh["sourceTags"] == ["slipway-test-runner"]
    assert [(one["protocol"], one["portRange"]) for one in others] == [("tcp", "80"), ("udp", "53")]
    assert {tuple(one["sourceAddresses"]) for one in others} == {("0.0.0.0/0", "::/0")}


def test_the_ports_that_the_settings_list_are_open_in_place_of_the_published_ones() -> None:
    for deploy, ports in ((COMPOSED, ["8080"]), ({**DEMO, "droplet": {"openPorts": []}}, [])):
        engine = delivered({"deploy": [deploy]})
        _, *others = engine.named(f"{LOGICAL}-firewall").inputs["inboundRules"]
        assert [one["portRange"] for one in others] == ports


def test_a_published_port_22_of_udp_is_not_that_of_ssh() -> None:
    engine = delivered({"deploy": [{**DEMO, "publish": ["80:3000", "22:22/udp"]}]})
    _, *others = engine.named(f"{LOGICAL}-firewall").inputs["inboundRules"]
    assert [(one["protocol"], one["portRange"]) for one in others] == [("tcp", "80"), ("udp", "22")]


def test_jobs_know_the_machine_by_its_private_address_and_its_host_key(engine: RecordingEngine) -> None:
    found = {key.removeprefix("SLIPWAY_DEPLOY_"): one["value"] for key, one in variables(engine, "demo").items()}
    assert (found["HOST"], found["PORT"], found["USER"]) == ("10.10.0.10", "22", "deploy")
    assert found["HOST_KEY"] == f"ssh-ed25519 {LOGICAL}-host-keys-lasting"
    assert found["KEY"] == f"PRIVATE {LOGICAL}-key\n"
    assert engine.exports["projects"][0]["environments"]["demo"]["host"] == "203.0.113.10"


def test_jobs_on_runners_of_others_know_it_by_its_public_address() -> None:
    engine = run_program(projects=[{**PROJECT, "deploy": [DEMO], "runners": []}])
    assert variables(engine, "demo")["SLIPWAY_DEPLOY_HOST"]["value"] == "203.0.113.10"


def test_the_key_of_the_jobs_is_secret_and_nobody_has_to_copy_it(engine: RecordingEngine) -> None:
    key = f"PRIVATE {LOGICAL}-key"
    holders = [one.name for one in engine.registrations if key in str(one.inputs)]
    assert holders == ["delivery-hello-environment-demo-variable-key"]
    assert ENVELOPE in json_format.MessageToDict(engine.named(holders[0]).request.object)["value"]
    assert f"DEPLOY_KEY='restrict ssh-ed25519 {LOGICAL}-key'\n" in engine.script(f"{LOGICAL}-preparation")
    assert engine.exports["projects"][0]["environments"]["demo"].get("authorized_key") is None


def test_the_pipeline_starts_once_the_machine_lets_its_jobs_in(engine: RecordingEngine) -> None:
    needed = engine.named("delivery-hello-pipeline").depends_on
    assert {f"{LOGICAL}-preparation", "delivery-hello-environment-demo-variable-host"} <= needed
    # The machine itself waits for nothing of GitLab.
    assert not {one for one in engine.named(f"{LOGICAL}-preparation").depends_on if "gitlab" in one}


def test_with_a_private_authority_the_machine_trusts_the_registry() -> None:
    engine = delivered({"deploy": [DEMO]})
    assert "CA_CERTIFICATE=''" in engine.script(f"{LOGICAL}-preparation")
    assert "REGISTRY=gitlab.example.test:5555\n" in engine.script(f"{LOGICAL}-preparation")


def test_it_is_watched_and_paid_for_like_every_machine(engine: RecordingEngine) -> None:
    watched = engine.named("alerts-target-hello-demo-disk").inputs
    assert watched["description"] == "slipway-test: disk of target hello-demo"
    assert engine.named("alerts-target-hello-demo-1-agent")
    assert engine.exports["monthly_cost"]["items"]["target hello-demo, s-1vcpu-2gb"] == 12.0
    assert "s-1vcpu-2gb" in engine.exports["deployed"]["slugs"]


def test_it_is_kept_by_nothing() -> None:
    engine = delivered({"deploy": [DEMO]}, removal="keep-data")
    kept = [one.name for one in engine.registrations if one.request.protect or one.request.retainOnDelete]
    assert [one for one in kept if "target" in one] == []


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"droplet": None}, "projects[0].deploy[0].host: is missing; the job would not find its machine"),
        ({"droplet": None, "host": "203.0.113.7"}, "projects[0].deploy[0].hostKey: is missing"),
        ({"host": "203.0.113.7"}, "projects[0].deploy[0].host: is set beside droplet"),
        ({"port": 22}, "projects[0].deploy[0].port: is set beside droplet"),
        ({"hostKey": PUBLIC_KEY}, "projects[0].deploy[0].hostKey: is set beside droplet"),
        ({"publish": ["22:22"]}, "projects[0].deploy[0].publish: has port 22 of the droplet"),
        ({"publish": [], "compose": "c.yaml"}, "projects[0].deploy[0].droplet: has no openPorts, and compose"),
        (
            {**COMPOSED, "publish": [], "droplet": {"openPorts": [], "image": "debian-12-x64"}},
            "projects[0].deploy[0].droplet.image: debian-12-x64 has version 1 of Docker Compose",
        ),
        (
            {"name": "x" * 50},
            f"projects[0].deploy[0].name: the droplet would be called slipway-test-target-hello-{'x'}",
        ),
    ],
)
def test_what_could_not_work_is_refused_at_preview(environment: dict[str, Any], says: str) -> None:
    found = errors(project={"deploy": [{**DEMO, **environment}]})
    assert any(one.startswith(says) for one in found), found


@pytest.mark.parametrize(
    ("projects", "runner"),
    [
        ([{"path": "a-b", "deploy": [{**DEMO, "name": "c"}]}, {"path": "a", "deploy": [{**DEMO, "name": "b-c"}]}], "x"),
        ([{"path": "a", "deploy": [{**DEMO, "name": "1"}]}], "target-a"),
    ],
    ids=["another target", "a runner"],
)
def test_two_machines_of_one_name_are_refused(projects: list[dict[str, Any]], runner: str) -> None:
    with pytest.raises(SettingsError) as refused:
        run_program(projects=[{**one, "runners": [runner]} for one in projects], runners=[{**RUNNER, "name": runner}])
    assert all("like another machine of the stack" in one for one in refused.value.errors)
    assert len(refused.value.errors) == len(projects)


def run(*found: dict[str, Any], dry_run: bool = True, limit: int = 25) -> RecordingEngine:
    """The program with the target in its state, in an account with these droplets."""
    answers = {**account(dropletLimit=limit), "getDroplets": {"droplets": list(found)}}
    network = {"id": "vpc-1", "name": "slipway-test-nyc3-10.20.0.0-24", "region": "nyc3", "default": False}
    engine = RecordingEngine(answers={**answers, "getVpc": network}, known=STATE)
    project = {**PROJECT, "deploy": [DEMO]}
    return run_program(engine=engine, dry_run=dry_run, projects=[project], runners=[RUNNER], server=NETWORK)


@pytest.mark.parametrize("change", [{"image": "debian-13-x64"}, {"vpcUuid": "vpc-2"}, {"region": "fra1"}])
def test_a_preview_says_what_is_lost_with_a_target_that_is_replaced(change: dict[str, Any]) -> None:
    assert [one for one in run(OURS).messages if "nothing on it is kept" in one] == []
    [line] = [one for one in run({**OURS, **change}).messages if "nothing on it is kept" in one]
    assert line.startswith(f"projects[0].deploy[0].droplet: {NAME} is replaced by this update")
    assert [one for one in run({**OURS, **change}, dry_run=False).messages if "nothing on it is kept" in one] == []


def test_it_counts_as_a_machine_of_the_stack_once_the_state_has_it() -> None:
    assert run(OURS, *OTHERS, limit=3).named(f"{LOGICAL}-droplet")
    with pytest.raises(SettingsError, match="server, runners, projects: need 3 droplets"):
        run(*OTHERS, droplet("web"), limit=3)


def test_a_size_that_is_not_offered_is_named_with_its_place() -> None:
    [line] = errors(project={"deploy": [{**DEMO, "droplet": {"size": "s-3vcpu-9gb"}}]})
    assert line.startswith("projects[0].deploy[0].droplet.size: s-3vcpu-9gb is not a size")


def test_what_an_interrupted_update_has_left_is_named_with_the_line_that_imports_it() -> None:
    provider = "urn:pulumi:test::slipway::pulumi:providers:digitalocean::digitalocean"
    known: dict[str, dict[str, Any]] = {provider: {}, f"{TARGET_URN}::{LOGICAL}": {}}
    listed = {"/v2/firewalls": [{"id": "f-1", "name": NAME}]}
    strange = {**droplet(NAME), "name": "web", "id": 7}
    answers = {"getDroplets": {"droplets": [{**droplet("x"), "name": NAME, "id": 6}, strange]}}
    engine = RecordingEngine(answers=answers, listed=listed, known=known)
    with pytest.raises(SettingsError) as refused:
        run_program(engine=engine, projects=[{**PROJECT, "deploy": [DEMO]}], runners=[RUNNER])
    machine, tagged, firewall = refused.value.errors
    assert machine.startswith(f"stack: the account has a droplet {NAME} (ID 6)")
    assert tagged.startswith(f"stack: the droplet web (ID 7) carries the tag {NAME}")
    assert f"firewall:Firewall {LOGICAL}-firewall f-1 --parent 'parent={TARGET_URN}::{LOGICAL}'" in firewall


@pytest.mark.parametrize(
    ("offered", "installed"),
    [
        ({"docker-compose-v2": "2.24.6", "docker-compose": "1.29.2"}, "docker-compose-v2"),
        ({"docker-compose": "2.26.1-4"}, "docker-compose"),
        ({"docker-compose": "1.29.2-3"}, ""),
    ],
    ids=["Ubuntu 24.04", "Debian 13", "Debian 12"],
)
def test_version_2_of_compose_is_installed_whatever_the_distribution_calls_it(
    offered: dict[str, str], installed: str
) -> None:
    lines = "".join(f"{name}) echo ' {name} | {version} | archive' ;; " for name, version in offered.items())
    world = f'docker() {{ false; }}; apt-cache() {{ case $2 in {lines} esac; }}; install_packages() {{ echo "$*"; }}'
    text = "\n".join([script("prelude.sh"), script("prepare-target.sh"), world, "install_compose", ""])
    done = subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, installed), done.stderr
