"""The recipe for alerts: what it types is a valid configuration, and it names every alert that the program declares."""

from __future__ import annotations

import re
import shlex
from typing import Any

from components.settings import Settings
from tests.unit.engine import REQUIRED, ROOT, run_program
from tests.unit.stack_file_corpus import WEBHOOK

#: Without the section about pipelines, which `test_notifications.py` is about.
RECIPE = (ROOT / "docs/recipes/alerts.md").read_text().partition("## Failed pipelines")[0]


def typed() -> dict[str, Any]:
    """The section that the recipe's commands set; for a secret, Pulumi asks."""
    found: dict[str, Any] = {}
    for line in re.findall(r"^pulumi config set (.+)$", RECIPE, re.MULTILINE):
        words = [word for word in shlex.split(line) if not word.startswith("--")]
        path, value = words if len(words) == 2 else (*words, WEBHOOK)
        *sections, key = path.replace("[0]", "").split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = [value] if path.endswith("[0]") else value
    return found


def test_the_commands_of_the_recipe_are_a_valid_section_with_both_kinds_of_recipients() -> None:
    settings = Settings.model_validate({**REQUIRED, **typed()})
    assert settings.alerts.email == ("ops@example.com",)
    assert settings.alerts.slack is not None
    assert settings.alerts.slack.channel == "#ops"


def test_the_webhook_is_never_an_argument_of_a_command() -> None:
    [line] = re.findall(r"^.*alerts\.slack\.url.*$", RECIPE, re.MULTILINE)
    assert line == "pulumi config set --secret --path alerts.slack.url"


def test_every_alert_of_the_program_has_a_row() -> None:
    engine = run_program(**typed())
    titles = {one.inputs["name"] for one in engine.of_type(":UptimeAlert")}
    titles |= {one.inputs["description"] for one in engine.of_type(":MonitorAlert")}
    rows = re.findall(r"`…: ([^`]+?) ?…?`", RECIPE)
    for title in titles:
        assert any(title.removeprefix("slipway-test: ").startswith(row) for row in rows), title
