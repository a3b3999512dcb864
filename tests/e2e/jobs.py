"""Single jobs on branches of their own, and their containers on the machine of a runner."""

from __future__ import annotations

import base64
import io
import json
import secrets
import tarfile
from hashlib import sha256
from typing import Any

import yaml
from gitlab.v4.objects import Project, ProjectJob

from tests.e2e.hosts import Host
from tools.pipelines import ENDED, started, until


def start_job(project: Project, job: dict[str, Any]) -> ProjectJob:
    """Start a job on a branch of its own."""
    content = yaml.safe_dump({"job": job})
    action = {"action": "update", "file_path": ".gitlab-ci.yml", "content": content}
    branch = f"try-{secrets.token_hex(4)}"
    about = {"branch": branch, "start_branch": "main", "commit_message": "Try something", "actions": [action]}
    sha = project.commits.create(about).id
    [one] = started(project, sha).jobs.list(get_all=True)
    return project.jobs.get(one.id)


def wait_for_job(project: Project, job: ProjectJob) -> ProjectJob:
    """Wait for a job to end, and return it."""

    def look() -> ProjectJob | None:
        seen = project.jobs.get(job.id)
        return seen if seen.status in ENDED else None

    return until(look, f"job {job.id} has ended")


def log_of(job: ProjectJob) -> str:
    """The log of a job."""
    return bytes(job.trace()).decode()


def container_of(host: Host, job: ProjectJob) -> str:
    """ID of the build container of a running job."""
    query = f"docker ps -q --filter label=com.gitlab.gitlab-runner.job.id={job.id} --filter name=-build"
    return str(until(lambda: host.sudo(query).strip(), f"job {job.id} has a container"))


def load_old_image(name: str) -> str:
    """Shell commands that load an image created years ago."""
    layer, archive = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    configuration = {
        "created": "2020-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [f"{name}:latest"], "Layers": ["layer.tar"]}]
    files = {
        "layer.tar": layer.getvalue(),
        "config.json": json.dumps(configuration).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return f"base64 --decode <<< {base64.b64encode(archive.getvalue()).decode()} | docker load\n"
