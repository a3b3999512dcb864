"""Fixtures of all unit tests."""

from __future__ import annotations

import gc

import pytest

from tests.unit.engine import ENCRYPTED

# The SDKs are a million objects that never change: looking through them for garbage takes a fifth of the time.
gc.freeze()
gc.set_threshold(50_000, 20, 50)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token in the environment, as a user has it; no request is made with it."""
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
    for name in ("SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Projects whose section is encrypted."""
    monkeypatch.setattr("tests.unit.engine.ENCRYPTED", [*ENCRYPTED, "slipway:projects"])
