"""WebSockets of the sandbox's GitLab under another address: an independent client, the front, and GitLab over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gitlab
import httpx
import pytest
import trustme
import websocket
from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.sandbox.cloud.front import Front
from tests.sandbox.gitlab.web.app import create_app
from tests.sandbox.gitlab.web.core import db, tokens, users
from tests.sandbox_tests.support import cable
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, listen, serving, write_config
from tests.sandbox_tests.support.gitlab_projects import commit, make_project
from tests.sandbox_tests.support.ports import free_port
from tests.sandbox_tests.support.waiting import eventually


@dataclass(frozen=True)
class World:
    """A GitLab by TLS, and two fronts of it: one that trusts its certificate, and one that does not."""

    gitlab: str
    front: str
    distrusting: str
    token: str = field(repr=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, authority = tmp_path_factory.mktemp("gitlab"), trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "certificate")
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    sock, url = listen()
    url = url.replace("http:", "https:")
    config = write_config(folder, url, "http://127.0.0.1:1")
    db.migrate(config.database)
    with db.connect(config.database) as connection:
        root = users.create(
            connection, username="root", name="Administrator", email="admin@example.com", password=PASSWORD, admin=True
        )
        token = tokens.create(connection, config.db_key_base, root, name="t", scopes=["api"], expires=None)[1]
    with (
        serving(create_app(config), sock, folder / "certificate"),
        front(url, tls) as address,
        front(url, ssl.create_default_context()) as distrusting,
    ):
        yield World(url, address, distrusting, token)


@contextmanager
def front(url: str, tls: ssl.SSLContext) -> Iterator[str]:
    """Serve a front of the GitLab at `url` as `make open` does; gives its address."""
    sock, address = listen()
    # It keeps no connection, because nothing here closes those.
    transport = httpx.AsyncHTTPTransport(verify=tls, limits=httpx.Limits(max_keepalive_connections=0))
    with serving(Front(url, transport, tls).app, sock, ws="auto"):
        yield address


def session(world: World) -> str:
    """The cookie of a browser that has signed in under the address of the front."""
    with httpx.Client() as browser:
        browser.post(f"{world.front}/users/sign_in", data={"login": "root", "password": PASSWORD})
        return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())


def test_a_signed_in_page_hears_of_a_pipeline_while_it_lasts(world: World) -> None:
    project = make_project(gitlab.Gitlab(world.front, private_token=world.token))
    commit(project, {".gitlab-ci.yml": "wait: {script: [echo]}\n"})
    [pipeline] = project.pipelines.list(get_all=True)
    assert pipeline.status == "pending", pipeline.yaml_errors
    with cable.opened(world.front, cookie=session(world)) as page:
        assert page.socket.getsubprotocol() == "actioncable-v1-json"
        assert page.next() == {"type": "welcome"}
        name = page.watch_status(pipeline.id)
        assert page.next()["message"]["result"] == {"data": {"ciPipelineStatusUpdated": None}}
        assert page.next() == {"identifier": name, "type": "confirm_subscription"}
        pipeline.cancel()
        news = page.next()["message"]["result"]["data"]["ciPipelineStatusUpdated"]
        assert news["status"] == "CANCELED"


def test_gitlab_refuses_pages_of_others_and_says_so_itself(world: World) -> None:
    foreign = ("https://evil.example", "http://localhost:1", f"{world.front}.evil.example", f"{world.front}1")
    for origin in foreign:
        assert cable.refused(world.front, origin=origin) == (404, "Page not found")
    assert cable.refused(world.front, origin=None, suppress_origin=True) == (404, "Page not found")
    # Nor is it refused by the front alone.
    assert cable.refused(world.gitlab, origin=world.front, sslopt={"cert_reqs": ssl.CERT_NONE})[0] == 404


def test_a_page_of_somebody_else_cannot_use_the_port_under_a_name_of_its_own(world: World) -> None:
    status, text = cable.refused(world.front, host="evil.example", origin="http://evil.example")
    assert (status, text) == (421, "evil.example is not an address of this machine's own\n")


def test_a_certificate_that_is_not_trusted_is_said_to_be_so(world: World) -> None:
    status, text = cable.refused(world.distrusting)
    assert status == 502
    assert f"{world.gitlab} does not answer: " in text
    assert "CERTIFICATE_VERIFY_FAILED" in text


def test_a_gitlab_that_does_not_answer_is_said_to_be_so() -> None:
    with front(f"http://127.0.0.1:{free_port()}", ssl.create_default_context()) as address:
        status, text = cable.refused(address)
    assert status == 502
    assert text.endswith(" make status says more.\n")


class Service:
    """A service that sends back what it gets, and keeps what it has seen of connections."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.closed: list[tuple[int, str]] = []

    async def echo(self, socket: WebSocket) -> None:
        self.headers = [("path", socket.scope["raw_path"].decode()), ("query", socket.url.query)]
        self.headers += socket.headers.items()
        await socket.accept()
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message["code"], message.get("reason"))
                if message.get("text") == "close":
                    await socket.close(4002, "enough")
                    return
                if message.get("text") == "vanish":
                    raise ConnectionResetError
                await socket.send({**message, "type": "websocket.send"})
        except WebSocketDisconnect as end:
            self.closed.append((end.code, end.reason))


