"""Sign-in by OpenID Connect: the program's `gitlab.rb`, the stand-in, and a certified provider."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from tests.sandbox.cloud.tools import nodejs
from tests.sandbox.layout import current
from tests.sandbox_tests.support.gitlab_instance import Instance, running
from tests.sandbox_tests.support.gitlab_rb import evaluated, handed_on
from tests.sandbox_tests.support.ports import free_port
from tests.sandbox_tests.support.waiting import eventually

HERE = Path(__file__).parent
#: The names that a stack file has, and the test other ones instead.
ISSUER, GITLAB = "https://login.example.com", "https://gitlab.example.com"
SECRET = "the-client-secret"  # noqa: S105 - of a provider that lives as long as a test


@dataclass(frozen=True)
class World:
    """GitLab and a provider that knows it."""

    gitlab: Instance
    issuer: str

    def settle(self, folder: Path, **sign_in: Any) -> None:
        """Apply the section `signIn` of a stack file with this provider in it."""
        provider = sign_in.pop("provider", {})
        made = handed_on(folder, {**sign_in, "oidc": [entry(**provider)]}, "omniauth")
        assert made.returncode == 0, made.stderr
        text = made.stdout.replace(ISSUER, self.issuer).replace(GITLAB, self.gitlab.url)
        self.gitlab.config.omniauth.clear()
        self.gitlab.config.omniauth.update(json.loads(text))

    def users(self) -> dict[str, str]:
        """The state of every user but the first, by name."""
        found = self.gitlab.request("GET", "/users")
        return {one["username"]: one["state"] for one in found if one["username"] != "root"}


def entry(**more: Any) -> dict[str, Any]:
    """A provider of a stack file."""
    return {"name": "keycloak", "issuer": ISSUER, "clientId": "gitlab", "clientSecret": SECRET, **more}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    module = current().cache / "npm/node_modules/oidc-provider/lib/index.js"
    command = [str(nodejs.node(current().cache) / "bin/node"), str(HERE / "provider.mjs"), str(module), str(port)]
    with running(tmp_path_factory.mktemp("gitlab")) as gitlab:
        redirect = f"{gitlab.url}/users/auth/keycloak/callback"
        known = {"CLIENT_ID": "gitlab", "CLIENT_SECRET": SECRET, "REDIRECT_URI": redirect}
        with subprocess.Popen(command, env=os.environ | known, stderr=subprocess.DEVNULL) as process:
            try:
                eventually(lambda: process.poll() is not None or _answers(issuer), 30)
                assert process.poll() is None, "the provider ended"
                yield World(gitlab, issuer)
            finally:
                process.terminate()


def _answers(issuer: str) -> bool:
    try:
        return httpx.get(f"{issuer}/.well-known/openid-configuration").is_success
    except httpx.TransportError:
        return False


def sign_in(world: World, person: str) -> httpx.Response:
    """What a person sees in the end, who clicks on the button of the provider and signs in there."""
    with httpx.Client(follow_redirects=True, timeout=20) as browser:
        page = browser.get(f"{world.gitlab.url}/users/sign_in")
        assert ">Keycloak</button>" in page.text
        page = browser.post(f"{world.gitlab.url}/users/auth/keycloak")
        while str(page.url).startswith(world.issuer):
            assert page.is_success, page.text
            address, form = _filled(page, person)
            page = browser.post(address, data=form)
        return page


def _filled(page: httpx.Response, person: str) -> tuple[str, dict[str, str]]:
    """The form of a page of the provider, with a name and a password in it if it asks for them."""
    [address] = re.findall(r'<form[^>]* action="([^"]+)"', page.text)[:1]
    inputs = [dict(re.findall(r'(\w+)="([^"]*)"', one)) for one in re.findall(r"<input[^>]*>", page.text)]
    form = {one["name"]: unescape(one.get("value", "")) for one in inputs if "name" in one}
    if "login" in form:
        form |= {"login": person, "password": "any"}
    return urljoin(str(page.url), unescape(address)), form


def alert(page: httpx.Response) -> str:
    """The notice on a page of GitLab."""
    [found] = re.findall(r'role="alert">([^<]*)<', page.text)
    return unescape(found)


def test_a_person_whom_the_provider_knows_signs_in_with_an_account_of_their_own(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path, newUsers="active", provider={"label": "Keycloak"})
    for _ in range(2):
        page = sign_in(world, "ada")
        assert page.status_code == 200
        assert "/users/sign_out" in page.text
    assert world.users()["ada"] == "active"
    [ada] = world.gitlab.request("GET", "/users?username=ada")
    assert (ada["name"], ada["email"], ada["is_admin"]) == ("The ada", "ada@example.com", False)


def test_by_default_an_administrator_approves_new_people_first(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path, provider={"label": "Keycloak"})
    page = sign_in(world, "grace")
    assert (page.status_code, alert(page)[:33]) == (403, "Your account is pending approval ")
    assert world.users()["grace"] == "blocked_pending_approval"
    [grace] = world.gitlab.request("GET", "/users?username=grace")
    world.gitlab.request("POST", f"/users/{grace['id']}/approve")
    assert sign_in(world, "grace").status_code == 200


def test_without_accounts_for_new_people_a_stranger_gets_none(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path, newUsers="none", provider={"label": "Keycloak"})
    page = sign_in(world, "mallory")
    assert page.status_code == 422
    assert "without a pre-existing account in 127.0.0.1 is not allowed" in alert(page)
    assert "mallory" not in world.users()


def test_an_account_with_the_same_address_is_taken_over_only_where_the_provider_is_trusted_with_it(
    world: World, tmp_path: Path
) -> None:
    world.gitlab.new_user("edith")
    world.settle(tmp_path, newUsers="active", provider={"label": "Keycloak"})
    assert alert(sign_in(world, "edith")) == "Sign-in failed because Email has already been taken."
    world.settle(tmp_path, newUsers="none", provider={"label": "Keycloak", "linkByEmail": True})
    assert sign_in(world, "edith").status_code == 200


def test_a_secret_that_the_provider_does_not_know_lets_nobody_in(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path, newUsers="active", provider={"label": "Keycloak"})
    world.gitlab.config.omniauth["providers"][0]["args"]["client_options"] |= {"secret": "another"}
    assert 'because "invalid_client' in alert(sign_in(world, "barbara"))
    assert "barbara" not in world.users()


def test_an_answer_that_nobody_asked_for_is_refused(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path, newUsers="active", provider={"label": "Keycloak"})
    page = httpx.get(f"{world.gitlab.url}/users/auth/keycloak/callback?code=x&state=y")
    assert alert(page) == 'Could not authenticate you from Keycloak because "Csrf detected".'


def test_without_the_section_the_sign_in_page_has_no_buttons_of_providers(world: World) -> None:
    world.gitlab.config.omniauth.clear()
    assert "/users/auth/" not in httpx.get(f"{world.gitlab.url}/users/sign_in").text
    assert httpx.post(f"{world.gitlab.url}/users/auth/keycloak").status_code == 404


def test_a_provider_of_another_name_has_the_class_that_gitlab_needs(tmp_path: Path) -> None:
    made = handed_on(tmp_path, {"oidc": [entry(), entry(name="openid_connect")]}, "omniauth")
    first, second = json.loads(made.stdout)["providers"]
    assert first["args"]["strategy_class"] == "OmniAuth::Strategies::OpenIDConnect"
    assert "strategy_class" not in second["args"]
    (tmp_path / "gitlab.rb").write_text((tmp_path / "gitlab.rb").read_text().replace("'strategy_class' =>", "'x' =>"))
    assert "uninitialized constant OmniAuth::Strategies::Keycloak" in evaluated(tmp_path, "omniauth").stderr
