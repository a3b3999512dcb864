"""Requests that the program sends itself: to the API that is read before anything is created, and to GitLab."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components import api
from components.gitlab_leftovers import GitLabApi


class Service(BaseHTTPRequestHandler):
    """Answers with one status after the other, 200 at last; 0 is no answer."""

    statuses: list[int]
    asked: list[str]
    retry_after = ""

    def answer(self) -> None:
        self.asked.append(self.command)
        status = self.statuses.pop(0) if self.statuses else 200
        if not status:
            self.close_connection = True
            return
        self.send_response(status)
        if self.retry_after:
            self.send_header("Retry-After", self.retry_after)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names are the base class's

    def log_message(self, *_: object) -> None:
        """Nothing: the tests look at `asked`."""


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("components.api.time.sleep", found.append)
    return found


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Service]]:
    Service.asked, Service.statuses, Service.retry_after = [], [], ""
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("DIGITALOCEAN_API_URL", f"http://127.0.0.1:{server.server_port}")
        yield Service
        server.shutdown()
        thread.join()


def test_a_read_is_repeated_after_errors_that_pass(service: type[Service], pauses: list[float]) -> None:
    service.statuses = [429, 500, 503, 502]
    assert api.request("/v2/volumes") == {}
    assert service.asked == ["GET"] * 5
    assert pauses == [1, 2, 4, 8]
    service.statuses = [500] * 5
    with pytest.raises(api.RefusedError, match="refused GET /v2/volumes: 500"):
        api.request("/v2/volumes")


def test_the_announced_time_is_waited_for_but_no_longer_than_a_minute(
    service: type[Service], pauses: list[float]
) -> None:
    for announced in ("40", "4000"):
        service.statuses, service.retry_after = [429], announced
        api.request("/v2/volumes")
    assert pauses == [40, 60]


def test_a_read_without_an_answer_is_repeated_once(service: type[Service], pauses: list[float]) -> None:
    service.statuses = [0]
    assert api.request("/v2/volumes") == {}
    service.statuses = [0, 0]
    with pytest.raises(RuntimeError, match="DigitalOcean did not respond to GET /v2/volumes"):
        api.request("/v2/volumes")
    assert pauses == [1, 1]


def test_a_change_is_repeated_only_if_it_was_not_looked_at(service: type[Service], pauses: list[float]) -> None:
    service.statuses = [429]
    assert api.request("/v2/volumes", {}) == {}
    for status, words in ((500, "refused POST"), (0, "did not respond to POST")):
        service.asked.clear()
        service.statuses = [status]
        with pytest.raises(RuntimeError, match=words):
            api.request("/v2/volumes", {})
        assert service.asked == ["POST"]
    assert pauses == [1]


def test_what_is_refused_is_not_asked_again(service: type[Service], pauses: list[float]) -> None:
    for status in (401, 403, 404, 422):
        service.statuses = [status]
        with pytest.raises(api.RefusedError) as failure:
            api.request("/v2/volumes")
        assert failure.value.status == status
    assert pauses == []


def test_gitlab_is_asked_again_as_well(service: type[Service], pauses: list[float]) -> None:
    gitlab = GitLabApi(os.environ["DIGITALOCEAN_API_URL"], "glpat-of-a-test", None)
    service.statuses = [502, 429]
    assert gitlab.get("/runners/1") == {}
    service.statuses = [429]
    gitlab.delete("/runners/1")
    assert service.asked == ["GET"] * 3 + ["DELETE"] * 2
    assert pauses == [1, 2, 1]
