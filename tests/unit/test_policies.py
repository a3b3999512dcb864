"""The policies: what they find, what they leave alone, and that the program itself violates none of them."""

from __future__ import annotations

import ast
import json
from typing import Any

import pulumi
import pytest
from google.protobuf import json_format
from pulumi_policy import EnforcementLevel
from pulumi_policy.deserialize import deserialize_properties

from components.settings import ProjectSettings, RunnerSettings
from policies import pack
from policies.rules import shared_runners
from tests.unit.engine import ROOT, RecordingEngine, run_program
from tests.unit.policy_pack import BUCKET, COMMAND, DROPLET, FIREWALL, UNKNOWN, VOLUME, Resource, violations
from tests.unit.source import tree

TOKEN = "glpat-" + "x" * 20
KEY = "-----BEGIN OPENSSH " + "PRIVATE KEY-----"


def configure(stack: str = "production", **sections: Any) -> None:
    """What Pulumi tells a policy pack about a stack."""
    pulumi.runtime.configure(pulumi.runtime.Settings(project="slipway", stack=stack, dry_run=True))
    pulumi.runtime.set_all_config({f"slipway:{key}": json.dumps(value) for key, value in sections.items()})


@pytest.fixture(autouse=True)
def _production() -> None:
    configure()


def firewall(port: str, *sources: str, protocol: str = "tcp", **more: Any) -> Resource:
    rule = {"protocol": protocol, "portRange": port, "sourceAddresses": [*sources]}
    return Resource(FIREWALL, {"inboundRules": [rule], **more}, "wall")


def recorded(engine: RecordingEngine) -> list[Resource]:
    return [
        Resource(
            one.type,
            deserialize_properties(json_format.MessageToDict(one.request.object)),
            one.name,
            one.request.protect,
            {
                key: [urn.rsplit("::", 1)[1] for urn in found.urns]
                for key, found in one.request.propertyDependencies.items()
            },
        )
        for one in engine.registrations
    ]


@pytest.mark.parametrize("storage", ["filesystem", "spaces"])
def test_the_program_violates_no_policy(storage: str) -> None:
    projects = [{"path": "hello", "extraStages": [{"name": "deploy", "script": ["docker run $IMAGE"]}]}]
    engine = run_program(
        registry={"storage": storage}, projects=projects, runners=[{"name": "docker-builder"}], backup={"enabled": True}
    )
    configure()
    resources = recorded(engine)
    assert {"network-server-base-firewall", "server-droplet", "delivery-hello"} <= {one.name for one in resources}
    assert violations(*resources) == {}


def test_a_stack_of_production_that_keeps_nothing_violates_the_policy_of_its_data() -> None:
    engine = run_program(removal="everything", registry={"storage": "spaces"})
    configure()
    found = violations(*recorded(engine))
    assert [*found] == ["data-is-protected"]
    assert {message.split(" ")[0] for message in found["data-is-protected"]} == {
        "server-data",
        "registry-bucket-bucket",
        "dns-domain",
    }


@pytest.mark.parametrize("port", ["22", "20-30", "all", "1-65535", "0"])
@pytest.mark.parametrize("sources", [["0.0.0.0/0"], ["::/0"], ["0.0.0.0/1", "128.0.0.0/1"], ["10.0.0.0/7"]])
def test_ssh_that_is_open_to_the_internet_is_found(port: str, sources: list[str]) -> None:
    [message] = violations(firewall(port, *sources))["admin-ports-for-known-networks"]
    assert message.startswith("wall opens ")
    assert "port 22 (SSH)" in message
    assert "adminCidrs" in message


def test_networks_that_are_wide_only_together_are_found() -> None:
    several = [f"{first}.0.0.0/9" for first in range(20, 60, 2)]
    assert violations(firewall("22", *several)).keys() == {"admin-ports-for-known-networks"}


