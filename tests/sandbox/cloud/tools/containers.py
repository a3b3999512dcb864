"""Docker, Buildah, the registry and kamal-proxy in the versions that the program names, built from Go modules.

Debian's are older. The daemon is built from the second module of Moby, which has tags of its own: `versions.MOBY` names
the one with the code of Docker's release, and the stamp in the program names the release.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import versions
from tests.sandbox.cloud.tools import golang
from tools.progress import Say, run, say

_MOBY = "github.com/moby/moby/v2"
_CLI = "github.com/docker/cli"
_BUILDX = "github.com/docker/buildx"
_BUILDAH = "github.com/containers/buildah"
_DISTRIBUTION = "github.com/distribution/distribution/v3"
_KAMAL_PROXY = "github.com/basecamp/kamal-proxy"


@dataclass(frozen=True)
class GoProgram:
    """One program: the package it is made of, the version of its module, and how it is compiled.

    `modules` is a go.mod for a package whose own module states no requirements. `is_static_c` compiles its C code too,
    and links it statically, so that the program runs on any Debian. `experiment` is one of Go's that it needs.
    """

    name: str
    package: str
    version: str
    stamp: str = ""
    tags: str = ""
    flags: tuple[str, ...] = ()
    modules: Path | None = None
    is_static_c: bool = False
    experiment: str = ""

    def build_flags(self) -> list[str]:
        """The flags of `go build`."""
        linker = f"-s -w {self.stamp}"
        if self.is_static_c:
            linker += " -linkmode external -extldflags -static"
        return ["-trimpath", f"-tags={self.tags}", f"-ldflags={linker.strip()}", *self.flags]

    def recipe(self) -> str:
        """Changes when the program would be built in another way."""
        modules = self.modules.read_text() if self.modules else ""
        parts = [self.package, self.version, modules, *self.build_flags(), *filter(None, [self.experiment])]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


PROGRAMS = (
    GoProgram(
        "docker",
        f"{_CLI}/cmd/docker",
        f"v{versions.DOCKER}+incompatible",
        stamp=f"-X {_CLI}/cli/version.Version={versions.DOCKER}",
        tags="grpcnotrace",
        # A package without a go.mod of its own is compiled as Go 1.16.
        flags=(f"-gcflags={_CLI}/...=-lang=go1.26",),
        modules=Path(__file__).with_name("docker-cli.mod"),
    ),
    GoProgram(
        "docker-buildx",
        f"{_BUILDX}/cmd/buildx",
        f"v{versions.BUILDX}",
        stamp=f"-X {_BUILDX}/version.Version=v{versions.BUILDX}",
    ),
    GoProgram(
        "dockerd",
        f"{_MOBY}/cmd/dockerd",
        f"v{versions.MOBY}",
        stamp=f"-X {_MOBY}/dockerversion.Version={versions.DOCKER}",
    ),
    GoProgram("docker-proxy", f"{_MOBY}/cmd/docker-proxy", f"v{versions.MOBY}"),
    GoProgram(
        "buildah",
        f"{_BUILDAH}/cmd/buildah",
        f"v{versions.BUILDAH}",
        # Without C libraries: no btrfs, signatures checked in Go, no seccomp filter of its own around RUN.
        tags="exclude_graphdriver_btrfs containers_image_openpgp netgo osusergo",
        # The code that enters a user namespace is C.
        is_static_c=True,
    ),
    GoProgram(
        "registry",
        f"{_DISTRIBUTION}/cmd/registry",
        f"v{versions.DISTRIBUTION}",
        stamp=f"-X {_DISTRIBUTION}/version.version=v{versions.DISTRIBUTION}",
    ),
    GoProgram("kamal-proxy", f"{_KAMAL_PROXY}/cmd/kamal-proxy", f"v{versions.KAMAL_PROXY}"),
)


def folder(cache: Path) -> Path:
    """Where the programs are, each with a `.recipe` that says how it was made."""
    return cache / "containers"


def build(cache: Path, progress: Say = say) -> Path:
    """Have all programs, and return their folder. About six minutes of two cores, 3 GB of module cache."""
    if not provide(PROGRAMS, folder(cache), cache, progress):
        progress("docker, buildx, buildah, registry, kamal-proxy: cached")
    return folder(cache)


def provide(programs: Sequence[GoProgram], target: Path, cache: Path, progress: Say = say) -> bool:
    """Build those of the programs that the folder `target` lacks. Whether there were any."""
    target.mkdir(parents=True, exist_ok=True)
    missing = [program for program in programs if not _is_built(program, target)]
    for program in missing:
        progress(f"{program.name} {program.version}: building from its public Go modules")
        _build(program, target, cache)
    return bool(missing)


def _is_built(program: GoProgram, target: Path) -> bool:
    recipe = target / f"{program.name}.recipe"
    return (target / program.name).exists() and recipe.exists() and recipe.read_text() == program.recipe()


def _build(program: GoProgram, target: Path, cache: Path) -> None:
    go = golang.find_go(cache)
    work, log = cache / "build" / program.name, cache / "logs" / f"{program.name}.log"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    environment = golang.environment(go) | {"CGO_ENABLED": "1" if program.is_static_c else "0"}
    environment |= {"GOEXPERIMENT": program.experiment} if program.experiment else {}
    if program.modules:
        shutil.copy2(program.modules, work / "go.mod")
    else:
        run(f"{program.name}: go mod init", [go, "mod", "init", program.name], log, environment, work)
    get: list[str | Path] = [go, "get", "-tool", f"{program.package}@{program.version}"]
    run(f"{program.name}: modules", get, log, environment, work)
    compile_: list[str | Path] = [go, "build", *program.build_flags(), "-o", program.name, program.package]
    run(f"{program.name}: compiling", compile_, log, environment, work)
    (target / f"{program.name}.recipe").unlink(missing_ok=True)
    (work / program.name).replace(target / program.name)
    (target / f"{program.name}.recipe").write_text(program.recipe())
    shutil.rmtree(work)
