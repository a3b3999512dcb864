"""Limits of GitLab: what is refused, what GitLab gets, and the recipe."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from components.settings import Settings
from tests.unit.engine import REQUIRED, ROOT, run_program
from tests.unit.test_sign_in import errors

RECIPE = (ROOT / "docs/recipes/limits.md").read_text()


def given(**gitlab: Any) -> dict[str, Any]:
    """What the step that applies settings of GitLab's database gets."""
    shown = run_program(gitlab=gitlab).named("gitlab-api-token-rendered").inputs
    return dict(json.loads(shown["APPLICATION_SETTINGS"]))


@pytest.mark.parametrize(
    ("limits", "path"),
    [
        ({"anonymousRequests": 60}, "anonymousRequests"),
        ({"userRequests": 100}, "userRequests"),
        ({"push": 0}, "push"),
        ({"attachment": 20000}, "attachment"),
    ],
)
def test_a_limit_that_would_cut_off_machines_or_everybody_is_refused(limits: dict[str, int], path: str) -> None:
    [line] = errors({}, gitlab={"limits": limits})
    assert line.startswith(f"gitlab.limits.{path}: ")


def test_without_the_section_gitlab_keeps_its_own_limits() -> None:
    assert given() == given(limits={}) == {}


def test_each_limit_sets_its_own_settings_and_no_others() -> None:
    assert given(limits={"push": 50}) == {"receive_max_input_size": 50}
    assert given(limits={"attachment": 20}) == {"max_attachment_size": 20}
    names = ("unauthenticated", "unauthenticated_api")
    assert given(limits={"anonymousRequests": 300}) == {
        **{f"throttle_{name}_enabled": True for name in names},
        **{f"throttle_{name}_requests_per_period": 300 for name in names},
        **{f"throttle_{name}_period_in_seconds": 60 for name in names},
    }
    assert {name.split("_")[1] for name in given(limits={"userRequests": 900})} == {"authenticated"}


def test_limits_and_a_second_factor_are_applied_together() -> None:
    settings = Settings.model_validate({**REQUIRED, "signIn": {"require2fa": True}, "gitlab": {"limits": {"push": 50}}})
    assert settings.application_settings.keys() == {
        "receive_max_input_size",
        "require_two_factor_authentication",
        "two_factor_grace_period",
    }


def test_the_commands_of_the_recipe_make_a_section() -> None:
    commands = re.findall(r"^pulumi config set --path gitlab\.limits\.(\w+) (\d+)$", RECIPE, re.MULTILINE)
    settings = Settings.model_validate({**REQUIRED, "gitlab": {"limits": dict(commands)}})
    assert settings.gitlab.limits.model_dump(by_alias=True) == {name: int(value) for name, value in commands}
