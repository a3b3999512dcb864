"""Drivers for the resources of the provider plugins."""

from __future__ import annotations

import pytest

from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_resources import hands_of
from tests.sandbox_tests.support.pulumi_engine import Hands


@pytest.fixture
def hands(instance: Instance) -> Hands:
    """The resources of the provider `gitlab`, with a token of the administrator."""
    return hands_of(instance)
