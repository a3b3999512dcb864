"""The program itself in the real engine, against the emulated cloud: what needs no machine that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.pulumi_engine import Engine

_ROOT = Path(__file__).parents[3]
SETTINGS: dict[str, Any] = {
    "domain": "example.test",
    "adminCidrs": ["192.0.2.10/32"],
    "removal": "everything",
    "registry": {"storage": "filesystem"},
    "server": {"image": "debian-13-x64"},
}


class ProgramEngine(Engine):
    """A stack `test` of the program in a folder of its own, with the token of an emulated cloud."""

    def __init__(self, folder: Path, cloud: EmulatedCloud, settings: dict[str, Any] | None = None) -> None:
        environment = {
            "DIGITALOCEAN_TOKEN": cloud.token,
            "DIGITALOCEAN_API_URL": cloud.url,
            "SSL_CERT_FILE": str(cloud.ca_certificate),
            "PYTHONPATH": str(_ROOT),
        }
        super().__init__(folder, "environment", {}, environment)
        self.file = self.project / "stacks" / "Pulumi.test.yaml"
        self.state = folder / "backend" / ".pulumi" / "stacks" / "slipway" / "test.json"
        self.settings = SETTINGS | (settings or {})
        self._prepare()

    def _prepare(self) -> None:
        (self.project / "__main__.py").unlink()
        for name in ("__main__.py", "components"):
            (self.project / name).symlink_to(_ROOT / name)
        content = yaml.safe_load((_ROOT / "Pulumi.yaml").read_text())
        content["runtime"] = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
        (self.project / "Pulumi.yaml").write_text(yaml.safe_dump(content))
        self.file.parent.mkdir()
        self.run("stack", "init", "test")
        kept = yaml.safe_load(self.file.read_text()) if self.file.exists() else {}
        config = {f"slipway:{name}": value for name, value in self.settings.items()}
        self.file.write_text(yaml.safe_dump({**(kept or {}), "config": config}))

    def tool(self, *words: str, fails: int = 0) -> str:
        """What a command of `tools/` prints; it ends with the code `fails`."""
        done = subprocess.run(
            [sys.executable, "-m", "tools", *words],
            cwd=self.project,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == fails, output
        return output

    def forget(self, names: set[str]) -> None:
        """Take resources out of the state, as if the engine had been killed before it could record them."""
        content = json.loads(self.state.read_text())
        latest = content["checkpoint"]["latest"]
        gone = {one["urn"] for one in latest["resources"] if one["urn"].rpartition("::")[2] in names}
        latest["resources"] = [
            one
            for one in latest["resources"]
            if one["urn"] not in gone and gone.isdisjoint([*one.get("dependencies", []), one.get("deletedWith")])
        ]
        self.state.write_text(json.dumps(content))
