"""Pages of the GitLab stand-in, as HTTP has them and as a browser does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import gitlab
import httpx
import pytest

from tests.sandbox.gitlab.web.ci.logs import render
from tests.sandbox.gitlab.web.formats import ago
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance
from tests.sandbox_tests.support.gitlab_projects import TUTORIAL, commit, make_runner, newest


@pytest.fixture
def visitor(instance: Instance) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=instance.url, follow_redirects=True) as found:
        found.post("/users/sign_in", data={"login": "root", "password": PASSWORD})
        yield found


def word(text: str) -> str:
    return text.partition('name="authenticity_token" value="')[2].partition('"')[0]


def test_a_stranger_is_asked_to_sign_in_and_a_wrong_password_is_refused(instance: Instance, project: Any) -> None:
    for path in ("/", f"/{project.path_with_namespace}", "/admin/runners", "/no/such"):
        answer = httpx.get(f"{instance.url}{path}")
        assert answer.status_code == 302
        assert answer.headers["location"] == f"{instance.url}/users/sign_in"
    refused = httpx.post(f"{instance.url}/users/sign_in", data={"login": "root", "password": "wrong"})
    assert refused.status_code == 422
    assert "Invalid login or password" in refused.text
    assert "set-cookie" not in refused.headers


def test_the_sign_up_page_exists_only_while_sign_up_is_enabled(instance: Instance, client: gitlab.Gitlab) -> None:
    assert httpx.get(f"{instance.url}/users/sign_up").status_code == 200
    client.settings.update(new_data={"signup_enabled": False})
    closed = httpx.get(f"{instance.url}/users/sign_up")
    client.settings.update(new_data={"signup_enabled": True})
    assert closed.status_code == 302
    assert closed.headers["location"] == f"{instance.url}/users/sign_in"


def test_the_cookie_is_hidden_from_scripts_and_a_forged_one_is_refused(
    instance: Instance, visitor: httpx.Client
) -> None:
    answer = httpx.post(f"{instance.url}/users/sign_in", data={"login": "root", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "Sign out" in visitor.get("/").text
    forged = {"cookie": f"_gitlab_session={visitor.cookies['_gitlab_session'][:-3]}abc"}
    assert httpx.get(f"{instance.url}/", headers=forged).status_code == 302


def test_a_page_shows_the_project_and_unknown_pages_are_not_found(visitor: httpx.Client, project: Any) -> None:
    commit(project, {".gitlab-ci.yml": TUTORIAL, "<script>.js": "x"})
    text = visitor.get(f"/{project.path_with_namespace}").text
    assert f"git clone {visitor.base_url}/root/hello.git" in text
    assert "&lt;script&gt;.js" in text
    assert "<script>.js" not in text
    assert visitor.get("/root/absent").status_code == 404
    absent = visitor.get("/root/hello/-/jobs/999")
    assert (absent.status_code, "<title>Not found" in absent.text) == (404, True)
    assert "Sign out" in absent.text
    assert visitor.get("/api/v4/no/such").json() == {"error": "404 Not Found"}
    for path in ("/-/pipelines", "/-/jobs", "/container_registry", "/-/settings/ci_cd"):
        assert visitor.get(f"/root/hello{path}").status_code == 200


def test_the_registry_page_has_commands_to_copy_and_says_if_the_registry_does_not_answer(
    instance: Instance, visitor: httpx.Client, project: Any
) -> None:
    text = visitor.get("/root/hello/container_registry").text
    assert 'data-copy="docker push gitlab.example.com:5555/root/hello"' in text
    assert "There are no container images stored for this project." in text
    instance.execute(
        "INSERT INTO container_repositories (project_id, path, created_at) VALUES (?, 'root/hello', 'now')", project.id
    )
    answer = visitor.get("/root/hello/container_registry")
    assert answer.status_code == 200
    assert "The container registry is not responding" in answer.text


def test_a_cross_site_form_changes_nothing(client: gitlab.Gitlab, visitor: httpx.Client, project: Any) -> None:
    commit(project, {".gitlab-ci.yml": TUTORIAL})
    path = f"/root/hello/-/pipelines/{newest(project).id}"
    assert visitor.post(f"{path}/cancel", data={"authenticity_token": "guess"}).status_code == 422
    assert newest(project).status == "pending"
    own = word(visitor.get(path).text)
    assert visitor.post(f"{path}/cancel", data={"authenticity_token": own}).status_code == 200
    assert newest(project).status == "canceled"
    runner = make_runner(client, project)
    visitor.post(f"{path}/retry", data={"authenticity_token": own})
    assert runner.drain() == ["build", "test", "release"]


def test_a_log_is_shown_in_colour_and_never_as_markup() -> None:
    text = b"section_start:1:x\r\x1b[0K\x1b[32;1m$ echo <b>\x1b[0;m\r\n10%\r100%\n<script>"
    assert render(text) == '<span class="bold green">$ echo &lt;b&gt;</span>\n100%\n&lt;script&gt;'


def test_a_time_is_shown_in_words_with_the_exact_time_on_hover() -> None:
    now = datetime.now(UTC)
    assert ago(None) == "never"
    assert ">1 minute ago<" in ago((now - timedelta(seconds=90)).isoformat())
    assert ">3 hours ago<" in ago((now - timedelta(hours=3, minutes=59)).isoformat())
    told = ago("2026-01-02T04:05:06.789+01:00")
    assert ">2 Jan 2026<" in told
    assert 'title="2 Jan 2026, 03:05:06 UTC"' in told
    assert 'datetime="2026-01-02T03:05:06+00:00"' in told
