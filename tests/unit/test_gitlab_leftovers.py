"""Objects of the stack that an earlier life has left in GitLab: deleted before they are created again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from components.gitlab_leftovers import (
    GitLabApi,
    mark_of,
    remove_runners,
    remove_variable,
)

MARK = mark_of("slipway-production")


class GitLab(BaseHTTPRequestHandler):
    """Serves lists two items a page, single things by their path, and records what is deleted."""

    things: ClassVar[dict[str, Any]] = {}
    deleted: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        path, query = self._asked()
        found = self.things.get(path)
        if found is None:
            self._answer(404, {})
        elif isinstance(found, list):
            page = int(query["page"][0])
            following = str(page + 1) if len(found) > 2 * page else ""
            self._answer(200, found[2 * (page - 1) : 2 * page], following)
        else:
            self._answer(200, found)

    def do_DELETE(self) -> None:
        path, _ = self._asked()
        self.deleted.append(path)
        self._answer(404 if path.endswith("/gone") else 403 if path.endswith("/forbidden") else 204, {})

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        assert self.headers["PRIVATE-TOKEN"] == "glpat-of-a-test"
        return unquote(parts.path.removeprefix("/api/v4")), parse_qs(parts.query)

    def _answer(self, status: int, body: Any, following: str = "") -> None:
        self.send_response(status)
        self.send_header("X-Next-Page", following)
        self.end_headers()
        if status != 204:
            self.wfile.write(json.dumps(body).encode())


@pytest.fixture
def api() -> Iterator[GitLabApi]:
    GitLab.things.clear()
    GitLab.deleted.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), GitLab)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield GitLabApi(f"http://127.0.0.1:{server.server_port}", "glpat-of-a-test", None)
    server.shutdown()
    server.server_close()
    thread.join()


def variable(key: str, description: str | None = MARK, scope: str = "*") -> dict[str, Any]:
    return {"key": key, "environment_scope": scope, "description": description}


def test_a_variable_that_the_stack_left_is_deleted_also_from_a_later_page(api: GitLabApi) -> None:
    GitLab.things["/projects/12/variables"] = [variable("A"), variable("B"), variable("C"), variable("KEY")]
    remove_variable(api, {"project": "12", "key": "KEY"}, MARK)
    assert GitLab.deleted == ["/projects/12/variables/KEY"]


def test_a_variable_of_somebody_else_is_refused_and_stays(api: GitLabApi) -> None:
    for description in (None, "", mark_of("slipway-staging")):
        GitLab.things["/projects/12/variables"] = [variable("KEY", description)]
        with pytest.raises(RuntimeError, match=r"has a variable KEY that this stack did not create; .* Delete it"):
            remove_variable(api, {"project": "12", "key": "KEY"}, MARK)
    GitLab.things["/projects/12/variables"] = [variable("KEY", None, scope="review/*")]
    remove_variable(api, {"project": "12", "key": "KEY"}, MARK)
    assert GitLab.deleted == []


@pytest.mark.parametrize(
    ("change", "is_deleted"),
    [
        ({}, True),
        ({"maintenance_note": None}, False),
        ({"description": "another"}, False),
        # Created in another project, and enabled for this one: it moves there, and is not a leftover.
        ({"projects": [{"id": 7}, {"id": 12}]}, False),
    ],
)
def test_only_a_runner_that_the_stack_created_in_the_project_is_deleted(
    api: GitLabApi, change: dict[str, Any], *, is_deleted: bool
) -> None:
    runner = {"id": 5, "description": "builder", "maintenance_note": MARK, "projects": [{"id": 12}], **change}
    GitLab.things["/projects/12/runners"] = [{"id": 5}]
    GitLab.things["/runners/5"] = runner
    # Numbers arrive as floating point numbers on the wire.
    remove_runners(api, {"projectId": 12.0, "description": "builder"}, MARK)
    assert GitLab.deleted == (["/runners/5"] if is_deleted else [])


def test_what_is_gone_meanwhile_is_no_error_and_a_refusal_is(api: GitLabApi) -> None:
    api.delete("/projects/12/deploy_tokens/gone")
    with pytest.raises(RuntimeError, match=r"GitLab refused DELETE http://127.*/forbidden: 403"):
        api.delete("/projects/12/deploy_tokens/forbidden")
    with pytest.raises(RuntimeError, match=r"GitLab refused GET .*: 404"):
        api.get("/runners/5")
    with pytest.raises(RuntimeError, match=r"GitLab did not respond to GET http://127\.0\.0\.1:9/"):
        GitLabApi("http://127.0.0.1:9", "glpat-of-a-test", None).get("/runners/5")
