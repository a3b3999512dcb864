"""The real Trivy and cosign, a small vulnerability database, and jobs of the pipeline that use them.

Both are built from their public Go modules, in the versions that the program pins. That takes some ten minutes on two
cores, so only tests of `make nightly` ask for it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from components import versions
from tests.sandbox.cloud.tools import containers, golang
from tests.sandbox.gitlab.registry.documents import OCI_MANIFEST, digest_of
from tests.sandbox.hub import build
from tests.sandbox.hub.build import blob, layers
from tests.sandbox.layout import current
from tests.sandbox_tests.support.registry_service import CONFIG_TYPE, LAYER_TYPE, Client

_TRIVY = "github.com/aquasecurity/trivy"
_COSIGN = "github.com/sigstore/cosign/v3"
_SOURCE = Path(__file__).parent / "programs/vulnerability_database/main.go"
#: How Trivy's database is stored in a registry.
DATABASE_TYPE = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
DATABASE_CONFIG = "application/vnd.aquasec.trivy.config.v1+json"


def _version(image: str) -> str:
    return f"v{image.rpartition(':')[2].removeprefix('v').removesuffix('-dev')}"


PROGRAMS = (
    containers.GoProgram(
        "trivy",
        f"{_TRIVY}/cmd/trivy",
        _version(versions.TRIVY_IMAGE),
        stamp=f"-X {_TRIVY}/pkg/version/app.ver={_version(versions.TRIVY_IMAGE)}",
        experiment="jsonv2",
    ),
    containers.GoProgram(
        "cosign",
        f"{_COSIGN}/cmd/cosign",
        _version(versions.COSIGN_IMAGE),
        stamp=f"-X sigs.k8s.io/release-utils/version.gitVersion={_version(versions.COSIGN_IMAGE)}",
    ),
)


@cache
def tools() -> Path:
    """The folder with `trivy`, `cosign` and `vulnerability-database`."""
    store = current().cache
    target = store / "supply-chain"
    containers.provide(PROGRAMS, target, store)
    _build_database_program(target, store)
    return target


def offer_images() -> None:
    """Let sandboxes that start from now on have both programs in the images that jobs name."""
    folder = tools()
    for program in PROGRAMS:
        build.add(current().cache, program.name, program.recipe(), partial(_add_program, folder / program.name))


def _add_program(file: Path, archive: tarfile.TarFile) -> None:
    entry = archive.gettarinfo(file, f"usr/local/bin/{file.name}")
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "root", "root"
    with file.open("rb") as content:
        archive.addfile(entry, content)


def _build_database_program(target: Path, store: Path) -> None:
    """Build it with the version of the library that this Trivy has."""
    program, recipe = target / "vulnerability-database", _SOURCE.read_text() + versions.TRIVY_IMAGE
    if program.exists() and program.with_suffix(".source").read_text() == recipe:
        return
    work = store / "build/vulnerability-database"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shutil.copy2(_SOURCE, work)
    go = golang.find_go(store)
    environment = golang.environment(go) | {"CGO_ENABLED": "0", "GOEXPERIMENT": "jsonv2", "GOFLAGS": "-mod=mod"}
    version = _version(versions.TRIVY_IMAGE)
    for words in (["mod", "init", "database"], ["get", f"{_TRIVY}@{version}"], ["build", "-o", program, "."]):
        subprocess.run([go, *words], cwd=work, env=environment, check=True, capture_output=True)
    program.with_suffix(".source").write_text(recipe)


def push_database(client: Client, folder: Path, holes: list[dict[str, Any]]) -> None:
    """Push a database with these holes as `trivy-db:2`, as the publisher of Trivy's own does."""
    folder.mkdir()
    command = [tools() / "vulnerability-database", folder]
    subprocess.run(command, input=json.dumps(holes).encode(), check=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("trivy.db", "metadata.json"):
            archive.add(folder / name, name)
    layer = _part(client, packed.getvalue(), DATABASE_TYPE)
    layer["annotations"] = {"org.opencontainers.image.title": "db.tar.gz"}
    config = _part(client, b"{}", DATABASE_CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    client.put("2", json.dumps(manifest).encode()).raise_for_status()


def debian_packages() -> str:
    """What the Debian of the sandbox's images has installed: its `/var/lib/dpkg/status`."""
    base = blob(current().cache, layers(current().cache)["base"].digest)
    with tarfile.open(base) as archive:
        file = archive.extractfile("var/lib/dpkg/status")
        assert file is not None
        return file.read().decode()


def push_debian(client: Client, tag: str, status: str | None = None) -> str:
    """Push that Debian as an image, if asked with another list of installed packages; returns its digest."""
    base = layers(current().cache)["base"]
    parts = [_part(client, blob(current().cache, base.digest).read_bytes(), f"{LAYER_TYPE}+gzip")]
    contents = [base.diff_id]
    if status is not None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo("var/lib/dpkg/status")
            entry.size = len(status.encode())
            archive.addfile(entry, io.BytesIO(status.encode()))
        parts.append(_part(client, gzip.compress(packed.getvalue()), f"{LAYER_TYPE}+gzip"))
        contents.append(digest_of(packed.getvalue()))
    described = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers"}}
    described["rootfs"] = {"type": "layers", "diff_ids": contents}
    config = _part(client, json.dumps(described).encode(), CONFIG_TYPE)
    text = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": parts}).encode()
    client.put(tag, text).raise_for_status()
    return digest_of(text)


def _part(client: Client, content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": client.upload(content), "size": len(content)}


@dataclass(frozen=True)
class Job:
    """Where jobs of a pipeline run: the folder of the project, and the variables that GitLab would set."""

    folder: Path
    variables: dict[str, str]

    def run(self, job: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Run a job as GitLab Runner does, with the real programs and no way to the internet."""
        lines = ["set -eo pipefail", *job["before_script"], *job["script"]]
        return self.shell("\n".join(lines))

    def shell(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run commands in the same place."""
        nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:1")
        environment = {"PATH": f"{tools()}:{os.environ['PATH']}", "HOME": str(self.folder.parent / "home")}
        environment |= {**nowhere, **self.variables}
        command = ["bash", "-c", text]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
