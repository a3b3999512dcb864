"""A program in TypeScript that uses the package of this project, with the SDK that Pulumi generates for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.sandbox import layout
from tests.sandbox.cloud.tools import golang, nodejs
from tests.sandbox_tests.support.pulumi_engine import Engine
from tools import pulumi

_PROGRAMS = Path(__file__).with_name("programs")
_SOURCE = _PROGRAMS / "node_sdk/main.go"


@cache
def generator() -> Path:
    """Pulumi's generator of SDKs for Node.js, built with the modules that the CLI was built from."""
    store = layout.current().cache
    program, recipe = store / "bin/pulumi-node-sdk", f"{_SOURCE.read_text()}// {pulumi.VERSION}\n"
    stamp = store / "build/pulumi-node-sdk.stamp"
    if program.exists() and stamp.exists() and stamp.read_text() == recipe:
        return program
    work = store / "build/pulumi-node-sdk"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shutil.copy2(_SOURCE, work)
    go = golang.find_go(store)
    modules = [f"{golang.PULUMI_MODULE}/{part}/v3@v{pulumi.VERSION}" for part in ("pkg", "sdk")]
    build = ["build", "-trimpath", "-ldflags=-s -w", "-o", str(program), "."]
    for words in (["mod", "init", "sdk"], ["get", *modules], build):
        subprocess.run([go, *words], cwd=work, env=golang.environment(go), check=True, capture_output=True)
    stamp.write_text(recipe)
    return program


class TypeScriptProgram:
    """A program in the folder of an engine, and how it is compiled and run."""

    def __init__(self, engine: Engine, package: Path, source: str) -> None:
        self._engine, self._folder, store = engine, engine.project, layout.current().cache
        self._node, self._modules = nodejs.node(store) / "bin/node", store / "npm/node_modules"
        project = {"name": "small", "runtime": "nodejs", "main": ".", "packages": {"slipway": str(package)}}
        (self._folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
        self._link_modules()
        self._generate_sdk(package)
        assert self.compile(source) == ""
        shutil.copy2(_PROGRAMS / "typescript/run.mjs", self._folder)

    def compile(self, source: str) -> str:
        """Put another program in its place; what the compiler has against it."""
        (self._folder / "index.ts").write_text(source)
        return self._tsc("--target", "es2022", "--module", "nodenext", "--strict", "--skipLibCheck", "index.ts")

    def run(self, operation: str, *, fails: bool = False) -> str:
        """An operation of the Automation API; what it printed."""
        done = self._run(self._folder, "run.mjs", operation)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        return output

    def changes(self, operation: str) -> dict[str, int]:
        """The same; what it changed, by kind of step."""
        changes: dict[str, int] = json.loads(self.run(operation).splitlines()[-1])
        return changes

    def _link_modules(self) -> None:
        """Everything that is installed, beside the SDK of this package."""
        own = self._folder / "node_modules"
        (own / "@pulumi").mkdir(parents=True)
        (own / "@pulumi/pulumi").symlink_to(self._modules / "@pulumi/pulumi")
        (own / "@types").symlink_to(self._modules / "@types")

    def _generate_sdk(self, package: Path) -> None:
        schema = self._engine.run("package", "get-schema", str(package))
        sdk = self._folder / "node_modules/@pulumi/slipway"
        given = schema[schema.index("{\n") :]
        subprocess.run([generator(), sdk], input=given, text=True, check=True, capture_output=True)
        assert self._tsc("--project", str(sdk)) == ""
        # As its own script does after the installation.
        shutil.copy2(sdk / "package.json", sdk / "bin")

    def _tsc(self, *words: str) -> str:
        return self._run(self._folder, str(self._modules / "typescript/bin/tsc"), *words).stdout

    def _run(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._node, *words],
            cwd=folder,
            env=self._engine.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


def of_document(text: str, **arguments: Any) -> str:
    """The program in TypeScript that is in a document, with some arguments of its installation replaced."""
    [found] = re.findall(r"```ts\n(.*?)```", text, re.DOTALL)
    kept = [line for line in found.splitlines() if line.strip().partition(":")[0] not in arguments]
    begin = next(number for number, line in enumerate(kept, 1) if "new slipway." in line)
    added = [f"    {key}: {json.dumps(value)}," for key, value in arguments.items()]
    return "\n".join([*kept[:begin], *added, *kept[begin:]])
