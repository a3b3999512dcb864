"""Clusters of the sandbox, as the API shows them and as kubectl reaches them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import tenacity

from tests.sandbox.layout import API_HOST, current

CLUSTERS = "/v2/kubernetes/clusters"
#: Seconds for something that boots a machine, and for something that a cluster does by itself.
BOOT, SOON = 240, 60


@contextmanager
def account() -> Iterator[httpx.Client]:
    """A client of DigitalOcean's API."""
    headers = {"Authorization": f"Bearer {current().token_file.read_text().strip()}"}
    with httpx.Client(base_url=f"https://{API_HOST}", headers=headers, timeout=30) as http:
        yield http


def eventually(probe: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so. The API takes 250 requests a minute."""
    asking = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda found: not found),
        stop=tenacity.stop_after_delay(seconds),
        wait=tenacity.wait_fixed(0.5),
    )
    asking(probe)


class Cluster:
    """A cluster, by its API and by kubectl with the kubeconfig that the API gives."""

    def __init__(self, http: httpx.Client, cluster_id: str, folder: Path) -> None:
        self.http, self.id = http, cluster_id
        self._kubeconfig = folder / "kubeconfig"
        self._kubeconfig.touch(mode=0o600)
        self._kubectl = current().cache / "kubernetes" / "programs" / "kubectl"

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"{CLUSTERS}/{self.id}"

    def show(self) -> dict[str, Any]:
        """What the API says of it."""
        found: dict[str, Any] = self.http.get(self.path).raise_for_status().json()["kubernetes_cluster"]
        return found

    def sign_in(self, seconds: int = 0) -> None:
        """Get a kubeconfig that is valid for so long."""
        answer = self.http.get(f"{self.path}/kubeconfig", params={"expiry_seconds": seconds}).raise_for_status()
        self._kubeconfig.write_text(answer.text)

    def kubectl(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, which may fail."""
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig)}
        command = [str(self._kubectl), *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, input=stdin)

    def run(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl, which must not fail."""
        done = self.kubectl(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def pod(self, name: str, **spec: Any) -> None:
        """Start a pod that waits, in the image of the sandbox's Docker Hub."""
        container: dict[str, Any] = {"name": "main", "image": "debian:13-slim", "command": ["sleep", "3600"]}
        container["resources"] = {"requests": {"cpu": "100m"}}
        content = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
        }
        self.run("apply", "--filename=-", stdin=json.dumps(content))

    def ready(self, name: str) -> None:
        """Wait until a pod runs."""
        self.run("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={BOOT}s")

    def node_of(self, name: str) -> str:
        """The node that a pod is on."""
        return self.run("get", "pod", name, "--output=jsonpath={.spec.nodeName}")

    def connects(self, pod: str, address: str, port: int) -> bool:
        """Whether a pod reaches an address."""
        probe = f"exec 3<>/dev/tcp/{address}/{port}"
        return self.kubectl("exec", pod, "--", "timeout", "5", "bash", "-c", probe).returncode == 0

    def nodes(self) -> list[str]:
        """The nodes that the cluster has."""
        return self.run("get", "nodes", "--output=jsonpath={.items[*].metadata.name}").split()
