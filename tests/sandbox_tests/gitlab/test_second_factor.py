"""A second factor that everybody needs: the program's own script, the pages, and what works without one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from components.settings import Settings
from tests.sandbox.gitlab.web.core import second_factor
from tests.sandbox_tests.gitlab.test_provisioning import program, provision
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance

__all__ = ["program"]

pytestmark = pytest.mark.new_instance

SET_UP = "/-/profile/two_factor_auth"
LONG_AGO = "2020-01-01T00:00:00.000Z"


def wanted(**sign_in: object) -> str:
    """What the step gets for a section `signIn` of a stack file."""
    settings = Settings.model_validate({"domain": "example.com", "adminCidrs": ["203.0.113.7/32"], "signIn": sign_in})
    return json.dumps(settings.sign_in.application_settings)


@pytest.fixture
def browser(instance: Instance) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=instance.url, follow_redirects=True) as found:
        yield found


def sign_in(browser: httpx.Client) -> httpx.Response:
    """The page that `root` sees after the password."""
    return browser.post("/users/sign_in", data={"login": "root", "password": PASSWORD})


def send(browser: httpx.Client, page: httpx.Response, path: str, **form: str) -> httpx.Response:
    """Send a form of a page."""
    [word] = set(re.findall(r'name="authenticity_token" value="([^"]+)"', page.text))
    return browser.post(path, data={"authenticity_token": word, **form})


def present_code(page: httpx.Response, later: int = 0) -> str:
    """What an authenticator shows that was given the key of a page."""
    [secret] = re.findall(r"<code>([A-Z2-7]{32})</code>", page.text)
    return second_factor.code(secret, second_factor.now() + later)


def notice(page: httpx.Response) -> str:
    """What a page says first."""
    return str(re.findall(r'role="(?:status|alert)">([^<]*)<', page.text)[-1])


def test_somebody_without_a_second_factor_is_sent_to_set_one_up_and_may_put_it_off(
    instance: Instance, tree: Path, program: str, browser: httpx.Client
) -> None:
    assert provision(instance, tree, program, settings=wanted(require2fa=True))[0] == 0
    page = sign_in(browser)
    assert page.url.path == SET_UP
    assert notice(page).startswith("The global settings require you to enable Two-Factor Authentication for your acc")
    assert " You need to do this before " in notice(page)
    assert browser.get("/admin/runners").url.path == SET_UP
    assert send(browser, page, f"{SET_UP}/skip").url.path == "/"
    assert browser.get("/admin/runners").url.path == "/admin/runners"


def test_after_the_grace_period_nothing_but_the_set_up_is_there(
    instance: Instance, tree: Path, program: str, browser: httpx.Client
) -> None:
    provision(instance, tree, program, settings=wanted(require2fa=True))
    instance.execute("UPDATE users SET otp_grace_period_started_at = ?", LONG_AGO)
    page = sign_in(browser)
    assert "before" not in notice(page)
    assert "Configure it later" not in page.text
    refused = send(browser, page, f"{SET_UP}/skip")
    assert notice(refused) == "Cannot skip two factor authentication setup"
    assert browser.get("/").url.path == SET_UP


def test_without_a_grace_period_nobody_may_put_it_off(
    instance: Instance, tree: Path, program: str, browser: httpx.Client
) -> None:
    provision(instance, tree, program, settings=wanted(require2fa=True, graceHours=0))
    assert "Configure it later" not in sign_in(browser).text


def test_a_code_of_the_authenticator_lets_in_once_it_is_set_up(
    instance: Instance, tree: Path, program: str, browser: httpx.Client
) -> None:
    provision(instance, tree, program, settings=wanted(require2fa=True))
    page = sign_in(browser)
    code = present_code(page)
    assert notice(send(browser, page, SET_UP, pin_code=code)) == "You must provide a valid current password."
    wrong = send(browser, page, SET_UP, pin_code="no code", current_password=PASSWORD)
    assert notice(wrong) == "Invalid pin code."
    assert send(browser, page, SET_UP, pin_code=code, current_password=PASSWORD).url.path == "/"

    with httpx.Client(base_url=instance.url, follow_redirects=True) as another:
        assert "Enter verification code" in sign_in(another).text
        used = another.post("/users/sign_in", data={"otp_attempt": code})
        assert (used.status_code, notice(used)) == (422, "Invalid two-factor code.")
        assert another.get("/").url.path == "/users/sign_in"
        another.post("/users/sign_in", data={"otp_attempt": present_code(page, later=1)})
        assert another.get("/").url.path == "/"


def test_tokens_work_without_one_and_passwords_of_git_and_docker_until_the_grace_period_ends(
    instance: Instance, tree: Path, program: str, browser: httpx.Client
) -> None:
    provision(instance, tree, program, settings=wanted(require2fa=True))
    sign_in(browser)

    def docker_login(secret: str) -> int:
        url = f"{instance.url}/jwt/auth?service=container_registry&account=root"
        return httpx.get(url, auth=("root", secret)).status_code

    assert docker_login(PASSWORD) == 200
    instance.execute("UPDATE users SET otp_grace_period_started_at = ?", LONG_AGO)
    assert docker_login(PASSWORD) == 401
    assert docker_login(instance.token) == 200
    assert instance.request("GET", "/user")["username"] == "root"
    # The step itself runs again, too.
    assert provision(instance, tree, program, settings=wanted(require2fa=True)) == (0, "")


def test_a_setting_that_leaves_the_stack_file_gets_the_value_from_before(
    instance: Instance, tree: Path, program: str
) -> None:
    def found() -> tuple[bool, int]:
        given = instance.request("GET", "/application/settings")
        return given["require_two_factor_authentication"], given["two_factor_grace_period"]

    instance.request("PUT", "/application/settings", {"two_factor_grace_period": 12})
    for hours in (24, 0):
        provision(instance, tree, program, settings=wanted(require2fa=True, graceHours=hours))
        assert found() == (True, hours)
    for _ in range(2):
        assert provision(instance, tree, program) == (0, "")
        assert found() == (False, 12)


def test_what_an_administrator_has_set_stays_while_the_stack_file_does_not_mention_it(
    instance: Instance, tree: Path, program: str
) -> None:
    instance.request("PUT", "/application/settings", {"require_two_factor_authentication": True})
    provision(instance, tree, program)
    assert instance.request("GET", "/application/settings")["require_two_factor_authentication"] is True