@pytest.mark.parametrize(
    "harmless",
    [
        firewall("22", "203.0.113.7/32", "17.0.0.0/8", "2001:db8::/32"),
        firewall("443", "0.0.0.0/0", "::/0"),
        firewall("5555", "0.0.0.0/0"),
        firewall("22", UNKNOWN),
        firewall("all", "0.0.0.0/0", protocol="icmp"),
        firewall("22", "somewhere", "300.0.0.0/0"),
        firewall("22-", "0.0.0.0/0"),
        Resource(FIREWALL, {"inboundRules": [UNKNOWN, "a rule"]}),
        Resource(FIREWALL, {"inboundRules": UNKNOWN}),
        Resource(FIREWALL, {}),
    ],
)
def test_firewalls_that_open_nothing_for_administrators_are_left_alone(harmless: Resource) -> None:
    assert violations(harmless) == {}


def test_a_droplet_without_a_firewall_is_found() -> None:
    bare = Resource(DROPLET, {"tags": ["web"], "image": "debian-13-x64"}, "bare")
    [message] = violations(bare, firewall("443", "0.0.0.0/0", tags=["other"]))["droplets-behind-firewalls"]
    assert message.startswith("bare has no firewall")


@pytest.mark.parametrize("number", range(3))
def test_a_droplet_has_a_firewall_by_its_tag_by_a_new_tag_or_by_its_name(number: int) -> None:
    wall = [
        firewall("443", "0.0.0.0/0", tags=["Web"]),
        Resource(FIREWALL, {"tags": [UNKNOWN]}, "wall", depends={"tags": ["tag"]}),
        Resource(FIREWALL, {"dropletIds": [UNKNOWN]}, "wall", depends={"dropletIds": ["server"]}),
    ][number]
    server = Resource(DROPLET, {"tags": ["web"], "image": "1234"}, "server", depends={"tags": ["tag"]})
    tag = Resource("digitalocean:index/tag:Tag", {}, "tag")
    assert violations(server, wall, tag) == {}


@pytest.mark.parametrize(
    ("resource", "kind"),
    [
        (Resource(COMMAND, {"create": f"curl -H 'PRIVATE-TOKEN: {TOKEN}' …"}), "a token of GitLab in create"),
        (Resource(COMMAND, {"environment": {"KEY": KEY}}), "a private key in environment.KEY"),
        (Resource(COMMAND, {"triggers": [UNKNOWN, "dop_v1_" + "0" * 64]}), "a token of DigitalOcean in triggers[1]"),
        (Resource(COMMAND, {"delete": "psql postgres://app:hunter2@db/x"}), "a password in a URL in delete"),
        (Resource(DROPLET, {"userData": f"#!/bin/sh\necho '{KEY}'", "tags": ["x"]}), "a private key in userData"),
        (Resource(VOLUME, {"description": "DO00" + "A" * 16}, protect=True), "an access key of Spaces or S3"),
    ],
)
def test_a_secret_where_others_can_read_it_is_found_and_not_repeated(resource: Resource, kind: str) -> None:
    [message] = violations(resource)["no-secrets-in-plain-sight"]
    assert f"it has {kind}" in message
    assert "stdin" in message
    for secret in (TOKEN, KEY, "hunter2", "0" * 20, "A" * 16):
        assert secret not in message


def test_secrets_on_standard_input_and_the_host_key_of_first_contact_are_left_alone() -> None:
    user_data = f"#cloud-config\nssh_keys:\n  ecdsa_private: |\n    {KEY}\n"
    assert violations(Resource(COMMAND, {"stdin": TOKEN, "create": "bash -s"})) == {}
    droplet = Resource(DROPLET, {"userData": user_data, "image": "debian-13-x64", "tags": ["x"]}, "machine")
    assert violations(droplet, firewall("443", "0.0.0.0/0", tags=["x"])) == {}


@pytest.mark.parametrize("kind", [VOLUME, BUCKET, "digitalocean:index/domain:Domain"])
def test_data_of_production_that_is_not_protected_is_found(kind: str) -> None:
    [message] = violations(Resource(kind, {}, "data"))["data-is-protected"]
    assert message.startswith("data is not protected: a destroy")
    assert violations(Resource(kind, {}, "data", protect=True)) == {}


def test_a_space_that_is_deleted_with_its_content_is_found_though_it_is_protected() -> None:
    found = violations(Resource(BUCKET, {"forceDestroy": True}, protect=True))
    assert "forceDestroy" in found["data-is-protected"][0]


