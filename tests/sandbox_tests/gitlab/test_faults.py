"""Faults of GitLab's API: what its clients get, and how root on a machine injects them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox.gitlab.web import app
from tests.sandbox.gitlab.web.__main__ import listen_privately
from tests.sandbox.gitlab.web.faults import Fault, Faults, Shelf, create_fault_control
from tests.sandbox_tests.support.gitlab_instance import Instance, serving


@pytest.fixture(autouse=True)
def _no_faults_left(instance: Instance) -> Iterator[None]:
    yield
    instance.faults.clear()


def get(instance: Instance, path: str = "/version", **headers: str) -> httpx.Response:
    return httpx.get(f"{instance.url}/api/v4{path}", headers={"private-token": instance.token, **headers})


def projects(instance: Instance) -> set[str]:
    return {one["path"] for one in instance.request("GET", "/projects")}


def create(instance: Instance, name: str, **options: Any) -> httpx.Response:
    headers = {"private-token": instance.token}
    return httpx.post(f"{instance.url}/api/v4/projects", json={"name": name}, headers=headers, **options)


def test_errors_are_in_gitlabs_form_or_pages_of_its_nginx(instance: Instance) -> None:
    for status, retry_after in ((503, 4), (500, None)):
        instance.faults.add(Fault("/api/v4/version", status=status, retry_after=retry_after))
        answer = get(instance)
        assert answer.status_code == status
        assert answer.json()["message"].startswith(str(status))
        assert answer.headers.get("retry-after") == (retry_after and str(retry_after))
    instance.faults.add(Fault("/api/v4/*", status=429, retry_after=2))
    answer = get(instance)
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (429, "Retry later\n", "2")
    instance.faults.add(Fault("/api/v4/*", status=502, page=True))
    answer = get(instance)
    assert "<title>502 Bad Gateway</title>" in answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert get(instance).status_code == 200


def test_a_connection_is_cut_before_the_work_or_after_it(instance: Instance) -> None:
    for after, name in ((False, "not-made"), (True, "made")):
        instance.faults.add(Fault("/api/v4/projects", method="POST", drop=True, after=after))
        with pytest.raises(httpx.RemoteProtocolError):
            create(instance, name)
        assert (name in projects(instance)) == after


def test_an_answer_is_held_after_the_work(instance: Instance) -> None:
    instance.faults.add(Fault("/api/v4/projects", method="POST", delay=30, after=True))
    with pytest.raises(httpx.ReadTimeout):
        create(instance, "held", timeout=0.5)
    assert "held" in projects(instance)


def test_behind_nginx_a_cut_is_a_status_that_nginx_cuts_the_connection_at(instance: Instance) -> None:
    instance.faults.add(Fault("/api/v4/version", drop=True))
    assert get(instance, **{"x-real-ip": "192.0.2.10"}).status_code == app.CUT
    template = Path(app.__file__).parents[1] / ("package/opt/gitlab/embedded/cookbooks/templates/nginx-gitlab.conf.erb")
    assert f"error_page {app.CUT} = @cut;" in template.read_text()


def test_only_the_service_and_root_reach_the_control_and_faults_survive_a_restart(tmp_path: Path) -> None:
    path, file = tmp_path / "faults.socket", tmp_path / "faults.json"
    transport = httpx.HTTPTransport(uds=str(path))
    with (
        serving(create_fault_control(Faults(Shelf(file))), listen_privately(path)),
        httpx.Client(transport=transport, base_url="http://faults") as control,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert control.post("/faults", json={"path": "/api/*", "status": 500, "count": 2}).status_code == 201
        assert control.post("/faults", json={"path": "/api/*", "colour": "red"}).status_code == 422
        assert control.get("/requests").json() == []
    after_restart = Faults(Shelf(file))
    assert [fault.path for fault in after_restart.all()] == ["/api/*"]
    assert after_restart.take("api", "GET", "/api/v4/user") is not None
    assert [fault.count for fault in Faults(Shelf(file)).all()] == [1]


def test_requests_are_noted_without_what_is_secret(instance: Instance) -> None:
    get(instance, "/user?private_token=hidden")
    note = instance.faults.requests[-1]
    assert (note["method"], note["path"], note["status"]) == ("GET", "/api/v4/user", 200)
