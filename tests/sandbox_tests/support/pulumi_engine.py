"""Small programs in the real Pulumi engine with the sandbox's plugins, and single resources without the engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import yaml

from tests.sandbox import layout
from tests.sandbox.plugins.base.framework import Call, Checker, Failure, Provider
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.install import install

_PROGRAMS = Path(__file__).with_name("programs")


class Engine:
    """One stack of one program. Owns a home, a backend and a project folder of its own below `folder`."""

    def __init__(self, folder: Path, program: str, config: dict[str, Any], env: dict[str, str] | None = None) -> None:
        self.project = folder / "project"
        self.project.mkdir(parents=True)
        shutil.copy(_PROGRAMS / f"{program}.py", self.project / "__main__.py")
        runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
        (self.project / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "small", "runtime": runtime}))
        home, binaries, backend = folder / "home", folder / "bin", folder / "backend"
        backend.mkdir()
        install(home, binaries, Path(sys.executable))
        self.env = {
            "HOME": str(folder),
            "PATH": os.pathsep.join((str(binaries), str(layout.current().cache / "bin"), os.environ["PATH"])),
            "PULUMI_HOME": str(home),
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE": "only for this test",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            **(env or {}),
        }
        self.run("stack", "init", "test")
        self.configure(config)

    def configure(self, config: dict[str, Any]) -> None:
        """Set values of the stack's configuration. Those whose name is `key` or `stdin` are secret."""
        path = self.project / "Pulumi.test.yaml"
        kept = yaml.safe_load(path.read_text()) if path.exists() else {}
        kept["config"] = kept.get("config", {}) | {f"small:{name}": value for name, value in config.items()}
        path.write_text(yaml.safe_dump(kept))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command of the CLI, running."""
        return subprocess.Popen(
            ["pulumi", "--non-interactive", "--color", "never", *arguments],
            cwd=self.project,
            env=self.env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: str, fails: bool = False) -> str:
        """A command of the CLI, to its end; what it printed. It must fail if that is expected, and only then."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=120)
        assert (process.returncode != 0) == fails, output
        return output

    def up(self, *arguments: str, fails: bool = False) -> str:
        """Update without a preview."""
        return self.run("up", "--yes", "--skip-preview", *arguments, fails=fails)

    def destroy(self) -> str:
        """Destroy without a preview."""
        return self.run("destroy", "--yes", "--skip-preview")

    def changes(self, *arguments: str) -> dict[str, int]:
        """What a preview would do, by kind of step."""
        output = self.run("preview", "--json", *arguments)
        summary: dict[str, int] = json.loads(output[output.index("{\n") :])["changeSummary"]
        return summary

    def outputs(self) -> dict[str, Any]:
        """Outputs of the stack, secrets in clear."""
        outputs: dict[str, Any] = json.loads(self.run("stack", "output", "--json", "--show-secrets"))
        return outputs

    def resources(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """Resources in the state, by logical name."""
        exported = json.loads(self.run("stack", "export", *arguments))
        found = exported["deployment"].get("resources", [])
        return {item["urn"].rpartition("::")[2]: item for item in found if not _is_internal(item["type"])}

    def urns(self) -> list[str]:
        """The URNs of everything in the state."""
        found = json.loads(self.run("stack", "export"))["deployment"].get("resources", [])
        return [str(item["urn"]) for item in found]


class ResourceDriver:
    """Calls the resources of a provider as the engine does, without the engine."""

    def __init__(self, provider: Provider, session: Any) -> None:
        self.cancelled = threading.Event()
        self._provider = provider
        self._session = session

    def call(self, timeout: float = 0) -> Call:
        """A request of the engine."""
        return Call(self._session, "", "it", self.cancelled, lambda _severity, _message: None, timeout)

    def resource(self, kind: str) -> Any:
        """A type by the last part of its name."""
        return self._provider.resource(f"{self._provider.name}:index/{kind[0].lower()}{kind[1:]}:{kind}")

    def failures(self, kind: str, inputs: Properties) -> list[Failure]:
        """What is wrong with inputs."""
        checker = Checker()
        resource = self.resource(kind)
        checked = checker.check(resource.inputs, inputs)
        return [*checker.failures, *([] if checker.failures else resource.validate(checked))]

    def checked(self, kind: str, inputs: Properties) -> Properties:
        """Inputs with defaults; nothing is wrong with them."""
        assert self.failures(kind, inputs) == []
        return Checker().check(self.resource(kind).inputs, inputs)

    def create(self, kind: str, timeout: float = 0, **inputs: Any) -> tuple[str, Properties]:
        """Make one; its ID and state."""
        checked = self.checked(kind, inputs)
        identifier, outputs = self.resource(kind).create(self.call(timeout), checked)
        return identifier, checked | outputs

    def update(self, kind: str, identifier: str, old: Properties, **changes: Any) -> Properties:
        """Change it in place; its state afterwards."""
        resource = self.resource(kind)
        kept = {name: old[name] for name in resource.inputs if name in old}
        inputs = self.checked(kind, kept | changes)
        outputs: Properties = old | inputs | resource.complete_or_update(self.call(), identifier, old, inputs)
        return outputs

    def read(self, kind: str, identifier: str, state: Properties | None = None) -> Any:
        """What is there now."""
        return self.resource(kind).read(self.call(), identifier, state or {})

    def delete(self, kind: str, identifier: str, state: Properties, timeout: float = 0) -> None:
        """Remove it."""
        self.resource(kind).delete(self.call(timeout), identifier, state)


def _is_internal(kind: str) -> bool:
    return kind.startswith("pulumi:")
