"""Scan, bill of materials and signature with the real Trivy and cosign, in the registry of a GitLab."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from components import versions
from components.build_pipeline import FOUND, pipeline_of
from components.settings import Builder, ProjectSettings, SupplyChain
from tests.sandbox.gitlab.registry import metadata
from tests.sandbox.gitlab.registry.collector import review_manifest
from tests.sandbox.gitlab.web.core import cleanup
from tests.sandbox_tests.support.gitlab_instance import running
from tests.sandbox_tests.support.gitlab_projects import running_job
from tests.sandbox_tests.support.gitlab_registry import Place
from tests.sandbox_tests.support.registry_service import Client, Registry, folder
from tests.sandbox_tests.support.supply_chain import Job, debian_packages, push_database, push_debian, tools
from tests.unit.delivered import delivered

pytestmark = pytest.mark.real_time("programs in Go")

#: A package that every Debian has.
PACKAGE = "tar"
HIGH, CRITICAL = 3, 4
LATER = timedelta(days=40)


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program asks for a token before anything else."""
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "example-token")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A GitLab and its registry, which sends clients to it for tokens, and collects garbage when it is told to."""
    tools()
    directory = tmp_path_factory.mktemp("place")
    (directory / "gitlab").mkdir()
    registry = Registry(directory / "registry", folder(directory / "registry").options)
    registry.gc = {"disabled": True}
    with running(directory / "gitlab", registry.url) as instance:
        # Trivy and cosign refuse to be sent to an address of a private network.
        registry.realm = f"{instance.url.replace('127.0.0.1', 'localhost')}/jwt/auth"
        with registry.serving(True):
            yield Place(instance, registry.url)


@dataclass
class Delivery:
    """A project with a job that runs, and what the registry has of it."""

    place: Place
    project: Any
    job: Job

    @property
    def host(self) -> str:
        return self.place.registry.removeprefix("http://")

    @property
    def path(self) -> str:
        return str(self.project.path_with_namespace)

    @property
    def image(self) -> str:
        return f"{self.host}/{self.path}"

    def client(self, below: str = "") -> Client:
        """A client that may do everything in a repository of the project."""
        return Client(self.place.registry, f"{self.path}{below}", "pull", "push", "delete")

    def pipeline(self, **settings: Any) -> Any:
        """The pipeline with the database of the project."""
        chain = SupplyChain.model_validate({"databases": f"{self.image}/mirror", **settings})
        project = ProjectSettings.model_validate({"path": "hello"})
        return yaml.safe_load(pipeline_of(project, Builder.BUILDAH, None, None, chain))

    def collect_garbage(self) -> None:
        """Review every image, however young."""
        database = self.place.instance.directory.parent / "registry/data/registry.sqlite3"
        with metadata.connect(database) as connection:
            connection.execute("UPDATE gc_manifest_review_queue SET review_after = 0")
        while review_manifest(database):
            pass

    def built(self, digest: str) -> None:
        """Leave what the build job hands on."""
        (self.job.folder / "image.txt").write_text(f"{self.image}@{digest}\n")


@pytest.fixture
def delivery(place: Place, tmp_path: Path) -> Delivery:
    kept = delivered(supplyChain={"sign": True}).named("delivery-hello-project").inputs["containerExpirationPolicy"]
    policy = {"enabled": True, "cadence": "1d", "keep_n": 1, "older_than": "7d", "name_regex": ".*"}
    project = place.project(container_expiration_policy_attributes={**policy, "name_regex_keep": kept["nameRegexKeep"]})
    for name in ("project", "home"):
        (tmp_path / name).mkdir()
    variables = {
        "CI_JOB_TOKEN": running_job(place.instance, project),
        "CI_REGISTRY": place.registry.removeprefix("http://"),
        "CI_REGISTRY_IMAGE": f"{place.registry.removeprefix('http://')}/{project.path_with_namespace}",
        # Such variables of a project must not change what is looked for.
        "TRIVY_SEVERITY": "LOW",
        "TRIVY_SKIP_DIRS": "/var/lib/dpkg",
    }
    return Delivery(place, project, Job(tmp_path / "project", variables))


def installed() -> tuple[str, str]:
    """The version of the package, and the one that would fix a hole in it."""
    [version] = re.findall(rf"^Package: {PACKAGE}\n(?:.+\n)*?Version: (.+)$", debian_packages(), re.MULTILINE)
    return version, f"{version}.1"


def hole(name: str, severity: int, fixed: str) -> dict[str, Any]:
    return {"id": name, "release": "13", "source": PACKAGE, "severity": severity, "fixed": fixed}


def test_the_programs_are_those_that_jobs_have() -> None:
    for image, program in ((versions.TRIVY_IMAGE, "trivy"), (versions.COSIGN_IMAGE, "cosign")):
        said = Job(Path("/"), {}).shell(f"{program} version || {program} --version").stdout
        assert image.rpartition(":")[2].removeprefix("v").removesuffix("-dev") in said


def test_a_known_hole_in_an_installed_package_stops_the_pipeline_and_its_update_does_not(
    delivery: Delivery, tmp_path: Path
) -> None:
    version, fixed = installed()
    with delivery.client("/mirror/trivy-db") as client:
        holes = [hole("CVE-2026-11111", HIGH, fixed), hole("CVE-2026-22222", CRITICAL, "")]
        push_database(client, tmp_path / "database", holes)
    with delivery.client() as client:
        old = push_debian(client, "old")
        updated = debian_packages().replace(f"Version: {version}\n", f"Version: {fixed}\n")
        new = push_debian(client, "new", updated)
    scan = delivery.pipeline(scan="block")["scan"]

    delivery.built(old)
    found = delivery.job.run(scan)
    assert found.returncode == FOUND, found.stdout + found.stderr
    assert re.search(rf"{PACKAGE}\W+CVE-2026-11111\W+HIGH\W+fixed\W+{re.escape(version)}", found.stdout)
    assert "so it is not released" in found.stdout
    assert "CVE-2026-22222" not in found.stdout, "no update removes it"
    report = json.loads((delivery.job.folder / "scan.json").read_text())
    [one] = [one for part in report["Results"] for one in part.get("Vulnerabilities", [])]
    assert (one["PkgName"], one["VulnerabilityID"], one["FixedVersion"]) == (PACKAGE, "CVE-2026-11111", fixed)
    assert report["ArtifactName"] == f"{delivery.image}@{old}"
    assert delivery.job.variables["CI_JOB_TOKEN"] not in found.stdout + found.stderr

    delivery.built(new)
    passed = delivery.job.run(scan)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert delivery.job.run(delivery.pipeline(scan="block", ignoreUnfixed=False)["scan"]).returncode == FOUND
    assert delivery.job.run(delivery.pipeline(scan="block", severity=["LOW"])["scan"]).returncode == 0

    delivery.built(old)
    warned = delivery.pipeline(scan="warn")["scan"]
    assert delivery.job.run(warned).returncode in warned["allow_failure"]["exit_codes"]
    (delivery.job.folder / ".trivyignore").write_text("# Not reachable: nothing calls it.\nCVE-2026-11111\n")
    assert delivery.job.run(scan).returncode == 0


def test_a_scan_without_a_database_is_no_finding(delivery: Delivery) -> None:
    with delivery.client() as client:
        delivery.built(push_debian(client, "old"))
    scan = delivery.pipeline(scan="warn", databases=f"{delivery.image}/nothing")["scan"]
    failed = delivery.job.run(scan)
    assert failed.returncode == 1
    assert "nothing/trivy-db" in failed.stderr


def key_pair(job: Job) -> None:
    """A key of the kind that the stack makes: the CI/CD variable, and the output `signing_public_key`."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    file = job.folder.parent / "signing-key"
    file.write_text("".join(pem.splitlines()[1:-1]))
    job.variables["SLIPWAY_SIGNING_KEY"] = str(file)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (job.folder / "signing.pub").write_bytes(public)


