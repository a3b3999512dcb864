"""`/jwt/auth` of the GitLab stand-in: who gets a token for the registry, and for what."""

from __future__ import annotations

import select
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.sandbox.gitlab.web.core.registry_client import key_id
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance

DEMO = "repository:root/demo:pull,push"

pytestmark = pytest.mark.new_instance


@pytest.fixture
def instance(instance: Instance) -> Instance:
    """With the project `root/demo`."""
    instance.client().projects.create({"name": "demo"})
    return instance


def ask(instance: Instance, *scopes: str, auth: tuple[str, str] | None = None, **more: str) -> httpx.Response:
    query: list[tuple[str, str | int | float | bool | None]] = [
        ("service", more.get("service", "container_registry")),
        *(("scope", scope) for scope in scopes),
    ]
    return httpx.get(f"{instance.url}/jwt/auth", params=query, auth=auth)


def payload(instance: Instance, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    key = load_pem_private_key(instance.config.registry_key.encode(), None).public_key()
    found: dict[str, Any] = jwt.decode(
        answer.json()["token"],
        key,  # type: ignore[arg-type]
        algorithms=["RS256"],
        audience="container_registry",
        issuer="issuer",
    )
    return found


def granted(instance: Instance, *scopes: str, auth: tuple[str, str] | None = None) -> list[tuple[str, list[str]]]:
    return [
        (entry["name"], entry["actions"]) for entry in payload(instance, ask(instance, *scopes, auth=auth))["access"]
    ]


ROOT = ("root", PASSWORD)


def test_a_request_for_oauth_is_refused_after_its_body_so_that_clients_ask_again_with_get(instance: Instance) -> None:
    address = urlsplit(instance.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        head = f"POST /jwt/auth HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 4\r\n\r\n"
        connection.sendall(head.encode())
        assert select.select([connection], [], [], 0.5)[0] == [], "the client is still sending"
        connection.sendall(b"a=b&")
        assert connection.recv(1024).startswith(b"HTTP/1.1 404 ")


def test_the_owner_of_a_project_can_pull_and_push(instance: Instance) -> None:
    assert granted(instance, DEMO, auth=ROOT) == [("root/demo", ["pull", "push"])]
    assert granted(instance, "repository:root/demo/app/cache:pull", auth=ROOT) == [("root/demo/app/cache", ["pull"])]


def test_a_login_without_a_scope_gets_a_token_without_access(instance: Instance) -> None:
    assert granted(instance, auth=ROOT) == []


def test_one_request_can_have_several_scopes(instance: Instance) -> None:
    both = granted(instance, "repository:root/demo/a:pull repository:root/demo/b:pull", DEMO, auth=ROOT)
    assert [name for name, _ in both] == ["root/demo/a", "root/demo/b", "root/demo"]


def test_a_token_lives_five_minutes_and_names_its_key_as_the_registry_looks_for_it(instance: Instance) -> None:
    answer = ask(instance, DEMO, auth=ROOT)
    found = payload(instance, answer)
    assert found["exp"] - found["iat"] == 300
    assert found["sub"] == "root"
    header = jwt.get_unverified_header(answer.json()["token"])
    assert header["kid"] == key_id(instance.config.registry_key)
    assert [len(part) for part in header["kid"].split(":")] == [4] * 12


@pytest.mark.parametrize("auth", [("root", "wrong"), ("nobody", PASSWORD), ("root", "glpat-aaaaaaaaaaaaaaaaaaaa")])
def test_wrong_credentials_are_refused(instance: Instance, auth: tuple[str, str]) -> None:
    answer = ask(instance, DEMO, auth=auth)
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert "HTTP Basic: Access denied" in answer.json()["errors"][0]["message"]


def test_a_stranger_gets_no_access_to_a_private_project(instance: Instance) -> None:
    answer = ask(instance, "repository:root/demo:pull")
    assert answer.status_code == 403
    assert answer.json() == {"errors": [{"code": "DENIED", "message": "access forbidden"}]}


def test_a_stranger_can_pull_from_a_public_project_but_not_push(instance: Instance) -> None:
    client = instance.client()
    client.projects.update("root/demo", {"visibility": "public"})
    assert granted(instance, DEMO) == [("root/demo", ["pull"])]


def test_a_registry_that_is_private_to_members_is_closed_to_strangers(instance: Instance) -> None:
    client = instance.client()
    client.projects.update("root/demo", {"visibility": "public", "container_registry_access_level": "private"})
    assert ask(instance, "repository:root/demo:pull").status_code == 403
    assert granted(instance, DEMO, auth=ROOT) == [("root/demo", ["pull", "push"])]


def test_a_disabled_registry_is_closed_to_everybody(instance: Instance) -> None:
    client = instance.client()
    client.projects.update("root/demo", {"container_registry_access_level": "disabled"})
    assert granted(instance, DEMO, auth=ROOT) == []


@pytest.mark.parametrize("path", ["root/none", "root", "demo", "none/demo"])
def test_nobody_has_access_to_a_repository_outside_of_every_project(instance: Instance, path: str) -> None:
    assert granted(instance, f"repository:{path}:pull,push", auth=ROOT) == []


@pytest.mark.parametrize(
    ("scopes", "actions"),
    [
        (["api"], ["pull", "push"]),
        (["read_registry"], ["pull"]),
        (["write_registry"], ["push"]),
        (["read_registry", "write_registry"], ["pull", "push"]),
    ],
)
def test_a_personal_token_can_do_what_its_scopes_allow(
    instance: Instance, scopes: list[str], actions: list[str]
) -> None:
    token = instance.new_token(scopes)
    assert granted(instance, DEMO, auth=("any", token)) == [("root/demo", actions)]


def test_a_personal_token_without_a_registry_scope_cannot_log_in(instance: Instance) -> None:
    answer = ask(instance, DEMO, auth=("root", instance.new_token(["read_user"])))
    assert answer.status_code == 403
    assert answer.json() == {"errors": [{"code": "DENIED", "message": "access forbidden"}]}


def test_another_user_gets_no_access_to_a_private_project(instance: Instance) -> None:
    client = instance.client()
    client.users.create({"username": "other", "name": "O", "email": "o@example.com", "password": "pQ4-wmd-Ksj-19"})
    assert granted(instance, DEMO, auth=("other", "pQ4-wmd-Ksj-19")) == []


def test_the_first_push_makes_the_repository_known_and_a_pull_does_not(instance: Instance) -> None:
    project = instance.client().projects.get("root/demo")
    granted(instance, "repository:root/demo/app:pull", auth=ROOT)
    assert project.repositories.list(get_all=True) == []
    granted(instance, "repository:root/demo/app:pull,push", auth=ROOT)
    assert [found.location for found in project.repositories.list(get_all=True)] == [
        "gitlab.example.com:5555/root/demo/app"
    ]


def test_only_get_is_answered_and_only_for_the_registry(instance: Instance) -> None:
    assert httpx.post(f"{instance.url}/jwt/auth", data={"service": "container_registry"}).status_code == 404
    assert ask(instance, auth=ROOT, service="other").status_code == 404