def test_other_stacks_may_lose_their_data() -> None:
    configure("dev")
    assert violations(Resource(VOLUME, {})) == {}


@pytest.mark.parametrize(
    "image", ["docker", "docker:latest", "registry.example.com:5000/team/app", "quay.io/x/y:stable"]
)
def test_an_image_without_a_version_is_found_in_a_pipeline_and_in_a_dockerfile(image: str) -> None:
    pipeline = Resource("gitlab:index/repositoryFile:RepositoryFile", {"content": f"build:\n  image: {image}\n"})
    dockerfile = Resource(COMMAND, {"stdin": f"cat <<EOF\nFROM {image} AS build\nEOF\n"})
    for resource in (pipeline, dockerfile):
        [message] = violations(resource)["versions-are-pinned"]
        assert f"uses the container image {image}," in message


@pytest.mark.parametrize(
    "line",
    [
        "image: docker:29.1",
        "image: $IMAGE",
        "FROM node:24-alpine\nFROM scratch",
        "image: app@sha256:0123",
        "FROM node:24 AS build\nFROM build",
        "image: registry.example.com:5000/app:1.2",
    ],
)
def test_images_with_a_version_or_from_a_variable_are_left_alone(line: str) -> None:
    assert violations(Resource(COMMAND, {"stdin": f"{line}\n"})) == {}


@pytest.mark.parametrize(("image", "is_pinned"), [("ubuntu-24-04-x64", True), ("157342", True), ("ubuntu", False)])
def test_the_image_of_a_droplet_names_a_version(image: str, is_pinned: bool) -> None:
    found = violations(Resource(DROPLET, {"image": image, "tags": ["x"]}), firewall("80", "::/0", tags=["x"]))
    assert ("versions-are-pinned" in found) != is_pinned


def test_repositories_whose_key_is_not_pinned_are_found() -> None:
    packages = {"packages": {"keyFingerprint": "unpinned"}}
    runners = [{"name": "one"}, {"name": "two", "keyFingerprint": "unpinned"}]
    configure(gitlab=packages, runners=runners)
    messages = violations()["signing-keys-are-pinned"]
    assert [message.split(" ")[0] for message in messages] == [
        "gitlab.packages.keyFingerprint",
        "runners[1].keyFingerprint",
    ]
    configure(gitlab={"version": "19.3.0-ce.0"}, runners=[{"name": "one"}])
    assert violations() == {}


def test_privileged_runners_that_several_projects_share_are_found() -> None:
    projects = [{"path": "app"}, {"path": "shop", "runners": ["docker-builder", "own", "safe"]}, {"path": "x"}]
    runners = [{}, {"name": "own"}, {"name": "safe", "builder": "buildah"}]
    configure(projects=projects, runners=runners)
    [message] = violations()["privileged-runners-of-one-project"]
    assert message.startswith("runners[0]: docker-builder runs privileged jobs of app, shop, x: whoever")
    for harmless in ({"builder": "buildah"}, {"accessLevel": "ref_protected"}):
        configure(projects=projects, runners=[harmless, {"name": "own"}])
        assert violations() == {}


def test_a_new_file_is_a_new_policy() -> None:
    modules = {path.stem for path in (ROOT / "policies/rules").glob("*.py")} - {"__init__"}
    found = pack.policies()
    assert len(found) == len(modules) >= 6
    assert len({policy.name for policy in found}) == len(found)


def test_a_violation_is_an_error_in_production_and_a_warning_elsewhere() -> None:
    assert pack.enforcement_level("production") is EnforcementLevel.MANDATORY
    assert pack.enforcement_level("staging") is EnforcementLevel.ADVISORY


def test_policies_need_nothing_of_the_program() -> None:
    for path in (ROOT / "policies").rglob("*.py"):
        for node in ast.walk(tree(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert str(node.module).partition(".")[0] not in {"components", "tools", "tests"}, path


def test_a_runner_that_the_stack_file_does_not_describe_is_the_one_that_the_program_takes() -> None:
    fields = RunnerSettings.model_fields
    assert (fields["builder"].default, fields["name"].default) == shared_runners.DEFAULTS
    assert ProjectSettings.model_fields["runners"].get_default(call_default_factory=True) == (fields["name"].default,)
