"""Sign-in through LDAP: the program's `gitlab.rb`, the stand-in, and OpenLDAP's server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.sandbox_tests.support.gitlab_instance import Instance, running
from tests.sandbox_tests.support.gitlab_rb import evaluated, handed_on
from tests.sandbox_tests.support.ports import free_port
from tests.sandbox_tests.support.waiting import eventually

HERE = Path(__file__).parent
SECRET = "the-password-of-gitlab"  # noqa: S105 - of a directory that lives as long as a test
DENIED = 'Could not authenticate you from Ldapmain because "Invalid credentials for {}".'


@dataclass(frozen=True)
class World:
    """GitLab and a directory with two people, a developer and a guest."""

    gitlab: Instance
    folder: Path
    tls_port: int
    port: int

    def settle(self, folder: Path, *, trusted: bool = True, new_users: str = "active", **ldap: Any) -> None:
        """Apply a section `signIn` of a stack file with this directory in it."""
        authority = (self.folder / "authority.pem").read_text()
        given = {
            "host": "127.0.0.1",
            "port": self.tls_port,
            "bindDn": "cn=gitlab,dc=example,dc=com",
            "password": SECRET,
            "base": "ou=people,dc=example,dc=com",
            "caCertificate": authority,
        }
        made = handed_on(folder, {"newUsers": new_users, "ldap": {**given, **ldap}}, "ldap")
        assert made.returncode == 0, made.stderr
        other = trustme.CA().cert_pem.bytes().decode()
        (folder / "slipway-ldap.crt").write_text(authority if trusted else other)
        self.gitlab.config.ldap.clear()
        self.gitlab.config.ldap.update(json.loads(made.stdout))

    def sign_in(self, name: str, password: str = "") -> httpx.Response:
        """What a person sees who fills in the form of the directory."""
        with httpx.Client(base_url=self.gitlab.url, follow_redirects=True, timeout=20) as browser:
            page = browser.get("/users/sign_in")
            assert 'action="/users/auth/ldapmain/callback"' in page.text
            form = {"username": name, "password": password or f"the-password-of-{name}"}
            return browser.post("/users/auth/ldapmain/callback", data=form)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("directory")
    tls_port, port = free_port(), free_port()
    _prepare(folder)
    urls = f"ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls_port}"
    # `-d` keeps it in the foreground.
    command: list[str | Path] = [folder / "slapd", "-f", folder / "slapd.conf", "-h", urls, "-d", "0"]
    with running(tmp_path_factory.mktemp("gitlab")) as gitlab, subprocess.Popen(command) as process:
        try:
            eventually(lambda: process.poll() is not None or (folder / "slapd.pid").exists(), 30)
            assert process.poll() is None, "the directory ended"
            yield World(gitlab, folder, tls_port, port)
        finally:
            process.terminate()


def _prepare(folder: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    (folder / "data").mkdir()
    (folder / "slapd.conf").write_text((HERE / "slapd.conf").read_text().replace("FOLDER", str(folder)))
    # Where AppArmor is on, Debian's profile keeps the program at its own path from every other folder.
    shutil.copy("/usr/sbin/slapd", folder / "slapd")
    command: list[str | Path] = [
        folder / "slapd",
        "-T",
        "add",
        "-f",
        folder / "slapd.conf",
        "-l",
        HERE / "directory.ldif",
    ]
    subprocess.run(command, check=True, capture_output=True)


def alert(page: httpx.Response) -> str:
    """The notice on a page of GitLab."""
    [found] = re.findall(r'role="alert">([^<]*)<', page.text)
    return unescape(found)


@pytest.mark.parametrize("encryption", ["simple_tls", "start_tls"])
def test_a_person_of_the_directory_signs_in_with_its_password(world: World, tmp_path: Path, encryption: str) -> None:
    world.settle(tmp_path, encryption=encryption, port=world.tls_port if encryption == "simple_tls" else world.port)
    page = world.sign_in("ada")
    assert page.status_code == 200
    assert "/users/sign_out" in page.text
    [ada] = world.gitlab.request("GET", "/users?username=ada")
    assert (ada["name"], ada["email"], ada["is_admin"]) == ("Ada of the directory", "ada@example.com", False)


def test_by_default_an_administrator_approves_new_people_first(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path, new_users="approval")
    page = world.sign_in("grace")
    assert (page.status_code, alert(page)[:33]) == (403, "Your account is pending approval ")
    [grace] = world.gitlab.request("GET", "/users?username=grace")
    world.gitlab.request("POST", f"/users/{grace['id']}/approve")
    assert world.sign_in("grace").status_code == 200


@pytest.mark.parametrize(
    ("name", "password", "ldap"),
    [
        ("ada", "wrong", {}),
        ("nobody", "any", {}),
        ("grace", "", {"userFilter": "(employeeType=developer)"}),
        ("ada", "", {"base": "ou=others,dc=example,dc=com"}),
        # A name is no part of the filter.
        ("ad*", "the-password-of-ada", {}),
        ("ada", "", {"password": "not-the-password-of-gitlab"}),
        ("ada", "", {"uid": "sAMAccountName"}),
        ("ada", "", {"bindDn": "cn=other,dc=example,dc=com"}),
    ],
)
def test_whoever_the_directory_does_not_let_in_learns_no_more_than_that(
    world: World, tmp_path: Path, name: str, password: str, ldap: dict[str, Any]
) -> None:
    world.settle(tmp_path, **ldap)
    page = world.sign_in(name, password)
    assert (page.status_code, alert(page)) == (422, DENIED.format(name))


def test_a_filter_lets_in_those_who_match(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path, userFilter="(&(employeeType=developer)(!(uid=grace)))")
    assert world.sign_in("ada").status_code == 200


@pytest.mark.parametrize("encryption", ["simple_tls", "start_tls"])
def test_a_certificate_of_an_authority_that_is_not_trusted_ends_it_before_a_password_is_sent(
    world: World, tmp_path: Path, encryption: str
) -> None:
    port = world.tls_port if encryption == "simple_tls" else world.port
    world.settle(tmp_path, trusted=False, encryption=encryption, port=port)
    found = alert(world.sign_in("ada"))
    assert found.startswith('Could not authenticate you from Ldapmain because "Ssl connect returned=1 errno=0 ')
    assert "certificate verify failed" in found


def test_a_directory_that_wants_encryption_gets_no_password_in_plain_text(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path, encryption="start_tls", port=world.port)
    world.gitlab.config.ldap["servers"]["main"]["encryption"] = "plain"
    assert alert(world.sign_in("ada")) == DENIED.format("ada")


def test_git_and_docker_take_the_password_of_the_directory(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path)
    world.sign_in("ada")
    url = f"{world.gitlab.url}/jwt/auth?service=container_registry&account=ada"
    assert httpx.get(url, auth=("ada", "the-password-of-ada")).status_code == 200
    assert httpx.get(url, auth=("ada", "wrong")).status_code == 401


def test_an_account_with_the_same_address_belongs_to_the_person_of_the_directory(world: World, tmp_path: Path) -> None:
    """GitLab has no setting for that; the recipe says so."""
    world.gitlab.execute("DELETE FROM identities")
    world.gitlab.execute("DELETE FROM users WHERE username = 'ada'")
    world.gitlab.new_user("lovelace")
    world.gitlab.execute("UPDATE users SET email = 'ada@example.com' WHERE username = 'lovelace'")
    world.settle(tmp_path)
    assert ">lovelace<" in world.sign_in("ada").text


def test_without_the_section_the_sign_in_page_has_no_form_of_a_directory(world: World, tmp_path: Path) -> None:
    made = handed_on(tmp_path, {}, "ldap")
    assert json.loads(made.stdout) == {"servers": {}}
    world.gitlab.config.ldap.clear()
    assert "ldapmain" not in httpx.get(f"{world.gitlab.url}/users/sign_in").text
    assert httpx.post(f"{world.gitlab.url}/users/auth/ldapmain/callback").status_code == 404


def test_another_word_for_the_encryption_is_refused_by_the_package(tmp_path: Path) -> None:
    handed_on(tmp_path, {"ldap": {"host": "ldap.example.com", "base": "dc=example,dc=com"}}, "ldap")
    text = (tmp_path / "gitlab.rb").read_text()
    (tmp_path / "gitlab.rb").write_text(text.replace("'simple_tls'", "'ssl'"))
    assert "unknown encryption" in evaluated(tmp_path, "ldap").stderr
