"""The sandbox's GitLab under another address, driven by clients that know nothing of it: curl, git, python-gitlab."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import gitlab
import httpx
import pytest
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.sandbox.cloud import front
from tests.sandbox.cloud.front import Front
from tests.sandbox.gitlab.web.app import create_app
from tests.sandbox.gitlab.web.core import db, tokens, users
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, listen, serving, write_config

GITLAB = "https://gitlab.example.test"
HSTS = "max-age=63072000"
#: Nothing here is a WebSocket.
NO_TLS = ssl.create_default_context()


class Nginx:
    """What the web server in front of GitLab adds to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["strict-transport-security"] = HSTS
            await send(message)

        await self._app(scope, receive, add)


@pytest.fixture(scope="module")
def token() -> list[str]:
    """Of the administrator, once there is one."""
    return []


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, token: list[str]) -> ASGIApp:
    """A GitLab whose address is one that no client here can resolve."""
    config = write_config(tmp_path_factory.mktemp("gitlab"), GITLAB, "http://127.0.0.1:1")
    db.migrate(config.database)
    with db.connect(config.database) as connection:
        root = users.create(
            connection, username="root", name="Administrator", email="admin@example.com", password=PASSWORD, admin=True
        )
        token += [tokens.create(connection, config.db_key_base, root, name="t", scopes=["api"], expires=None)[1]]
    return Nginx(create_app(config))


@pytest.fixture(scope="module")
def address(behind: ASGIApp) -> Iterator[str]:
    """The address of the front that leads to it."""
    sock, url = listen()
    with serving(Front(GITLAB, httpx.ASGITransport(behind), NO_TLS).app, sock):
        yield url


def curl(*words: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_browser_signs_in_and_stays_under_the_address_that_it_uses(address: str, tmp_path: Path) -> None:
    jar = ("--cookie-jar", str(tmp_path / "jar"), "--cookie", str(tmp_path / "jar"))
    last = ("--location", "--write-out", "\n%{url_effective} %{http_code}")
    asked = curl(*jar, *last, address)
    assert asked.endswith(f"\n{address}/users/sign_in 200")
    form = ("--data-urlencode", "login=root", "--data-urlencode", f"password={PASSWORD}")
    signed_in = curl(*jar, *last, *form, f"{address}/users/sign_in")
    assert signed_in.endswith(f"\n{address}/ 200")
    assert "Sign out" in signed_in
    assert "Sign out" in curl(*jar, address)
    # Without the cookie it is the sign-in page again.
    assert "Sign out" not in curl(*last, address)
    assert GITLAB not in asked + signed_in


def test_the_answers_of_gitlab_itself_lead_elsewhere_and_its_cookie_needs_https(behind: ASGIApp, address: str) -> None:
    """What the front is for: as the real GitLab, this one has a single address."""
    sock, direct = listen()
    with serving(behind, sock):
        assert f"location: {GITLAB}/users/sign_in" in curl("--include", direct)
        form = ("--data-urlencode", "login=root", "--data-urlencode", f"password={PASSWORD}")
        itself = curl("--include", *form, f"{direct}/users/sign_in")
        through = curl("--include", *form, f"{address}/users/sign_in")
    assert "; secure" in itself.lower()
    assert HSTS in itself
    assert "; secure" not in through.lower()
    assert "strict-transport-security" not in through.lower()
    assert "httponly" in through.lower()


def test_a_client_of_the_api_follows_the_pages_of_a_list_and_git_clones(
    address: str, token: list[str], tmp_path: Path
) -> None:
    client = gitlab.Gitlab(address, private_token=token[0])
    made = [client.projects.create({"name": name, "initialize_with_readme": True}) for name in ("one", "two", "three")]
    listed = {one.path for one in client.projects.list(iterator=True, per_page=1)}
    assert {"one", "two", "three"} <= listed
    assert made[0].http_url_to_repo == f"{address}/root/one.git"
    assert made[0].ssh_url_to_repo == "git@gitlab.example.test:root/one.git"
    login = f"http://root:{token[0]}@{address.removeprefix('http://')}/root/one.git"
    subprocess.run(["git", "clone", "--quiet", login, tmp_path / "one"], check=True, capture_output=True)
    assert (tmp_path / "one" / "README.md").exists()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""])
