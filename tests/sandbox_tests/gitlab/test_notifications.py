"""Who hears of a pipeline's end: mails through a mail server, messages to a webhook, each once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabHttpError

from tests.sandbox.cloud import mail
from tests.sandbox.cloud.authority import Authority
from tests.sandbox.gitlab.web.ci import hooks
from tests.sandbox.gitlab.web.core import sealing
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest
from tests.sandbox_tests.support.gitlab_runner_client import Runner

pytestmark = pytest.mark.usefixtures("emptied")

WEBHOOK = "https://hooks.slack.com/services/T0123/B0123/abcDEF123"
JOB = "job: {script: make}"


class Slack(BaseHTTPRequestHandler):
    """Keeps the messages that it is sent."""

    taken: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        del args


@pytest.fixture
def slack() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a webhook, and what was sent there."""
    taken: list[dict[str, Any]] = []
    handler = type("Handler", (Slack,), {"taken": taken})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/services/T/B/x", taken
        server.shutdown()
        thread.join()


@pytest.fixture
def mails(instance: Instance, tmp_path: Path) -> Iterator[Path]:
    """The folder of a mail server that the instance sends through, as its package configures it."""
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("mail", ["localhost"])
    ready, loop, done = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    ports: list[int] = []

    async def serve() -> None:
        async with mail.serving(tmp_path / "mail", certificate, key, "127.0.0.1", starttls=(0,), tls=()) as found:
            ports.extend(found)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    (instance.directory / "smtp_settings.rb").write_text(
        "ActionMailer::Base.delivery_method = :smtp\n"
        f"ActionMailer::Base.smtp_settings = {{ address: 'localhost', port: {ports[0]}, user_name: '{mail.USER}', "
        f"password: '{mail.PASSWORD}', authentication: :plain, enable_starttls_auto: true, "
        f"ca_file: '{authority.certificate_file}' }}\n"
    )
    file = instance.directory / "gitlab.json"
    email = {"enabled": True, "from": "gitlab@example.com", "display_name": "GitLab", "reply_to": "no@example.com"}
    file.write_text(json.dumps({**json.loads(file.read_text()), "email": email}))
    yield tmp_path / "mail"
    loop.call_soon_threadsafe(done.set)
    thread.join(20)
    loop.close()


def notify_slack(instance: Instance, project: Any, address: str, **more: Any) -> None:
    """Set up messages to a webhook on this machine, whose address GitLab itself would refuse."""
    project.integrations.update("slack", {"webhook": WEBHOOK, **more})
    instance.execute("UPDATE integrations SET encrypted_webhook = ?", sealing.seal(instance.config, address))


def run(project: Any, runner: Runner, branch: str = "main", *, fails: bool) -> Any:
    """One pipeline, from the commit to its end."""
    files = {".gitlab-ci.yml": JOB, "count": str(len(project.commits.list(get_all=True)))}
    commit(project, files, branch=branch)
    job = runner.take()
    job.fail(exit_code=1) if fails else job.succeed()
    return newest(project)


def test_a_failed_pipeline_of_the_default_branch_is_mailed_once_to_everybody_and_one_that_passes_is_not(
    instance: Instance, client: gitlab.Gitlab, mails: Path
) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    project.integrations.update("pipelines-email", {"recipients": "a@example.com,b@example.com"})
    pipeline = run(project, runner, fails=True)
    assert (hooks.deliver(instance.config), hooks.deliver(instance.config)) == (2, 0)
    run(project, runner, fails=False)
    run(project, runner, "feature", fails=True)
    assert hooks.deliver(instance.config) == 0
    found = mail.received(mails)
    assert sorted(one["X-RcptTo"] for one in found) == ["a@example.com", "b@example.com"]
    for one in found:
        assert one["Subject"] == f"hello | Failed pipeline for main | {pipeline.sha[:8]}"
        assert (one["From"], one["X-GitLab-Pipeline-Status"]) == ("GitLab <gitlab@example.com>", "failed")
        assert f"/root/hello/-/pipelines/{pipeline.id}" in one["body"]


