"""Fixtures that several areas use: a certificate authority, and an emulated cloud and a GitLab stand-in on loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.moments import REAL_TIME
from tests.sandbox.cloud.authority import Authority
from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.gitlab_instance import Instance, running


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers of these tests."""
    config.addinivalue_line("markers", "machines: starts real machines in private namespaces; needs root")
    config.addinivalue_line(
        "markers", "real_time(reason): runs in the real time, also where `make nightly` moves the clock"
    )
    config.addinivalue_line("markers", "new_instance: gets a GitLab stand-in of its own, not the module's")


@pytest.fixture(autouse=True)
def _clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock back to the real time for a test that is marked `real_time`."""
    if request.node.get_closest_marker("real_time") and "FAKETIME" in os.environ:
        monkeypatch.setenv("FAKETIME", REAL_TIME)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority of the test."""
    return Authority(tmp_path / "ca")


@pytest.fixture(scope="module")
def shared_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedCloud]:
    """An emulated cloud for all tests of a module, with whatever they leave in it."""
    with EmulatedCloud(tmp_path_factory.mktemp("cloud")) as running_cloud:
        yield running_cloud


@pytest.fixture
def cloud(shared_cloud: EmulatedCloud) -> EmulatedCloud:
    """An emulated cloud with nothing in it."""
    return shared_cloud.fresh()


@pytest.fixture(scope="module")
def shared_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A GitLab stand-in for all tests of a module. A module overrides it to prepare the instance."""
    with running(tmp_path_factory.mktemp("gitlab")) as found:
        yield found


@pytest.fixture
def instance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """The module's GitLab stand-in; a new one for tests marked `new_instance`."""
    if request.node.get_closest_marker("new_instance"):
        with running(tmp_path_factory.mktemp("gitlab")) as found:
            yield found
    else:
        yield request.getfixturevalue("shared_instance")
