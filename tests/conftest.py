"""The order of the test files: what takes longest begins first, so that no worker is alone with it at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Files of each tier that take about a minute or more, the longest first. The others fill what is left, in their order.
LONGEST = (
    "tests/unit/test_stack_file_corpus.py",
    "tests/sandbox_tests/plugins/test_failed_steps.py",
    "tests/sandbox_tests/plugins/test_package.py",
    "tests/sandbox_tests/gitlab/test_backup_program.py",
    "tests/sandbox_tests/plugins/test_interrupted_updates.py",
    "tests/sandbox_tests/plugins/test_groups_of_a_stack.py",
    "tests/sandbox_tests/cloud/test_lifecycle.py",
    "tests/sandbox_tests/plugins/test_gitlab_engine.py",
    "tests/sandbox_tests/plugins/test_digitalocean.py",
    "tests/e2e/test_stack_lifecycle.py",
    "tests/e2e/test_teardown.py",
    "tests/e2e/test_runner_lifecycle.py",
    "tests/e2e/test_pipeline_of_the_stack.py",
    "tests/e2e/test_builders.py",
    "tests/e2e/test_delivery.py",
    "tests/e2e/test_drift.py",
    "tests/e2e/test_promotion.py",
    "tests/e2e/test_hardening.py",
    "tests/e2e/test_projects.py",
    "tests/e2e/test_backup.py",
    "tests/e2e/test_failed_update.py",
)
_PLACES = {ROOT / file: place for place, file in enumerate(LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files; the tests of one stay together and in their order."""
    items.sort(key=lambda item: _PLACES.get(item.path, len(LONGEST)))
