"""`/-/cable` of the GitLab stand-in: who may connect, and what is said."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from tests.sandbox_tests.support import cable
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance
from tests.sandbox_tests.support.gitlab_projects import commit

#: One job that no runner takes.
WAITING = {".gitlab-ci.yml": "wait: {script: [echo]}\n"}
WELCOME = {"type": "welcome"}


@pytest.fixture
def pipeline(project: Project) -> Any:
    """A pipeline of a private project, which waits for a runner."""
    commit(project, WAITING)
    return project.pipelines.list(get_all=True)[0]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def status(pipeline: Any, word: str) -> dict[str, Any]:
    found = {"id": f"gid://gitlab/Ci::Pipeline/{pipeline.id}", "status": word}
    return {"result": {"data": {"ciPipelineStatusUpdated": found}}, "more": True}


def test_a_page_is_welcomed_in_rails_own_protocol_and_hears_signs_of_life(instance: Instance) -> None:
    with cable.opened(instance.url) as page:
        assert page.socket.getsubprotocol() == "actioncable-v1-json"
        assert page.next() == WELCOME
        assert '"type":"ping","message":' in str(page.socket.recv())


def test_a_client_without_protocols_gets_none(instance: Instance) -> None:
    with cable.opened(instance.url, subprotocols=None) as page:
        assert page.socket.getsubprotocol() is None
        assert page.next() == WELCOME


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
def test_no_page_of_another_origin_connects(instance: Instance, origin: str) -> None:
    assert cable.refused(instance.url, origin=origin) == (404, "Page not found")


def test_nobody_connects_without_an_origin(instance: Instance) -> None:
    assert cable.refused(instance.url, origin=None, suppress_origin=True) == (404, "Page not found")


def test_a_plain_request_finds_nothing(instance: Instance) -> None:
    answer = httpx.get(f"{instance.url}/-/cable")
    assert (answer.status_code, answer.text) == (404, "Page not found")


def test_a_token_that_is_no_good_is_told_so_and_not_to_come_back(instance: Instance) -> None:
    for token in ("glpat-unknown", instance.new_token(["api"], date(2001, 1, 1))):
        with cable.opened(instance.url, header=bearer(token)) as page:
            assert page.next() == {"type": "disconnect", "reason": "unauthorized", "reconnect": False}
            opcode, content = page.socket.recv_data()
            assert (opcode, content[:2]) == (8, (1000).to_bytes(2, "big"))


def test_a_user_hears_of_a_pipeline_until_they_want_no_more(instance: Instance, pipeline: Any) -> None:
    with cable.opened(instance.url, header=bearer(instance.token)) as page:
        assert page.next() == WELCOME
        name = page.watch_status(pipeline.id)
        nothing_yet = {"result": {"data": {"ciPipelineStatusUpdated": None}}, "more": True}
        assert page.next() == {"identifier": name, "message": nothing_yet}
        assert page.next() == {"identifier": name, "type": "confirm_subscription"}
        pipeline.cancel()
        assert page.next() == {"identifier": name, "message": status(pipeline, "CANCELED")}
        page.socket.send(json.dumps({"command": "unsubscribe", "identifier": name}))
        pipeline.retry()
        other = page.subscribe('{ project(fullPath: "root/hello") { fullPath } }')
        found = {"result": {"data": {"project": {"fullPath": "root/hello"}}}, "more": False}
        assert page.next() == {"identifier": other, "message": found}


def test_a_session_is_as_good_as_a_token(instance: Instance, pipeline: Any) -> None:
    with httpx.Client() as browser:
        browser.post(f"{instance.url}/users/sign_in", data={"login": "root", "password": PASSWORD})
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    with cable.opened(instance.url, cookie=cookie) as page:
        assert page.next() == WELCOME
        page.watch_status(pipeline.id)
        assert page.next()["message"]["result"] == {"data": {"ciPipelineStatusUpdated": None}}


def test_strangers_are_welcome_and_see_what_is_public(instance: Instance, client: gitlab.Gitlab, pipeline: Any) -> None:
    client.projects.create({"name": "open", "visibility": "public"})
    with cable.opened(instance.url) as page:
        assert page.next() == WELCOME
        for path, seen in (("root/hello", None), ("root/open", {"fullPath": "root/open"})):
            page.subscribe(f'{{ project(fullPath: "{path}") {{ fullPath }} }}')
            assert page.next()["message"]["result"]["data"] == {"project": seen}
            assert page.next()["type"] == "confirm_subscription"
        page.watch_status(pipeline.id)
        [error] = page.next()["message"]["result"]["errors"]
        assert error["message"] == "Unauthorized subscription"


def test_a_token_that_may_not_read_is_rejected_by_the_channel(instance: Instance) -> None:
    with cable.opened(instance.url, header=bearer(instance.new_token(["read_registry"]))) as page:
        assert page.next() == WELCOME
        name = page.subscribe('{ project(fullPath: "root/hello") { fullPath } }')
        assert page.next() == {"identifier": name, "type": "reject_subscription"}


def test_what_makes_no_sense_is_ignored(instance: Instance) -> None:
    with cable.opened(instance.url) as page:
        for text in ("{", "[]", '{"command":"dance"}', '{"command":"subscribe","identifier":"{}"}'):
            page.socket.send(text)
        page.subscribe("{")
        assert page.next() == WELCOME
        assert page.next()["message"]["result"]["errors"][0]["message"].startswith("Syntax Error")