async def elsewhere(socket: WebSocket) -> None:
    await socket.send_denial_response(RedirectResponse("http://127.0.0.1:1/elsewhere"))


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def odd(service: Service) -> Iterator[str]:
    """A front to that service."""
    sock, url = listen()
    routes = [WebSocketRoute("/moved", elsewhere), WebSocketRoute("/{path:path}", service.echo)]
    with serving(Starlette(routes=routes), sock), front(url, ssl.create_default_context()) as address:
        yield address


def connect(address: str, path: str = "/", **more: Any) -> websocket.WebSocket:
    return websocket.create_connection(f"{address.replace('http', 'ws', 1)}{path}", timeout=20, **more)


def test_text_and_bytes_of_any_length_pass_both_ways(odd: str) -> None:
    socket = connect(odd)
    for text in ("", "grüße", "x" * 3_000_000):
        socket.send(text)
        assert socket.recv() == text
    for content in (b"", bytes(range(256)), bytes(3_000_000)):
        socket.send_binary(content)
        assert socket.recv() == content
    socket.close()


def test_gitlab_sees_handshakes_under_its_own_address(odd: str, service: Service) -> None:
    headers = {"X-Forwarded-Host": "evil.example", "Private-Token": "t", "User-Agent": "a browser"}
    connect(odd, "/a%2Fb?x=%2F&y", header=headers, cookie="a=1", origin=odd).close()
    seen = dict(service.headers)
    assert (seen["path"], seen["query"]) == ("/a%2Fb", "x=%2F&y")
    assert seen["origin"] == f"http://{seen['host']}" != odd
    assert (seen["cookie"], seen["private-token"], seen["user-agent"]) == ("a=1", "t", "a browser")
    names = [name for name, _ in service.headers]
    assert "x-forwarded-host" not in names
    assert len(names) == len(set(names))


def test_a_browser_that_closes_closes_the_other_side_for_the_same_reason(odd: str, service: Service) -> None:
    connect(odd).close(4001, b"bye")
    eventually(lambda: service.closed == [(4001, "bye")])


def test_a_browser_that_is_gone_leaves_no_connection_behind(odd: str, service: Service) -> None:
    socket = connect(odd)
    socket.shutdown()  # type: ignore[no-untyped-call]
    eventually(lambda: len(service.closed) == 1)


def test_a_gitlab_that_closes_closes_the_browsers_side_for_the_same_reason(odd: str) -> None:
    socket = connect(odd)
    socket.send("close")
    assert closed(socket) == (4002, "enough")


def test_a_gitlab_that_is_gone_is_no_good_end(odd: str) -> None:
    socket = connect(odd)
    socket.send("vanish")
    assert closed(socket)[0] in {1011, 1014}


def closed(socket: websocket.WebSocket) -> tuple[int, str]:
    """The code and the words of a connection that the other side closes."""
    opcode, content = socket.recv_data()
    cable.end(socket)
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    return int.from_bytes(content[:2], "big"), content[2:].decode()


def test_a_front_that_ends_closes_both_sides(service: Service) -> None:
    sock, url = listen()
    with serving(Starlette(routes=[WebSocketRoute("/", service.echo)]), sock):
        with front(url, ssl.create_default_context()) as address:
            socket = connect(address)
        assert closed(socket)[0] == 1012
        eventually(lambda: len(service.closed) == 1)


def test_a_redirect_is_the_browsers_business(odd: str) -> None:
    # As a request, because clients of WebSockets follow it.
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    answer = httpx.get(f"{odd}/moved", headers={"Connection": "Upgrade", "Upgrade": "websocket", **key})
    assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:1/elsewhere")
