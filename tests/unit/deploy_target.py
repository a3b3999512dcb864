"""A machine that deploy jobs reach: `ssh` runs what it gets, and a Docker client of the tests keeps the containers."""

from __future__ import annotations

import marshal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from components.build_pipeline import pipeline_of
from components.settings import Builder, ProjectSettings, SupplyChain
from tests.unit.engine import ROOT
from tests.unit.stack_file_corpus import PUBLIC_KEY

SSH = """#!/bin/sh
printf '%s\\n' "$@" >"$FAKE_DOCKER/ssh-arguments"
for word; do case $word in UserKnownHostsFile=*) cp "${word#*=}" "$FAKE_DOCKER/known_hosts" ;; esac; done
cat >"$FAKE_DOCKER/input"
[ ! -e "$FAKE_DOCKER/ssh-says" ] || { cat "$FAKE_DOCKER/ssh-says" >&2; exit 255; }
sh -s <"$FAKE_DOCKER/input"
"""
OLD, NEW = (f"registry.test:5050/root/{name}@sha256:{digit * 64}" for name, digit in (("hello", "1"), ("hello", "2")))
TOKEN = "gldt-it's\nsecret"  # noqa: S105 - an example
ENVIRONMENT: dict[str, Any] = {
    "name": "staging",
    "host": "203.0.113.7",
    "user": "deploy",
    "hostKey": PUBLIC_KEY,
    "publish": ["80:3000", "127.0.0.1:53:53/udp"],
    "variables": ["GREETING"],
    "healthCheck": {"command": "test 'a' = \"a\"", "timeoutSeconds": 1},
}


class Target:
    """A machine and the deploy jobs that reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, ENVIRONMENT
        tools = folder / "tools"
        tools.mkdir()
        docker = f'#!/bin/sh\nexec {sys.executable} -I -S {ROOT}/tests/unit/fake_docker.py "$@"\n'
        for name, text in (("docker", docker), ("ssh", SSH), ("curl", "#!/bin/sh\n")):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self.write({"containers": {}, "images": [], "logins": []})

    def write(self, state: dict[str, Any]) -> None:
        (self.folder / "state").write_bytes(marshal.dumps(state))

    @property
    def state(self) -> Any:
        return marshal.loads((self.folder / "state").read_bytes())  # noqa: S302 - of this test

    @property
    def running(self) -> dict[str, str]:
        """The image of each container that runs."""
        return {name: one["image"] for name, one in self.state["containers"].items() if one["status"] == "running"}

    def killed(self, moment: str, image: str) -> None:
        """Run a deploy job that is killed at the first command of Docker that begins so."""
        (self.folder / "kill-at").write_text(moment)
        code, _ = self.deploy(image)
        assert code != 0
        assert not (self.folder / "kill-at").exists()

    def deploy(self, image: str, **variables: str) -> tuple[int, str]:
        """Run the deploy job of a pipeline; its exit code and output."""
        settings = ProjectSettings.model_validate({"path": "Hello", "deploy": [self.settings]})
        text = yaml.safe_load(pipeline_of(settings, Builder.BUILDAH, None, None, SupplyChain()))
        [name] = [one for one in text if one.startswith("deploy:")]
        script = "\n".join(["set -e", *text[name]["before_script"], *text[name]["script"]])
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        (work / "image.txt").write_text(f"{image}\n")
        (work / "deployed.txt").unlink(missing_ok=True)
        key = self.folder / "id"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        environment = {
            "PATH": f"{self.folder / 'tools'}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "FAKE_DOCKER": str(self.folder),
            "CI_COMMIT_REF_NAME": "main",
            "CI_ENVIRONMENT_NAME": "staging",
            "CI_PROJECT_PATH": "root/hello",
            "CI_REGISTRY": "registry.test:5050",
            "GREETING": "it's\n$HOME",
            "SLIPWAY_DEPLOY_HOST": "203.0.113.7",
            "SLIPWAY_DEPLOY_HOST_KEY": PUBLIC_KEY,
            "SLIPWAY_DEPLOY_KEY": str(key),
            "SLIPWAY_DEPLOY_PORT": "2222",
            "SLIPWAY_DEPLOY_REGISTRY_TOKEN": TOKEN,
            "SLIPWAY_DEPLOY_REGISTRY_USER": "hello-pull",
            "SLIPWAY_DEPLOY_USER": "deploy",
            **variables,
        }
        environment = {name: value for name, value in environment.items() if value}
        done = subprocess.run(
            ["sh", "-c", script], cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def handed_on(self) -> str | None:
        """What the job leaves as an artifact."""
        file = self.folder / "work" / "deployed.txt"
        return file.read_text().strip() if file.exists() else None
