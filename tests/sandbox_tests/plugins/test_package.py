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
from tools.environment import ROOT

RECIPE = ROOT / "docs/recipes/pulumi.md"


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
        [text] = re.findall(r"```yaml\n(name: .*?)```", RECIPE.read_text(), re.DOTALL)
        program = yaml.safe_load(text)
        program["name"], program["packages"] = "small", {"slipway": str(ROOT / "package")}
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