def test_a_page_of_somebody_else_cannot_use_the_port_under_a_name_of_its_own(host: str, address: str) -> None:
    answer = curl("--include", "--header", f"Host: {host}" if host else "Host;", address)
    assert answer.startswith(("HTTP/1.1 421 ", "HTTP/1.1 400 "))


@pytest.mark.parametrize("host", ["localhost:9000", "gitlab.localhost", "[::1]:8929"])
def test_each_name_of_this_machine_is_the_address_in_the_answer(host: str, address: str) -> None:
    assert f"location: http://{host}/users/sign_in" in curl("--include", "--header", f"Host: {host}", address)


async def plain(_: Request) -> Response:
    return PlainTextResponse(f"as written: {GITLAB}/root", headers={"x-next": f"{GITLAB}/2", "set-cookie": "a=1"})


async def echo(request: Request) -> Response:
    body, path = (await request.body()).decode(), request.scope["raw_path"].decode()
    # As plain text, in which no address is replaced.
    seen = {"path": path, "query": request.url.query, "body": body, **request.headers}
    return PlainTextResponse(json.dumps(seen))


async def silent(_: Request) -> Response:
    raise httpx.ConnectError("connection refused")


@pytest.fixture
def odd() -> Iterator[str]:
    """A front to a service that says what it is asked."""
    routes = [
        Route("/plain", plain),
        Route("/silent", silent),
        Route("/{path:path}", echo, methods=["GET", "POST"]),
    ]
    sock, url = listen()
    with serving(Front(GITLAB, httpx.ASGITransport(Starlette(routes=routes)), NO_TLS).app, sock):
        yield url


def test_what_is_downloaded_passes_unchanged_and_headers_do_not(odd: str) -> None:
    answer = curl("--include", f"{odd}/plain")
    assert answer.endswith(f"as written: {GITLAB}/root")
    assert f"x-next: {odd}/2" in answer


def test_gitlab_sees_requests_under_its_own_address(odd: str) -> None:
    headers = {"Origin": odd, "Referer": f"{odd}/a", "Cookie": "a=1", "PRIVATE-TOKEN": "t"}
    headers |= {"X-Forwarded-Host": "evil.example", "Expect": "100-continue"}
    sent = httpx.post(f"{odd}/projects/root%2Fhello?x=%2F&y", content="body", headers=headers).json()
    assert (sent["path"], sent["query"], sent["body"]) == ("/projects/root%2Fhello", "x=%2F&y", "body")
    assert sent["host"] == "gitlab.example.test"
    assert (sent["origin"], sent["referer"]) == (GITLAB, f"{GITLAB}/a")
    assert (sent["cookie"], sent["private-token"]) == ("a=1", "t")
    assert not {"x-forwarded-host", "expect"} & sent.keys()


def test_a_gitlab_that_does_not_answer_is_said_to_be_so(odd: str) -> None:
    answer = curl("--include", f"{odd}/silent")
    assert answer.startswith("HTTP/1.1 502 ")
    assert f"{GITLAB} does not answer: connection refused. make status says more." in answer


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f'<a href="{GITLAB}/root">{GITLAB}</a>', '<a href="http://here:1/root">http://here:1</a>'),
        ('{"url":"https:\\/\\/gitlab.example.test\\/root"}', '{"url":"http:\\/\\/here:1\\/root"}'),
        ("?u=https%3A%2F%2Fgitlab.example.test%2Froot", "?u=http%3A%2F%2Fhere%3A1%2Froot"),
        (f"{GITLAB}:5555/v2/ {GITLAB}.evil gitlab.example.test:5555/root", None),
    ],
)
def test_the_address_is_replaced_in_its_forms_and_the_registrys_is_not(text: str, found: str | None) -> None:
    assert front._Addresses(GITLAB).replaced(text.encode(), "http://here:1").decode() == (found or text)


@pytest.mark.parametrize(
    ("cookie", "found"),
    [
        ("a=1; Path=/; Secure; HttpOnly; SameSite=Lax", "a=1; Path=/; HttpOnly; SameSite=Lax"),
        ("a=1; domain=gitlab.example.test; SECURE; SameSite=None", "a=1; SameSite=Lax"),
        ("secure=yes; Path=/", "secure=yes; Path=/"),
    ],
)
def test_a_cookie_is_kept_by_a_browser_without_tls(cookie: str, found: str) -> None:
    assert front._cookie(cookie) == found
