"""PostgreSQL as GitLab's package brings it along: the programs of Debian's, without its clusters and services."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

#: Where it is on a machine. Programs find everything else by their own place in this folder.
PREFIX = Path("opt/gitlab/embedded/postgresql")
#: Programs that are also among those of the package, as links.
LINKED = (
    *("createdb", "dropdb", "initdb", "pg_ctl", "pg_dump", "pg_dumpall", "pg_isready", "pg_restore", "postgres"),
    "psql",
)
#: What compiles queries needs LLVM, and nobody here speaks the languages of messages or reads manuals.
_LEFT_OUT = ("bitcode", "llvmjit*", "pgxml.so", "xml2*", "man", "contrib", "psqlrc.sample", "pgbench", "pg_test_*")
#: Of these libraries nothing is used that is left.
_UNUSED = ("libllvm", "libxslt", "libselinux", "libgcc", "libstdc++", "libuuid")
_SERVER = re.compile(r"postgresql-\d+_")


def packages(pool: Path) -> list[Path]:
    """Server and clients of the newest PostgreSQL in a folder of packages.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [path for path in pool.glob("postgresql-*.deb") if _SERVER.match(path.name)]
    if not found:
        raise FileNotFoundError(f"{pool} has no package of a PostgreSQL server")
    server = max(found, key=lambda path: (path.name.partition("_")[0], path.stat().st_mtime))
    return [server, server.with_name(server.name.replace("postgresql-", "postgresql-client-", 1))]


def unpack(pool: Path, into: Path) -> Path:
    """Have the programs of a folder's PostgreSQL, once for all packages of GitLab; returns where they are."""
    sources = packages(pool)
    target = into / sources[0].stem
    if target.exists():
        return target
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into) as scratch:
        for source in sources:
            subprocess.run(["dpkg-deb", "-x", source, scratch], check=True)
        slim = Path(scratch) / "slim"
        for part in ("lib", "share"):
            folder = Path("usr") / part / "postgresql"
            ignored = shutil.ignore_patterns(*_LEFT_OUT)
            shutil.copytree(Path(scratch) / folder, slim / part / "postgresql", ignore=ignored)
        (slim / "depends").write_text(", ".join(_libraries(sources)))
        slim.rename(target)
    return target


def _libraries(sources: list[Path]) -> list[str]:
    """The libraries that the programs are linked to, as Debian's packages name them."""
    found: dict[str, None] = {}
    for source in sources:
        fields = subprocess.run(
            ["dpkg-deb", "--field", source, "Depends"], check=True, capture_output=True, text=True
        ).stdout
        for one in fields.strip().split(", "):
            if one.startswith(("lib", "zlib")) and not one.startswith(_UNUSED):
                found.setdefault(one)
    return list(found)


def depends(postgresql: Path) -> list[str]:
    """What a package that contains the programs depends on."""
    return (postgresql / "depends").read_text().split(", ")


def add(postgresql: Path, tree: Path) -> None:
    """Put the programs into the tree of a package."""
    for part in ("lib", "share"):
        shutil.copytree(postgresql / part, tree / PREFIX / part)
    [programs] = (tree / PREFIX).glob("lib/postgresql/*/bin")
    for name in LINKED:
        (tree / "opt/gitlab/embedded/bin" / name).symlink_to(f"/{(programs / name).relative_to(tree)}")