def test_a_failed_pipeline_is_told_to_slack_once_and_again_if_its_retry_fails(
    instance: Instance, client: gitlab.Gitlab, slack: tuple[str, list[dict[str, Any]]]
) -> None:
    address, taken = slack
    project = make_project(client)
    runner = make_runner(client, project)
    notify_slack(instance, project, address, pipeline_channel="#team")
    pipeline = run(project, runner, fails=True)
    hooks.deliver(instance.config)
    hooks.deliver(instance.config)
    [message] = taken
    assert message["channel"] == "#team"
    [attachment] = message["attachments"]
    assert attachment["title"] == f"Pipeline #{pipeline.id} has failed"
    assert "|hello>: Pipeline <" in attachment["fallback"]
    pipeline.retry()
    runner.take().fail(exit_code=1)
    hooks.deliver(instance.config)
    assert len(taken) == 2
    run(project, runner, fails=False)
    hooks.deliver(instance.config)
    assert len(taken) == 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"branches_to_be_notified": "all"}, {"main failed", "feature failed"}),
        ({"branches_to_be_notified": "default", "notify_only_broken_pipelines": False}, {"main failed", "main passed"}),
        ({"branches_to_be_notified": "protected"}, {"main failed"}),
        ({"pipeline_events": False}, set()),
    ],
)
def test_the_branches_and_ends_that_count_can_be_chosen(
    instance: Instance,
    client: gitlab.Gitlab,
    slack: tuple[str, list[dict[str, Any]]],
    settings: dict[str, Any],
    told: set[str],
) -> None:
    address, taken = slack
    project = make_project(client)
    runner = make_runner(client, project)
    notify_slack(instance, project, address, **settings)
    run(project, runner, fails=True)
    run(project, runner, "feature", fails=True)
    run(project, runner, fails=False)
    hooks.deliver(instance.config)
    texts = [one["attachments"][0]["fallback"] for one in taken]
    assert {f"{text.split('|')[3].split('>')[0]} {text.split()[-1]}" for text in texts} == told


def test_a_file_with_mistakes_is_a_failed_pipeline_too(
    instance: Instance, client: gitlab.Gitlab, slack: tuple[str, list[dict[str, Any]]]
) -> None:
    address, taken = slack
    project = make_project(client)
    notify_slack(instance, project, address)
    commit(project, {".gitlab-ci.yml": "job: {stage: nowhere, script: make}"})
    hooks.deliver(instance.config)
    assert len(taken) == 1


def test_nobody_hears_of_a_pipeline_of_a_project_whose_integration_was_turned_off(
    instance: Instance, client: gitlab.Gitlab, slack: tuple[str, list[dict[str, Any]]]
) -> None:
    address, taken = slack
    project = make_project(client)
    runner = make_runner(client, project)
    notify_slack(instance, project, address)
    project.integrations.delete("slack")
    run(project, runner, fails=True)
    assert hooks.deliver(instance.config) == 0
    assert taken == []
    there = project.integrations.get("slack")
    assert (there.active, there.properties) == (False, {})
    assert project.integrations.list(get_all=True) == []


def test_a_server_that_takes_nothing_keeps_no_pipeline_from_ending(instance: Instance, client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    notify_slack(instance, project, "http://127.0.0.1:1/services/T/B/x")
    assert run(project, runner, fails=True).status == "failed"
    assert (hooks.deliver(instance.config), hooks.deliver(instance.config)) == (1, 0)


@pytest.mark.parametrize(
    ("slug", "body", "status", "words"),
    [
        ("pipelines-email", {}, 400, "recipients is missing"),
        ("pipelines-email", {"recipients": ""}, 400, "400 Bad Request"),
        ("pipelines-email", {"recipients": ",".join(f"a{n}@example.com" for n in range(31))}, 400, "400 Bad Request"),
        ("slack", {}, 400, "webhook is missing"),
        ("slack", {"webhook": "http://127.0.0.1/services/T/B/x"}, 400, "400 Bad Request"),
        ("slack", {"webhook": "hooks.slack.com"}, 400, "400 Bad Request"),
        ("slack", {"webhook": WEBHOOK, "push_events": "perhaps"}, 400, "push_events is invalid"),
        ("carrier-pigeon", {}, 404, "404 Not Found"),
    ],
)
def test_what_gitlab_refuses_is_refused_in_its_words(
    client: gitlab.Gitlab, slug: str, body: dict[str, Any], status: int, words: str
) -> None:
    project = make_project(client)
    with pytest.raises(GitlabHttpError, match=words) as caught:
        client.http_put(f"/projects/{project.id}/integrations/{slug}", post_data=body)
    assert caught.value.response_code == status


def test_only_maintainers_may_see_or_change_integrations_and_nobody_sees_a_webhook(
    instance: Instance, client: gitlab.Gitlab
) -> None:
    project = make_project(client)
    user, theirs = instance.new_user()
    project.integrations.update("slack", {"webhook": WEBHOOK})
    with pytest.raises(GitlabHttpError) as caught:
        theirs.http_get(f"/projects/{project.id}/integrations/slack")
    assert caught.value.response_code == 404
    project.members.create({"user_id": user, "access_level": 30})
    with pytest.raises(GitlabHttpError) as caught:
        theirs.http_get(f"/projects/{project.id}/integrations/slack")
    assert caught.value.response_code == 403
    assert "hooks.slack.com" not in json.dumps(project.integrations.get("slack").asdict())
    with pytest.raises(GitlabHttpError, match="404 Integration Not Found"):
        client.http_get(f"/projects/{project.id}/integrations/pipelines-email")