def test_a_signature_and_a_bill_of_materials_belong_to_the_released_digest_and_outlive_its_tags(
    delivery: Delivery,
) -> None:
    with delivery.client() as client:
        digest = push_debian(client, "1" * 40)
        client.put("latest", client.manifest(digest).content).raise_for_status()
        other = push_debian(client, "other", debian_packages())
    delivery.built(digest)
    key_pair(delivery.job)
    text = delivery.pipeline(sbom=True, sign=True)
    for name in ("sbom", "sign"):
        ran = delivery.job.run(text[name])
        assert ran.returncode == 0, f"{name}:\n{ran.stdout}{ran.stderr}"
        assert delivery.job.variables["CI_JOB_TOKEN"] not in ran.stdout + ran.stderr
    listed = json.loads((delivery.job.folder / "sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    assert (PACKAGE, installed()[0]) in {(one["name"], one.get("version")) for one in listed["components"]}
    assert listed["metadata"]["component"]["name"].endswith(digest)

    verify = delivered(supplyChain={"sign": True}).exports["projects"][0]["cosign_verify"].rpartition(" ")[0]
    assert verify.startswith("cosign verify --key signing.pub")
    attested = f"{verify.replace('verify', 'verify-attestation', 1)} --type cyclonedx"
    for command in (verify, attested):
        for reference in (f"{delivery.image}:latest", f"{delivery.image}@{digest}"):
            checked = delivery.job.shell(f"{command} {reference}")
            assert checked.returncode == 0, checked.stderr
    assert digest in delivery.job.shell(f"{verify} {delivery.image}:latest").stdout
    assert delivery.job.shell(f"{verify} {delivery.image}@{other}").returncode != 0

    name = digest.replace(":", "-")
    with delivery.client() as client:
        assert {f"{name}.sig", f"{name}.att"} <= set(client.tags())
        assert client.manifest("latest").headers["docker-content-digest"] == digest
        cleanup.run_due(delivery.place.instance.config, datetime.now(UTC) + LATER)
        assert {"latest", f"{name}.sig", f"{name}.att"} <= set(client.tags())
        assert "1" * 40 not in client.tags()
        assert delivery.job.shell(f"{verify} {delivery.image}@{digest}").returncode == 0
        # A signature keeps no image alive.
        client.http.delete(f"/v2/{delivery.path}/manifests/latest").raise_for_status()
        delivery.collect_garbage()
        assert client.manifest(digest).status_code == 404
        assert f"{name}.sig" in client.tags()
    key_pair(delivery.job)
    assert delivery.job.shell(f"{verify} {delivery.image}@{digest}").returncode != 0


def test_a_branch_that_is_not_protected_signs_nothing_and_says_why(delivery: Delivery) -> None:
    delivery.built(f"sha256:{'a' * 64}")
    ran = delivery.job.run(delivery.pipeline(sign=True)["sign"])
    assert ran.returncode == 1
    assert "error: this branch is not protected" in ran.stdout
