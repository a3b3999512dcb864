"""Drivers for the resources of the provider plugins."""

from __future__ import annotations

import pytest

from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_resources import driver_of
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver


@pytest.fixture
def driver(instance: Instance) -> ResourceDriver:
    """The resources of the provider `gitlab`, with a token of the administrator."""
    return driver_of(instance)
