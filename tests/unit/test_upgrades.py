"""Which version of GitLab may follow which."""

from __future__ import annotations

import pytest

from components.settings import SettingsError
from components.upgrades import check_upgrade
from tests.unit.engine import run_program


@pytest.mark.parametrize(
    ("deployed", "wanted"),
    [
        ("19.3.0-ce.0", "19.3.0-ce.0"),
        ("19.3.0-ce.0", "19.3.1-ce.0"),
        ("19.3.0-ce.0", "19.5.2-ce.0"),
        ("19.2.1-ce.0", "19.5.0-ce.0"),
        ("19.5.0-ce.0", "19.8.0-ce.0"),
    ],
)
def test_an_upgrade_up_to_the_next_stop_is_allowed(deployed: str, wanted: str) -> None:
    check_upgrade(deployed, wanted)


@pytest.mark.parametrize(
    ("deployed", "wanted", "stop"),
    [
        ("19.3.0-ce.0", "19.6.0-ce.0", "19.5"),
        ("18.10.0-ce.0", "19.3.0-ce.0", "18.11"),
        ("19.2.1-ce.0", "19.9.0-ce.0", "19.5"),
    ],
)
def test_an_upgrade_over_a_stop_is_refused_and_told_where_to_stop(deployed: str, wanted: str, stop: str) -> None:
    with pytest.raises(SettingsError, match=f"has to stop at {stop}") as caught:
        check_upgrade(deployed, wanted)
    assert caught.value.mistakes[0].startswith("gitlab.version: ")


def test_a_step_back_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"is older than 19\.3\.1-ce\.0"):
        check_upgrade("19.3.1-ce.0", "19.3.0-ce.0")


def test_the_package_is_not_touched_when_its_upgrade_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"has to stop at 19\.5"):
        run_program(gitlab={"version": "19.6.0-ce.0"}, previous_outputs={"gitlab_version": "19.3.0-ce.0"})


def test_a_new_stack_has_nothing_to_follow() -> None:
    engine = run_program(gitlab={"version": "19.6.0-ce.0"})
    assert "GITLAB_VERSION=19.6.0-ce.0" in engine.script("gitlab-package")
    assert engine.exports["gitlab_version"] == "19.6.0-ce.0"
