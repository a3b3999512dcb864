"""The components of this project in programs in other languages, with Pulumi's own language host for YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sandbox import layout
from tests.sandbox.layout import SPACES_SUFFIX
from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.pulumi_engine import Engine
from tests.sandbox_tests.support.spaces_service import s3_servers
from tests.sandbox_tests.support.typescript import TypeScriptProgram, of_document
from tests.sandbox_tests.support.whole_program import SETTINGS, World, world
from tools.environment import ROOT

RECIPE = ROOT / "docs/recipes/pulumi.md"
WITHOUT_MACHINES = ROOT / "tests/sandbox_tests/support/programs/package_without_machines"


def of_recipe(name: str, package: Path) -> dict[str, Any]:
    """A program of the recipe, by its name, with the package in another place."""
    [text] = re.findall(rf"```yaml\n(name: {name}\n.*?)```", RECIPE.read_text(), re.DOTALL)
    program: dict[str, Any] = yaml.safe_load(text)
    return program | {"name": "small", "packages": {"slipway": str(package)}}


class YamlProgram(Engine):
    """A program in YAML that uses the package."""

    def __init__(self, folder: Path, cloud: EmulatedCloud) -> None:
        environment = {
            "DIGITALOCEAN_TOKEN": cloud.token,
            "DIGITALOCEAN_API_URL": cloud.url,
            "SPACES_ENDPOINT_URL": f"http://{{{{.Region}}}}.{SPACES_SUFFIX}",
            "SSL_CERT_FILE": str(cloud.ca_certificate),
            **dict.fromkeys(("HTTP_PROXY", "http_proxy"), cloud.spaces_proxy),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
        }
        super().__init__(folder, "environment", {}, environment)
        (self.project / "__main__.py").unlink()

    def write(self, **changes: Any) -> None:
        """The program of the recipe, with other arguments."""
        program = of_recipe("images", ROOT / "package")
        program["resources"]["images"]["properties"] |= changes
        (self.project / "Pulumi.yaml").write_text(yaml.safe_dump(program))


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[YamlProgram, EmulatedCloud]]:
    for name in ("spaces", "cloud", "program"):
        (tmp_path / name).mkdir()
    assert (layout.current().cache / "bin" / "pulumi-language-yaml").exists(), "python -m tests.sandbox prepare --tests"
    with s3_servers(tmp_path / "spaces") as servers, EmulatedCloud(tmp_path / "cloud", servers) as cloud:
        yield YamlProgram(tmp_path / "program", cloud), cloud


def test_a_yaml_program_has_a_space_with_a_key_for_it_alone_and_destroys_it_again(
    program: tuple[YamlProgram, EmulatedCloud],
) -> None:
    engine, cloud = program
    engine.write()
    engine.up()
    outputs = engine.outputs()
    assert outputs["bucket"].startswith("acme-images-registry-")
    assert outputs["endpoint"] == "https://nyc3.digitaloceanspaces.com"
    [scoped] = [one for one in cloud.get("/v2/spaces/keys")["keys"] if one["access_key"] == outputs["accessKey"]]
    assert scoped["grants"] == [{"bucket": outputs["bucket"], "permission": "readwrite"}]
    assert outputs["secretKey"] not in engine.run("stack", "output")
    assert engine.changes() == {"same": 7}
    engine.destroy()
    assert cloud.get("/v2/spaces/keys")["keys"] == []


def test_arguments_that_digitalocean_would_refuse_are_reported_together_and_nothing_is_created(
    program: tuple[YamlProgram, EmulatedCloud],
) -> None:
    engine, cloud = program
    engine.write(prefix="Acme_Images", region="nyc1")
    output = engine.run("preview", fails=True)
    assert "prefix" in output
    assert "cannot be part of the name of a Space" in output
    assert "is not a region with Spaces; nothing could be created. Use one of" in output
    assert "Traceback" not in output
    assert cloud.get("/v2/spaces/keys")["keys"] == []


class Whole:
    """A stack of the recipe's program with a whole installation, in services that are empty."""

    def __init__(self, services: World) -> None:
        self.engine = services.stack()
        (self.engine.project / "__main__.py").unlink()
        # Only the secret stays in the configuration.
        file = self.engine.project / "Pulumi.test.yaml"
        content = yaml.safe_load(file.read_text())
        [project] = content["config"]["small:projects"]
        content["config"] = {"small:projects": [{"variables": project["variables"]}]}
        file.write_text(yaml.safe_dump(content))
        self.program = of_recipe("delivery", WITHOUT_MACHINES)
        self.set(**SETTINGS)

    def set(self, **settings: Any) -> None:
        """Change arguments."""
        self.program["resources"]["delivery"]["properties"] |= settings
        (self.engine.project / "Pulumi.yaml").write_text(yaml.safe_dump(self.program))


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as running:
        yield running


def test_a_yaml_program_has_a_whole_installation_with_secrets_of_its_configuration_and_destroys_it_again(
    services: World,
) -> None:
    whole = Whole(services)
    engine = whole.engine
    engine.up()
    outputs = engine.outputs()
    assert outputs["gitlab"] == services.instance.url
    assert outputs["login"] == "docker login --username root gitlab.example.test:5555"
    assert outputs["password"] not in engine.run("stack", "output")
    assert {one["name"] for one in services.cloud.get("/v2/droplets")["droplets"]} == {
        "small-test",
        "small-test-docker-builder-1",
    }
    assert engine.changes().keys() == {"same"}
    # The secret is in the configuration, beside the arguments.
    [variable] = [one for name, one in engine.resources().items() if name.endswith("-variable-GREETING")]
    assert "ciphertext" in variable["inputs"]["value"]
    project = services.instance.client().projects.get("root/hello")
    assert project.variables.get("GREETING").value == "a-value-that-can-be-masked"
    # Below the component everything has the name that it has in the program.
    types = "slipway:index:Slipway$slipway:index:Network$digitalocean:index/firewall:Firewall"
    assert any(urn.endswith(f"::{types}::network-runner-firewall") for urn in engine.urns())
    engine.destroy()
    assert services.cloud.get("/v2/droplets")["droplets"] == []


def test_what_a_program_in_yaml_has_wrong_is_reported_at_once_and_nothing_is_created(services: World) -> None:
    whole = Whole(services)
    twice = [{"path": "hello"}, {"path": "hello"}]
    whole.set(domain="example", region="nyc99", server={"volumeSizeGb": 0}, projects=twice)
    output = whole.engine.run("preview", fails=True)
    for key in ("domain", "region", "server.volumeSizeGb", "projects"):
        assert f"  - {key}" in output
    assert "Traceback" not in output
    assert services.cloud.get("/v2/droplets")["droplets"] == []


def test_a_misspelt_argument_is_refused_with_the_known_ones(services: World) -> None:
    whole = Whole(services)
    whole.set(server={"sise": "s-4vcpu-8gb"})
    output = whole.engine.run("preview", fails=True)
    assert "Property sise does not exist" in output
    assert re.search(r"Existing properties are: .*\bsize\b", output)
    assert "Traceback" not in output


def test_a_typescript_program_declares_what_the_yaml_program_declares(services: World) -> None:
    whole = Whole(services)
    expected = whole.engine.changes()
    program = TypeScriptProgram(whole.engine, WITHOUT_MACHINES, of_document(RECIPE.read_text(), **SETTINGS))
    assert program.changes("preview") == expected
    mistaken = program.compile(of_document(RECIPE.read_text(), server={"sise": "s-4vcpu-8gb"}))
    assert "does not exist in type 'ServerArgs'" in mistaken
