"""`pulumi new`, with the real command line and a repository that it clones over HTTPS."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.sandbox.cloud.tools import python_packages
from tests.sandbox.layout import current
from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.git_server import git_server, publish
from tests.sandbox_tests.support.pulumi_engine import Engine
from tools.environment import ROOT

README = ROOT / "README.md"


class NewProject(Engine):
    """The folder in which somebody types `pulumi new`, and what is in it afterwards."""

    def __init__(self, folder: Path, cloud: EmulatedCloud, trusted: Path) -> None:
        bundle = folder / "trusted.crt"
        bundle.write_text(trusted.read_text() + cloud.ca_certificate.read_text())
        # Packages are looked up, and none is installed: the environment is that of the tests.
        environment = {
            "DIGITALOCEAN_API_URL": cloud.url,
            "SSL_CERT_FILE": str(bundle),
            "PIP_DRY_RUN": "1",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(python_packages.folder(current().cache)),
        }
        super().__init__(folder, "environment", {}, environment)
        self.project = folder / "acme"
        self.project.mkdir()

    def new(self, address: str, *answers: str, fails: bool = False) -> str:
        """`pulumi new` with the answers to its questions as options."""
        words = ["new", address, "--yes", "--name", "acme", "--description", "Our GitLab", "--stack", "test"]
        options = [word for answer in answers for word in ("--config", answer)]
        return self.run(*words, *options, "--runtime-options", f"virtualenv={sys.prefix}", fails=fails)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Path]]:
    """The README's address of the template, on a server that has the files of this checkout."""
    [documented] = re.findall(r"^pulumi new https://git\.example\.com/(\S+)$", README.read_text(), re.MULTILINE)
    publish(folder / documented.removesuffix("/template"))
    with git_server(folder) as (address, trusted):
        yield f"{address}/{documented}", trusted


@pytest.fixture
def project(tmp_path: Path) -> Iterator[tuple[NewProject, EmulatedCloud, str]]:
    with served(tmp_path / "served") as (address, trusted), EmulatedCloud(tmp_path) as cloud:
        yield NewProject(tmp_path, cloud, trusted), cloud, address


def test_a_new_project_has_the_program_and_its_preview_reports_what_is_missing_and_then_succeeds(
    project: tuple[NewProject, EmulatedCloud, str],
) -> None:
    engine, cloud, address = project
    output = engine.new(address, "adminCidrs=192.0.2.10/32, 198.51.100.0/24")
    assert "Your new project is ready to go!" in output
    assert "README.md says how to add projects and runners" in output
    assert {path.name for path in engine.project.iterdir()} == {
        *(
            "Pulumi.yaml",
            "README.md",
            "LICENSE",
            ".gitignore",
            "requirements.txt",
            "requirements-kubernetes.txt",
            "stacks",
        ),
        *("__main__.py", "components", "policies"),
    }
    assert [path for path in engine.project.rglob("*") if path.is_symlink()] == []
    declared = yaml.safe_load((engine.project / "Pulumi.yaml").read_text())
    assert (declared["name"], declared["description"]) == ("acme", "Our GitLab")
    assert "template" not in declared

    output = engine.run("preview", fails=True)
    assert "DIGITALOCEAN_TOKEN: is not set in the environment" in output
    assert "domain: is not a domain name" in output
    assert "Traceback" not in output

    engine.run("config", "set", "domain", "example.test")
    engine.run("config", "set", "--path", "server.image", "debian-13-x64")
    engine.run("config", "set", "--secret", "digitalocean:token", cloud.token)
    stack = yaml.safe_load((engine.project / "stacks/Pulumi.test.yaml").read_text())["config"]
    assert stack["acme:adminCidrs"] == "192.0.2.10/32, 198.51.100.0/24"
    assert stack["acme:removal"] == "keep-data"
    assert stack["digitalocean:token"].keys() == {"secure"}
    output = engine.run("preview")
    assert re.search(r"\+ \d\d to create", output)
    assert cloud.token not in output
