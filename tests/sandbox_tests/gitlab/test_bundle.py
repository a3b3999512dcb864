"""PostgreSQL in GitLab's package: which of Debian's files it has, where, and what it depends on because of them.

The programs themselves run on machines alone: `tests/e2e/test_stack_lifecycle.py` has them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.sandbox.gitlab import bundle
from tests.sandbox.gitlab.build import build
from tests.sandbox_tests.support.debian_package import field, members

LIBRARY, SHARE = "usr/lib/postgresql/17", "usr/share/postgresql/17"
SERVER = (f"{LIBRARY}/bin/postgres", f"{LIBRARY}/lib/citext.so", f"{LIBRARY}/lib/llvmjit.so", f"{SHARE}/postgres.bki")
CLIENT = (f"{LIBRARY}/bin/psql", f"{LIBRARY}/bin/pg_dump", f"{SHARE}/man/man1/psql.1.gz")


def debian_package(pool: Path, name: str, version: str, files: tuple[str, ...], depends: str) -> None:
    """Put a package with some files into a pool."""
    tree = pool.parent / f"{name}-{version}"
    for file in files:
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).write_text(version)
        (tree / file).chmod(0o755)
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: x <x@x>\nDepends: {depends}\n"
        "Description: x\n"
    )
    target = pool / f"{name}_{version}_amd64.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, target], check=True, capture_output=True)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """What a mirror of Debian has."""
    folder = tmp_path / "pool"
    folder.mkdir()
    needs = "postgresql-common, ssl-cert, libicu76 (>= 76.1), libllvm19, libxslt1.1, zlib1g"
    debian_package(folder, "postgresql-17", "17.12", SERVER, needs)
    debian_package(folder, "postgresql-client-17", "17.12", CLIENT, "sensible-utils, libpq5 (>= 17.12)")
    debian_package(folder, "postgresql-17-pgextwlist", "1.19", (), "postgresql-17")
    return folder


def test_the_package_has_the_programs_with_links_and_neither_compiler_nor_manuals(pool: Path, tmp_path: Path) -> None:
    package = build("19.3.0-ce.0", tmp_path / "out", bundle.unpack(pool, tmp_path / "cache"))
    found = members(package)
    assert found["opt/gitlab/embedded/bin/psql"].linkname == f"/{bundle.PREFIX}/lib/postgresql/17/bin/psql"
    names = {name.removeprefix(f"{bundle.PREFIX}/") for name in found if name.startswith(f"{bundle.PREFIX}/")}
    assert {"lib/postgresql/17/bin/postgres", "lib/postgresql/17/lib/citext.so"} <= names
    assert "share/postgresql/17/postgres.bki" in names
    assert [name for name in names if "llvm" in name or "/man/" in name] == []


def test_the_package_depends_on_the_libraries_and_not_on_the_distributions_clusters(pool: Path, tmp_path: Path) -> None:
    package = build("19.3.0-ce.0", tmp_path / "out", bundle.unpack(pool, tmp_path / "cache"))
    depends = field(package, "Depends").split(", ")
    assert {"libicu76 (>= 76.1)", "zlib1g", "libpq5 (>= 17.12)"} <= set(depends)
    assert [one for one in depends if one.startswith(("postgresql", "ssl-cert", "libllvm", "libxslt"))] == []


def test_a_newer_version_in_the_pool_is_taken_with_its_own_clients(pool: Path, tmp_path: Path) -> None:
    first = bundle.unpack(pool, tmp_path / "cache")
    debian_package(pool, "postgresql-17", "17.13", SERVER, "libc6")
    debian_package(pool, "postgresql-client-17", "17.13", CLIENT, "libc6")
    second = bundle.unpack(pool, tmp_path / "cache")
    assert first != second
    assert {path.read_text() for path in second.glob("lib/postgresql/17/bin/*")} == {"17.13"}


def test_a_mirror_without_a_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no package of a PostgreSQL server"):
        bundle.unpack(tmp_path, tmp_path / "cache")
