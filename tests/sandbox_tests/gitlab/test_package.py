"""The gitlab-ce stand-in as a package: what `dpkg` says of it, and what its scripts hold."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from tests.sandbox.gitlab.build import PACKAGE, build, floor
from tests.sandbox_tests.support.debian_package import content, field, members


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("19.3.0-ce.0", tmp_path_factory.mktemp("deb"))


def test_name_and_version_are_those_of_the_real_package(package: Path) -> None:
    assert package.name == "gitlab-ce_19.3.0-ce.0_all.deb"
    assert field(package, "Package") == "gitlab-ce"
    assert field(package, "Version") == "19.3.0-ce.0"


def test_everything_belongs_to_root_and_nothing_is_writable_by_others(package: Path) -> None:
    for member in members(package).values():
        assert (member.uid, member.gid) == (0, 0), member.name
        assert not member.mode & (stat.S_IWGRP | stat.S_IWOTH), member.name


def test_nothing_is_installed_where_users_keep_data(package: Path) -> None:
    names = [name for name in members(package) if name != "."]
    assert names
    assert [name for name in names if not name.startswith("opt")] == []
    assert "etc/gitlab/gitlab.rb" not in names


def test_no_compiled_files_are_packed(package: Path) -> None:
    names = members(package)
    assert any(name.endswith(".py") for name in names)
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []


@pytest.mark.parametrize("name", ["gitlab-ctl", "gitlab-psql", "gitlab-rails", "gitlab-rake"])
def test_commands_are_executable(package: Path, name: str) -> None:
    assert members(package)[f"opt/gitlab/bin/{name}"].mode & 0o111 == 0o111


def test_it_says_that_it_is_a_stand_in(package: Path) -> None:
    manifest = content(package, "opt/gitlab/version-manifest.txt")
    assert "This is a stand-in, not GitLab." in manifest
    assert "gitlab-ce 19.3.0-ce.0" in manifest
    assert "Not GitLab." in field(package, "Description")


def test_no_placeholder_is_left(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--control", package, tmp_path], check=True)
    texts = [path.read_text() for path in tmp_path.iterdir()]
    assert len(texts) >= 5
    assert not any("@VERSION@" in text or "@MIN_VERSION@" in text for text in texts)


@pytest.mark.parametrize("version", ["19.3.0", "18.11.0-ce.0", "20.0.0-ce.0", "19.x-ce.0", "latest"])
def test_a_version_that_is_not_one_of_gitlab_19_is_refused(version: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="GitLab 19"):
        build(version, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("minor", "oldest"), [(0, "18.11"), (2, "18.11"), (3, "19.2"), (5, "19.2"), (6, "19.5"), (9, "19.8"), (12, "19.11")]
)
def test_upgrades_must_make_the_required_stops(minor: int, oldest: str) -> None:
    assert floor(19, minor) == oldest


@pytest.mark.parametrize(("old", "code"), [("19.1.3-ce.0", 1), ("19.2.1-ce.0", 0), ("19.3.0-ce.0", 0), ("", 0)])
def test_preinst_refuses_an_upgrade_that_skips_a_stop(package: Path, tmp_path: Path, old: str, code: int) -> None:
    subprocess.run(["dpkg-deb", "--control", package, tmp_path], check=True)
    run = subprocess.run([tmp_path / "preinst", "upgrade", old], capture_output=True, text=True, check=False)
    assert run.returncode == code
    assert ("19.2" in run.stderr) == bool(code)


def test_the_packages_scripts_are_valid_shell() -> None:
    scripts = [path for path in (PACKAGE / "DEBIAN").iterdir() if path.name != "control"]
    assert {path.name for path in scripts} == {"preinst", "postinst", "prerm", "postrm"}
    for script in [*scripts, PACKAGE / "opt/gitlab/bin/gitlab-rails", PACKAGE / "opt/gitlab/bin/gitlab-rake"]:
        assert subprocess.run(["sh", "-n", script], check=False).returncode == 0, script


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["gitlab-ctl", "help"], 0, "reconfigure"),
        (["gitlab-ctl"], 1, "reconfigure"),
        (["gitlab-ctl", "recofigure"], 1, "I don't know that command: recofigure"),
        (["gitlab-ctl", "pg-upgrade"], 1, "pg-upgrade: this gitlab-ce is a stand-in and does not support this command"),
        (["gitlab-ctl", "registry-database"], 1, "Container registry is not enabled, exiting..."),
        (["gitlab-psql", "-l"], 1, "supports only: gitlab-psql -d NAME -tAc QUERY"),
        (["gitlab-psql", "-d", "none", "-tAc", "SELECT 1"], 1, 'database "none" does not exist'),
        (["gitlab-rails", "console"], 1, "supports only 'runner', not 'console'"),
        (["gitlab-rake", "gitlab:check"], 1, "does not support the task 'gitlab:check'"),
    ],
)
def test_a_command_refuses_unsupported_subcommands_by_name(
    package: Path, tmp_path: Path, command: list[str], code: int, words: str
) -> None:
    subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    program = tmp_path / "opt/gitlab/bin" / command[0]
    run = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    assert run.returncode == code
    assert words in run.stdout + run.stderr


@pytest.mark.parametrize("name", ["pre-receive", "post-receive"])
def test_git_hooks_are_executable(package: Path, name: str) -> None:
    hook = f"opt/gitlab/embedded/service/gitlab-rails/gitlab_web/hooks/{name}"
    assert members(package)[hook].mode & 0o111 == 0o111
