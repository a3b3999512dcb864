"""Kubernetes for the sandbox's clusters: its programs built from public Go modules, and the image of its machines.

Made only when somebody asks for it: `prepare --kubernetes`. Network policies are kube-router's: Cilium, which the
service has, is no Go program alone, and kube-network-policies needs queues of nftables, which not every kernel has. The
cluster autoscaler has no version that the registry of Go modules knows; the emulator has one of its own.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.sandbox import versions
from tests.sandbox.cloud.tools import golang
from tests.sandbox.cloud.tools.containers import GoProgram, provide
from tests.sandbox.machines.kubernetes import build as image
from tests.sandbox.machines.kubernetes.archive import write_archive
from tools.progress import Say, ToolError, run, say

_MODULE = "k8s.io/kubernetes"
_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
#: What the sources name by folders of their own repository, and the registry of modules by names.
_STAGING = "=> ./staging/src/"
_ROUTER = GoProgram(
    "kube-router",
    "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
    f"v{versions.KUBE_ROUTER}",
)
_COREDNS = GoProgram("coredns", "github.com/coredns/coredns", f"v{versions.COREDNS}")


def folder(cache: Path) -> Path:
    """Where the programs and images are."""
    return cache / "kubernetes"


def prepare(cache: Path, progress: Say = say) -> Path:
    """Have the image of Kubernetes machines. Some ten minutes of two cores and 4 GB of module cache at first.

    Raises:
        ToolError: a module cannot be fetched or a program not be compiled.
    """
    programs, others, images = (folder(cache) / name for name in ("programs", "others", "images"))
    _build_kubernetes(programs, cache, progress)
    provide([_ROUTER], others, cache, progress)
    provide([_COREDNS], others, cache, progress)
    _build_pause(others / "pause", cache)
    images.mkdir(exist_ok=True)
    write_archive(images / "pause.tar", versions.PAUSE, others / "pause", ["/pause"])
    write_archive(
        images / "coredns.tar", f"registry.k8s.io/coredns/coredns:v{versions.COREDNS}", others / "coredns", ["/coredns"]
    )
    shutil.copy2(others / "kube-router", programs / "kube-router")
    return image.build(versions.KUBERNETES, cache, programs=programs, images=images, progress=progress)


def _build_kubernetes(target: Path, cache: Path, progress: Say) -> None:
    """The programs of Kubernetes in one go: they share almost everything."""
    version = versions.KUBERNETES
    recipe = target / "kubernetes.recipe"
    wanted = hashlib.sha256("\0".join((version, *_PROGRAMS, *_stamps(version))).encode()).hexdigest()
    if recipe.exists() and recipe.read_text() == wanted and all((target / name).exists() for name in _PROGRAMS):
        progress(f"kubernetes {version}: cached")
        return
    progress(f"kubernetes {version}: building from its public Go modules, about 5 minutes on 2 cores")
    go, log = golang.find_go(cache), cache / "logs" / "kubernetes.log"
    environment = golang.environment(go)
    work = cache / "build" / "kubernetes"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    target.mkdir(parents=True, exist_ok=True)
    run("kubernetes: go mod init", [go, "mod", "init", "kubernetes-build"], log, environment, work)
    _name_staging_modules(go, work, version, log, environment)
    packages = [f"{_MODULE}/cmd/{name}" for name in _PROGRAMS]
    get: list[str | Path] = [go, "get", "-tool", *(f"{package}@v{version}" for package in packages)]
    run("kubernetes: modules", get, log, environment, work)
    flags = ["-trimpath", f"-ldflags=-s -w {' '.join(_stamps(version))}"]
    compile_: list[str | Path] = [go, "build", *flags, "-o", f"{work}/", *packages]
    run("kubernetes: compiling", compile_, log, environment, work)
    recipe.unlink(missing_ok=True)
    for name in _PROGRAMS:
        (work / name).replace(target / name)
    recipe.write_text(wanted)
    shutil.rmtree(work)


def _stamps(version: str) -> list[str]:
    major, minor, _ = version.split(".")
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return [f"-X {package}.{name}={value}" for package in packages for name, value in values.items()]


def _name_staging_modules(go: Path, work: Path, version: str, log: Path, environment: dict[str, str]) -> None:
    """Outside of its repository, the modules that Kubernetes is made of are published ones of the same age."""
    run("kubernetes: sources", [go, "mod", "download", f"{_MODULE}@v{version}"], log, environment, work)
    asked = subprocess.run([go, "env", "GOMODCACHE"], check=True, capture_output=True, text=True, env=environment)
    modules = Path(asked.stdout.strip()) / "cache" / "download" / _MODULE / "@v" / f"v{version}.mod"
    names = [line.split()[0] for line in modules.read_text().splitlines() if _STAGING in line]
    if not names:
        raise ToolError(f"{modules} names none of the modules that Kubernetes {version} is made of")
    minor_and_patch = version.partition(".")[2]
    replaced = [f"-replace={name}={name}@v0.{minor_and_patch}" for name in names]
    run("kubernetes: go mod edit", [go, "mod", "edit", *replaced], log, environment, work)


def _build_pause(target: Path, cache: Path) -> None:
    go = golang.find_go(cache)
    source = image.HERE / "pause" / "main.go"
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return
    words: list[str | Path] = [go, "build", "-trimpath", "-ldflags=-s -w", "-o", target, source]
    run("pause: compiling", words, cache / "logs" / "pause.log", golang.environment(go), source.parent)
