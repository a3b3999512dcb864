"""The packages of the runner stand-in: what `dpkg` says of them, and what is in them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.sandbox.runner.build import build
from tests.sandbox_tests.support.debian_package import field, members


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build("19.3.0-1", tmp_path_factory.mktemp("deb"))


def test_both_packages_have_the_names_and_version_of_the_real_ones(packages: list[Path]) -> None:
    assert [field(package, "Package") for package in packages] == ["gitlab-runner", "gitlab-runner-helper-images"]
    assert {field(package, "Version") for package in packages} == {"19.3.0-1"}
    assert "gitlab-runner-helper-images (= 19.3.0-1)" in field(packages[0], "Depends")


def test_any_release_of_19_can_be_built_and_nothing_else(tmp_path: Path) -> None:
    assert build("19.4.1-1", tmp_path)[0].name == "gitlab-runner_19.4.1-1_all.deb"
    for version in ("18.11.0-1", "19.3.0", "19.3.0-ce.0"):
        with pytest.raises(ValueError, match="is not a package version"):
            build(version, tmp_path)


def test_a_package_contains_no_configuration_and_no_compiled_files(packages: list[Path]) -> None:
    names = [name for package in packages for name in members(package)]
    assert "usr/bin/gitlab-runner" in names
    assert "usr/share/gitlab-runner/clear-docker-cache" in names
    assert [name for name in names if name.startswith("etc") or "__pycache__" in name] == []


def test_everything_belongs_to_root_and_nothing_is_writable_by_others(packages: list[Path]) -> None:
    for package in packages:
        for member in members(package).values():
            assert (member.uid, member.gid) == (0, 0), member.name
            assert not member.mode & (stat.S_IWGRP | stat.S_IWOTH), member.name
