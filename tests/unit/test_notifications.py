"""Who is notified of failed pipelines: the integrations that the program declares, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from components.settings import Settings, SettingsError, load
from tests.unit.engine import ENVELOPE, REQUIRED, ROOT, RecordingEngine, as_config, run_program

HOOK = "https://hooks.slack.com/services/T0123/B0123/abcDEF123"
SLACK = {"channel": "#team", "url": HOOK}
SMTP = {"address": "smtp.example.test", "from": "gitlab@example.test"}
MAIL, CHAT = ":ProjectIntegrationPipelinesEmail", ":IntegrationSlack"
RECIPE = (ROOT / "docs/recipes/alerts.md").read_text()


def projects(**notify: Any) -> list[dict[str, Any]]:
    return [{"path": path, **({"notify": notify[path]} if path in notify else {})} for path in ("one", "two")]


def run(pipelines: Any = None, **notify: Any) -> RecordingEngine:
    given = {"pipelines": pipelines} if pipelines is not None else {}
    return run_program(smtp=SMTP, alerts=given, projects=projects(**notify), runners=[{"name": "docker-builder"}])


def refused(**changes: Any) -> list[str]:
    common = {**REQUIRED, "runners": [{"name": "docker-builder"}], "projects": projects()}
    config = as_config({**common, **changes})
    with pytest.raises(SettingsError) as caught:
        load("slipway", "test", config, ["slipway:alerts", "slipway:projects"], {"DIGITALOCEAN_TOKEN": "x"})
    return caught.value.errors


@pytest.fixture(scope="module")
def engine() -> RecordingEngine:
    """A program in which everybody hears of the first project, and somebody else of the second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return run(
            {"email": ["all@example.test"], "slack": SLACK}, two={"email": ["two@example.test"], "branches": "all"}
        )


def test_without_the_setting_nobody_is_notified() -> None:
    plain = run()
    assert [*plain.of_type(MAIL), *plain.of_type(CHAT)] == []


def test_a_project_with_recipients_of_its_own_has_no_others(engine: RecordingEngine) -> None:
    mails = {one.name: one.inputs for one in engine.of_type(MAIL)}
    assert {name: one["recipients"] for name, one in mails.items()} == {
        "delivery-one-notifications-email": ["all@example.test"],
        "delivery-two-notifications-email": ["two@example.test"],
    }
    assert [one.name for one in engine.of_type(CHAT)] == ["delivery-one-notifications-slack"]


def test_only_failed_pipelines_of_the_default_branch_count_unless_the_settings_say_otherwise(
    engine: RecordingEngine,
) -> None:
    first, second = sorted(engine.of_type(MAIL), key=lambda one: one.name)
    assert (first.inputs["branchesToBeNotified"], first.inputs["notifyOnlyBrokenPipelines"]) == ("default", True)
    assert second.inputs["branchesToBeNotified"] == "all"
    both = run({"email": ["all@example.test"], "onlyFailed": False})
    assert {one.inputs["notifyOnlyBrokenPipelines"] for one in both.of_type(MAIL)} == {False}


def test_slack_hears_of_pipelines_and_of_nothing_else(engine: RecordingEngine) -> None:
    [chat] = engine.of_type(CHAT)
    events = {name: value for name, value in chat.inputs.items() if name.endswith("Events")}
    assert {name for name, value in events.items() if value} == {"pipelineEvents"}
    assert len(events) == 9
    assert chat.inputs["pipelineChannel"] == "#team"


def test_the_webhook_is_a_secret_wherever_it_is_sent(engine: RecordingEngine) -> None:
    for one in engine.registrations:
        text = str(one.request.object)
        assert HOOK not in text or ENVELOPE in text, one.name
    assert HOOK not in str(engine.exports)
    [chat] = engine.of_type(CHAT)
    assert list(chat.request.additionalSecretOutputs) == ["webhook"]


def test_a_project_can_be_left_out() -> None:
    engine = run({"email": ["all@example.test"]}, two={})
    assert [one.name for one in engine.of_type(MAIL)] == ["delivery-one-notifications-email"]


def test_notifications_of_pipelines_alone_declare_no_checks_of_digitalocean() -> None:
    engine = run({"slack": SLACK})
    assert [one for one in engine.registrations if one.type.startswith("digitalocean:") and "lert" in one.type] == []


def test_a_destroy_asks_nothing_of_gitlab(engine: RecordingEngine) -> None:
    for one in (*engine.of_type(MAIL), *engine.of_type(CHAT)):
        assert "server-droplet" in one.request.deletedWith


def test_mail_without_a_mail_server_is_refused_by_name_at_every_place() -> None:
    told = {"email": ["team@example.test"]}
    assert refused(alerts={"pipelines": told}, projects=projects(two=told)) == [
        "alerts.pipelines.email: is set, but smtp is not; GitLab could send no mail. Set smtp, or use slack instead",
        "projects[1].notify.email: is set, but smtp is not; GitLab could send no mail. Set smtp, or use slack instead",
    ]


def test_a_mail_server_that_is_wrong_is_the_only_thing_that_is_reported() -> None:
    [line] = refused(alerts={"pipelines": {"email": ["team@example.test"]}}, smtp={**SMTP, "address": "localhost"})
    assert line.startswith("smtp.address: ")


def test_what_notifies_nobody_is_refused() -> None:
    [line] = refused(projects=projects(two={}))
    assert line.startswith("projects[1].notify: has neither email nor slack, and alerts.pipelines is not set; nobody")
    [line] = refused(alerts={"pipelines": {"branches": "all"}})
    assert line.startswith("alerts.pipelines: has neither email nor slack; nobody would be notified.")
    [line] = refused(alerts={"pipelines": {"slack": SLACK}}, projects=[], runners=[])
    assert line.startswith("alerts.pipelines: is set, but there are no projects; nobody would be notified.")


def test_the_lines_of_the_recipe_are_valid_settings() -> None:
    typed = re.findall(r"^pulumi config set (?:--secret )?--path '?(alerts\.pipelines\S*?)'?(?: (\S+))?$", RECIPE, re.M)
    assert [path for path, _ in typed] == [
        "alerts.pipelines.email[0]",
        "alerts.pipelines.slack.channel",
        "alerts.pipelines.slack.url",
    ]
    values = [value.strip("'") for _, value in typed]
    pipelines = {"email": [values[0]], "slack": {"channel": values[1], "url": HOOK}}
    settings = Settings.model_validate({**REQUIRED, "smtp": SMTP, "alerts": {"pipelines": pipelines}})
    assert settings.alerts.pipelines is not None
    assert settings.alerts.pipelines.enabled
    assert not settings.alerts.enabled
