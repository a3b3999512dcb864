"""Scan, bill of materials and signature on a whole stack, with the real Trivy and cosign in the images that jobs name.

The programs take ten minutes to build, so this is a part of `make nightly`; `tests.e2e` builds them before it starts
sandboxes. Trivy's database comes from the project's own registry and has one hole, in a package that every Debian has.

The tests run in order and build on each other: each leaves the project in the state that the next one needs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gitlab.v4.objects import Project, ProjectJob, ProjectPipeline

from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tests.sandbox_tests.support.registry_service import Client
from tests.sandbox_tests.support.supply_chain import debian_packages, push_database, tools
from tools.clients import Docker, Outputs
from tools.pipelines import commit, image_tested, jobs_of, last_pipeline, latest, pipeline_of, project_of

HOLE, PACKAGE, HIGH = "CVE-2026-11111", "tar", 3
REGISTRY = "gitlab.supply.test:5555"
DOCKERFILE = "Dockerfile"
#: As the recipe has them, with the one database that can be had here.
CHAIN = {"scan": "block", "severity": ["HIGH"], "sbom": True, "sign": True}
CHAIN |= {"databases": f"{REGISTRY}/root/hello/mirror"}
#: Debian has no newer version of the package; what a scan sees of an update is the list of what is installed.
UPDATE = "RUN sed -i '/^Package: {package}$/,/^Version:/s/^Version: .*/Version: {version}/' /var/lib/dpkg/status"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with one project that is built without privileged mode; destroyed at the end."""
    made = Stack.create(
        "supply",
        tmp_path_factory.mktemp("supply"),
        SANDBOX,
        domain="supply.test",
        registry={"storage": "filesystem"},
        runners=[{**RUNNER, "builder": "buildah"}],
    )
    yield made
    made.remove()


@pytest.fixture(scope="module")
def releases() -> list[str]:
    """The digests that were released, oldest first."""
    return []


class Repository(Client):
    """A repository in the registry of a stack, as its administrator pushes to it."""

    def __init__(self, outputs: Outputs, name: str) -> None:
        self.name = name
        asked = {"service": "container_registry", "scope": f"repository:{name}:pull,push"}
        answer = httpx.get(f"{outputs.url}/jwt/auth", params=asked, auth=(outputs.user, outputs.password))
        headers = {"authorization": f"Bearer {answer.raise_for_status().json()['token']}"}
        self.http = httpx.Client(base_url=f"https://{outputs.registry}", headers=headers, timeout=60)


def installed() -> str:
    """The version of the package in the base image."""
    [version] = re.findall(rf"^Package: {PACKAGE}\n(?:.+\n)*?Version: (.+)$", debian_packages(), re.MULTILINE)
    return str(version)


def fixed() -> str:
    """The version that would have no hole."""
    return f"{installed()}.1"


def job_of(project: Project, pipeline: ProjectPipeline, name: str) -> ProjectJob:
    [listed] = [job for job in pipeline.jobs.list(get_all=True) if job.name == name]
    return project.jobs.get(listed.id)


def text_of(job: ProjectJob) -> str:
    return bytes(job.trace()).decode()


def test_a_project_without_the_settings_releases_what_nobody_has_scanned(stack: Stack, releases: list[str]) -> None:
    stack.up()
    pipeline = last_pipeline(project_of(stack.outputs()))
    assert jobs_of(pipeline) == dict.fromkeys(("build", "test", "release"), "success")
    releases.append(latest(stack.outputs()))


def test_a_known_hole_is_found_in_the_image_and_nothing_is_released(
    stack: Stack, releases: list[str], tmp_path: Path
) -> None:
    outputs = stack.outputs()
    with Repository(outputs, "root/hello/mirror/trivy-db") as client:
        hole = {"id": HOLE, "release": "13", "source": PACKAGE, "severity": HIGH, "fixed": fixed()}
        push_database(client, tmp_path / "database", [hole])
    stack.set(supplyChain=CHAIN)
    stack.up()
    project = project_of(outputs)
    pipeline = last_pipeline(project)
    found = jobs_of(pipeline)
    assert found.pop("scan") == "failed", found
    assert {found.pop(name) for name in ("build", "test", "sbom")} == {"success"}
    assert found == {"release": "skipped", "sign": "skipped"}
    scan = job_of(project, pipeline, "scan")
    log = re.sub(r"\x1b\[[\d;]*m", "", text_of(scan))
    assert re.search(rf"{PACKAGE}\W+{HOLE}\W+HIGH\W+fixed\W+{re.escape(installed())}", log), log
    assert "so it is not released" in log
    report = json.loads(scan.artifact("scan.json"))
    assert report["ArtifactName"] == image_tested(project, pipeline)
    [one] = [one for part in report["Results"] for one in part.get("Vulnerabilities", [])]
    assert (one["VulnerabilityID"], one["PkgName"], one["FixedVersion"]) == (HOLE, PACKAGE, fixed())
    assert latest(outputs) == releases[-1]


def test_an_image_without_the_hole_passes_and_is_released_under_the_digest_that_was_scanned(
    stack: Stack, releases: list[str]
) -> None:
    outputs = stack.outputs()
    project = project_of(outputs)
    before = project.files.get(DOCKERFILE, "main").decode().decode()
    update = UPDATE.format(package=PACKAGE, version=fixed())
    first, rest = before.split("\n", 1)
    assert first.startswith("FROM ")
    pipeline = pipeline_of(project, commit(project, "main", DOCKERFILE, f"{first}\n{update}\n{rest}"), 600)
    expected = dict.fromkeys(("build", "test", "scan", "sbom", "release", "sign"), "success")
    assert jobs_of(pipeline) == expected, text_of(job_of(project, pipeline, "sign"))
    digest = latest(outputs)
    assert digest not in releases
    assert image_tested(project, pipeline).endswith(f"@{digest}")
    listed = json.loads(job_of(project, pipeline, "sbom").artifact("sbom.cdx.json"))
    assert listed["bomFormat"] == "CycloneDX"
    assert listed["metadata"]["component"]["name"].endswith(digest)
    assert (PACKAGE, fixed()) in {(one["name"], one.get("version")) for one in listed["components"]}
    releases.append(digest)


def test_the_line_of_the_output_verifies_the_signature_with_the_public_key_alone(
    stack: Stack, releases: list[str], tmp_path: Path
) -> None:
    outputs = stack.outputs()
    (tmp_path / "signing.pub").write_text(outputs.values["signing_public_key"])
    described: dict[str, Any] = outputs.projects[0]
    line = described["cosign_verify"]
    unsigned, signed = releases
    with Docker.session() as docker:
        docker.login(outputs.registry, described["deploy_username"], described["deploy_token"])

        def verified(command: str) -> subprocess.CompletedProcess[str]:
            environment = {**os.environ, "DOCKER_CONFIG": docker.folder, "PATH": f"{tools()}:{os.environ['PATH']}"}
            return subprocess.run(
                shlex.split(command), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )

        checked = verified(line)
        assert checked.returncode == 0, checked.stderr
        assert signed in checked.stdout
        attested = verified(line.replace("verify", "verify-attestation --type cyclonedx", 1))
        assert attested.returncode == 0, attested.stderr
        image = line.rpartition(" ")[2].rpartition(":")[0]
        assert verified(line.replace(f"{image}:latest", f"{image}@{unsigned}")).returncode != 0
        other = ec.generate_private_key(ec.SECP256R1()).public_key()
        (tmp_path / "signing.pub").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        assert verified(line).returncode != 0
