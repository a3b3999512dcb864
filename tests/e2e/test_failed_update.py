"""An update that fails on a machine: what still works, and the way back. And who hears of what fails by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.certificates import provided
from tests.e2e.alerting import ALERTS, SMTP, WEBHOOK, await_notice, await_quiet, full_disks, stopped_gitlab
from tests.e2e.control import Control
from tests.e2e.leaks import PLANTED, leaked, readable_by_nobody, world_readable_files_with
from tests.e2e.stack import SANDBOX, Stack
from tests.sandbox.cloud import mail
from tools import verify
from tools.clients import try_run
from tools.pipelines import until

#: The subjects of alerts, without the name of the stack.
DOWN = ("GitLab does not answer", "the registry does not answer")
UNHEALTHY = "the server has a problem: sudo slipway-health on it says which"
DISK = "disk of server"
NOTES = {"path": "notes", "sample": False, "pipeline": False, "runners": []}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with mail, alerts and a project without jobs; destroyed at the end."""
    made = Stack.create("failed", tmp_path_factory.mktemp("stack"), SANDBOX, domain="failed.test")
    made.set(projects=[NOTES], runners=None, smtp=SMTP, alerts=ALERTS)
    made.set_secret("smtp.password", mail.PASSWORD)
    made.set_secret("alerts.slack.url", WEBHOOK)
    made.set_secret("alerts.pipelines.slack.url", WEBHOOK)
    made.up()
    yield made
    made.remove()


def assert_serves(stack: Stack) -> None:
    """GitLab and the registry respond, with a certificate that is trusted."""
    outputs = stack.outputs()
    for url, status in ((f"{outputs.url}/users/sign_in", "200"), (f"https://{outputs.registry}/v2/", "401")):
        answer = try_run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url)
        assert answer.stdout == status, answer.stderr


def test_gitlab_signs_in_to_the_mail_server_and_sends_the_test_mail_of_verify(stack: Stack, control: Control) -> None:
    [sent] = verify.measure(stack.outputs(), verify.MAIL_CHECKS)
    assert sent.holds, sent.measured
    [taken] = [one for one in control.mail() if one["Subject"] == "Test mail of gitlab.failed.test"]
    sender = (taken["X-MailFrom"], taken["X-RcptTo"], taken["X-Authenticated"])
    assert sender == ("gitlab@failed.test", "ops@failed.test", mail.USER)
    assert (taken["From"], taken["To"]) == ("GitLab <gitlab@failed.test>", "ops@failed.test")


def test_gitlab_mails_a_failed_pipeline_and_writes_to_slack_once(stack: Stack, control: Control) -> None:
    project = stack.outputs().gitlab().projects.get("root/notes")

    def told() -> list[str]:
        mails = [f"{one['X-RcptTo']}: {one['Subject']}" for one in control.mail() if "X-GitLab-Pipeline-Id" in one]
        messages = [f"{one['channel']}: {one['text']}" for one in control.notifications()["slack"]]
        return [*mails, *[one for one in messages if "|notes>: Pipeline <" in one]]

    commits = []
    for number in range(2):
        content = f"job: {{stage: nowhere, script: [echo {number}]}}"
        change = {"action": "update" if number else "create", "file_path": ".gitlab-ci.yml", "content": content}
        made = project.commits.create({"branch": "main", "commit_message": "Break it", "actions": [change]})
        commits.append(made.id[:8])
        until(lambda: len(told()) >= 2 * len(commits), "a mail and a message", 60)
    mails, messages = told()[:2], told()[2:]
    # The second pipeline comes after all that there was to say of the first.
    assert mails == [f"team@failed.test: notes | Failed pipeline for main | {commit}" for commit in commits]
    assert [one.split(": ")[0] for one in messages] == ["#team", "#team"]
    assert all(one.endswith("has failed") for one in messages)


def test_nobody_can_read_the_password_of_the_mail_server_and_the_webhook(stack: Stack) -> None:
    outputs = stack.outputs()
    found = world_readable_files_with(outputs, mail.PASSWORD)
    assert PLANTED in found
    # GitLab writes it to a file with rights for everybody, in a folder that only GitLab may enter.
    others = [file for file in found if file != PLANTED]
    assert readable_by_nobody(outputs, [*others, "/etc/hostname"]) == ["/etc/hostname"]
    state = stack.run("stack", "export", settings_file=False)
    assert leaked(state, {"password": mail.PASSWORD, "webhook": WEBHOOK}) == []


def test_people_are_notified_when_gitlab_stops_and_when_it_is_back(stack: Stack, control: Control) -> None:
    await_quiet(control, *DOWN, UNHEALTHY)
    with stopped_gitlab(stack.outputs()):
        await_notice(control, "triggered", *DOWN, UNHEALTHY)
    await_notice(control, "resolved", *DOWN, UNHEALTHY)


def test_people_are_notified_when_disks_are_full_and_when_there_is_space_again(stack: Stack, control: Control) -> None:
    with full_disks(stack.outputs()):
        await_notice(control, "triggered", UNHEALTHY, DISK)
        assert_serves(stack)
    await_notice(control, "resolved", UNHEALTHY, DISK)


def test_a_certificate_that_nobody_trusts_is_not_served_and_the_way_back_runs_the_step_again(stack: Stack) -> None:
    certificate = provided("gitlab.failed.test")
    key = certificate.pop("privateKey")
    stack.set(certificate=certificate)
    stack.set_secret("certificate.privateKey", key)
    failed = stack.attempt("up", "--yes", "--skip-preview")
    output = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "error: the server itself rejects GitLab's certificate" in output
    assert "bash -s -- gitlab-configuration " in output
    assert_serves(stack)

    stack.set(certificate=None)
    assert stack.changes() == {"gitlab-configuration": "update"}
    stack.up()
    assert_serves(stack)
    stack.up("--expect-no-changes")


def test_another_port_of_the_registry_is_the_only_one_that_stays_open(stack: Stack) -> None:
    stack.set(registry={"port": 5050})
    stack.up()
    assert_serves(stack)
    rules = stack.outputs().ssh("sudo ufw status")
    assert "5050/tcp" in rules
    assert "5555/tcp" not in rules
