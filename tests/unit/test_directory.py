"""Sign-in through an LDAP directory: what is refused, what GitLab gets, and the recipe."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from components.settings import Settings
from tests.unit.engine import ENCRYPTED, REQUIRED, ROOT, run_program
from tests.unit.test_sign_in import errors

RECIPE = (ROOT / "docs/recipes/ldap.md").read_text()
SECRET = "the-ldap-password"  # noqa: S105 - of a test
NAME = "cn=gitlab,ou=services,dc=example,dc=com"


def ldap(**more: Any) -> dict[str, Any]:
    """A directory of a stack file."""
    given = {"host": "ldap.example.com", "base": "ou=people,dc=example,dc=com", "bindDn": NAME, "password": SECRET}
    return {key: value for key, value in {**given, **more}.items() if value is not None}


def lines(sign_in: dict[str, Any]) -> dict[str, str]:
    """What gitlab.rb has of a directory, by key, as Ruby has it: the step quotes it for bash."""
    sent = run_program(signIn=sign_in).script("gitlab-configuration")
    [text] = re.findall(r"^GITLAB_RB=(.*?)\n[A-Z_]+=", sent, re.DOTALL | re.MULTILINE)
    [words] = [shlex.split(text)]
    assert SECRET not in words[0]
    _, found, section = words[0].partition("gitlab_rails['ldap_servers']")
    return dict(re.findall(r"^    '(\w+)' => (.+?),?$", section.partition("\n}\n")[0], re.MULTILINE)) if found else {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ldap(password=None), "signIn.ldap.bindDn: is set without a password; the directory would reject GitLab. "),
        (ldap(bindDn=None), "signIn.ldap.password: is set without bindDn; GitLab would not use it. "),
        (ldap(port=389), "signIn.ldap.port: is 389, where directories do not speak simple_tls; GitLab would wait "),
        (ldap(port=636, encryption="plain"), "signIn.ldap.port: is 636, where directories do not speak plain; "),
        (ldap(userFilter="(a=b"), "signIn.ldap.userFilter: is not a filter of LDAP; nobody could sign in. "),
        (ldap(host="ldaps://ldap.example.com"), "signIn.ldap.host: is not the name of a host; GitLab could not "),
    ],
)
def test_a_directory_that_would_let_nobody_in_is_refused(given: dict[str, Any], message: str) -> None:
    [line] = errors({"ldap": given})
    assert line.startswith(message)


def test_strangers_of_a_directory_can_be_kept_waiting_but_not_without_an_account() -> None:
    [line] = errors({"ldap": ldap(), "newUsers": "none"})
    assert line.startswith("signIn.newUsers: is none, but GitLab creates an account for everybody who can sign in ")
    assert lines({"ldap": ldap()})["block_auto_created_users"] == "true"
    assert lines({"ldap": ldap(), "newUsers": "active"})["block_auto_created_users"] == "false"


def test_a_password_in_plain_text_is_refused_and_not_shown() -> None:
    [line] = errors({"ldap": ldap()}, [one for one in ENCRYPTED if one != "slipway:signIn"])
    assert line.startswith("signIn.ldap.password: is in plain text in the stack file; ")
    assert SECRET not in line


@pytest.mark.parametrize("key", ["ldap_servers", "ldap_enabled", "prevent_ldap_sign_in"])
def test_a_line_of_gitlab_rb_that_would_override_the_section_is_refused(key: str) -> None:
    line = f"gitlab_rails['{key}'] = false"
    [found] = errors({"ldap": ldap()}, gitlab={"extraConfiguration": line})
    assert found.startswith(f"gitlab.extraConfiguration: sets {key}, and so does signIn.ldap; ")
    assert errors({}, gitlab={"extraConfiguration": line}) == []


def test_the_connection_is_encrypted_and_verified_unless_the_stack_file_says_otherwise() -> None:
    found = lines({"ldap": ldap()})
    assert (found["encryption"], found["port"], found["verify_certificates"]) == ("'simple_tls'", "636", "true")
    assert "tls_options" not in found
    assert lines({"ldap": ldap(encryption="start_tls")})["port"] == "389"
    assert lines({"ldap": ldap(port=10636)})["port"] == "10636"


def test_the_password_is_in_the_file_of_secrets_alone() -> None:
    assert lines({"ldap": ldap()}).get("password") == "secrets['signIn.ldap']"
    assert f'"signIn.ldap": "{SECRET}"' in run_program(signIn={"ldap": ldap()}).script("gitlab-configuration")
    assert not {"bind_dn", "password"} & lines({"ldap": ldap(bindDn=None, password=None)}).keys()


def test_without_the_section_gitlab_is_told_nothing_of_a_directory() -> None:
    script = run_program().script("gitlab-configuration")
    assert "ldap_" not in script
    assert "LDAP_CA_CERTIFICATE=''" in script


def test_the_commands_of_the_recipe_make_a_section() -> None:
    entry: dict[str, Any] = {}
    for line in re.findall(r"^pulumi config set (.+)$", RECIPE, re.MULTILINE):
        words = [word for word in shlex.split(line) if not word.startswith("--")]
        path, value = words if len(words) == 2 else (*words, SECRET)
        entry[path.removeprefix("signIn.ldap.")] = value
    settings = Settings.model_validate({**REQUIRED, "signIn": {"ldap": entry}})
    assert settings.sign_in.secrets == {"signIn.ldap": SECRET}
    assert re.findall(r"^.*ldap\.password.*$", RECIPE, re.MULTILINE) == [
        "pulumi config set --secret --path signIn.ldap.password"
    ]
