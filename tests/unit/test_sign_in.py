"""Sign-in with providers of OpenID Connect: what is refused, what GitLab gets, and the recipe."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

from components.settings import Settings, SettingsError, load
from tests.unit.engine import ENCRYPTED, REQUIRED, ROOT, as_config, project_defaults, run_program

RECIPE = (ROOT / "docs/recipes/sign-in.md").read_text()
SECOND_FACTOR = (ROOT / "docs/recipes/second-factor.md").read_text()
SECRET = "the-client-secret"  # noqa: S105 - of a test


def provider(**more: Any) -> dict[str, Any]:
    """A provider of a stack file."""
    return {"issuer": "https://login.example.com", "clientId": "gitlab", "clientSecret": SECRET, **more}


def errors(sign_in: dict[str, Any], encrypted: list[str] = ENCRYPTED, **changes: Any) -> list[str]:
    """What is wrong with a stack file that has this section."""
    config = as_config({**project_defaults(), **REQUIRED, "signIn": sign_in, **changes})
    try:
        load("slipway", "test", config, encrypted)
    except SettingsError as error:
        return error.errors
    return []


def gitlab_rb(sign_in: dict[str, Any]) -> str:
    """The step that configures GitLab, secrets included."""
    return run_program(signIn=sign_in).script("gitlab-configuration")


@pytest.mark.parametrize(
    ("sign_in", "message"),
    [
        ({"oidc": [provider(), provider()]}, "signIn.oidc: has two providers named openid_connect; "),
        ({"graceHours": 12}, "signIn.graceHours: is set, but signIn.require2fa is not true; nobody would be asked "),
        ({"newUsers": "active"}, "signIn.newUsers: is set without signIn.oidc or signIn.ldap; it would have "),
        ({"oidc": [provider(scopes=["email"])]}, "signIn.oidc[0].scopes: has no openid; the provider would say "),
        ({"oidc": [provider(name="saml")]}, "signIn.oidc[0].name: is not a name for a provider, or GitLab has "),
        ({"oidc": [provider(issuer="http://login.example.com")]}, "signIn.oidc[0].issuer: is not the issuer of a "),
    ],
)
def test_a_section_that_would_let_nobody_in_is_refused(sign_in: dict[str, Any], message: str) -> None:
    [line] = errors(sign_in)
    assert line.startswith(message)


def test_a_client_secret_in_plain_text_is_refused_and_not_shown() -> None:
    [line] = errors({"oidc": [provider()]}, [one for one in ENCRYPTED if one != "slipway:signIn"])
    assert line.startswith("signIn.oidc[0].clientSecret: is in plain text in the stack file; ")
    assert SECRET not in line


def test_a_line_of_gitlab_rb_that_would_override_the_section_is_refused() -> None:
    line = "gitlab_rails['omniauth_allow_single_sign_on'] = false"
    [found] = errors({"oidc": [provider()]}, gitlab={"extraConfiguration": line})
    assert found.startswith("gitlab.extraConfiguration: sets omniauth_allow_single_sign_on, and so does signIn.oidc; ")
    assert errors({}, gitlab={"extraConfiguration": line}) == []


def test_the_last_slash_of_an_issuer_stays() -> None:
    assert "'issuer' => 'https://acme.auth0.com/'" in gitlab_rb_of(provider(issuer="https://acme.auth0.com/"))


def gitlab_rb_of(*providers: dict[str, Any]) -> str:
    """The lines of `gitlab.rb` as Ruby has them: the step quotes them for bash."""
    [text] = re.findall(r"^GITLAB_RB=(.*?)\n[A-Z_]+=", gitlab_rb({"oidc": list(providers)}), re.DOTALL | re.MULTILINE)
    [words] = [shlex.split(text)]
    return words[0]


def test_the_secret_is_in_the_file_of_secrets_alone() -> None:
    sign_in = {"oidc": [provider()]}
    assert SECRET not in gitlab_rb_of(provider())
    assert "secrets['signIn.openid_connect']" in gitlab_rb_of(provider())
    assert f'"signIn.openid_connect": "{SECRET}"' in gitlab_rb(sign_in)


@pytest.mark.parametrize(
    ("new_users", "created", "blocked"),
    [("approval", "['openid_connect']", "true"), ("active", "['openid_connect']", "false"), ("none", "[]", "true")],
)
def test_new_people_get_the_account_that_the_stack_file_says(new_users: str, created: str, blocked: str) -> None:
    text = gitlab_rb({"oidc": [provider()], "newUsers": new_users}).replace("'\"'\"'", "'")
    assert f"gitlab_rails['omniauth_allow_single_sign_on'] = {created}\n" in text
    assert f"gitlab_rails['omniauth_block_auto_created_users'] = {blocked}\n" in text


def test_without_the_section_gitlab_is_told_nothing_of_sign_in() -> None:
    assert "omniauth" not in run_program().script("gitlab-configuration")


@pytest.mark.parametrize(
    ("sign_in", "given"),
    [
        ({}, {}),
        ({"require2fa": False}, {}),
        ({"require2fa": True}, {"require_two_factor_authentication": True, "two_factor_grace_period": 48}),
        (
            {"require2fa": True, "graceHours": 0},
            {"require_two_factor_authentication": True, "two_factor_grace_period": 0},
        ),
    ],
)
def test_gitlab_keeps_a_rule_for_second_factors_only_if_the_stack_file_has_one(
    sign_in: dict[str, Any], given: dict[str, Any]
) -> None:
    shown = run_program(signIn=sign_in).named("gitlab-api-token-rendered").inputs
    assert json.loads(shown["APPLICATION_SETTINGS"]) == given


def test_the_commands_of_the_recipe_for_a_second_factor_make_a_section() -> None:
    commands = re.findall(r"^pulumi config set --path signIn\.(\w+) (\w+)$", SECOND_FACTOR, re.MULTILINE)
    settings = Settings.model_validate({**REQUIRED, "signIn": dict(commands)})
    assert settings.sign_in.application_settings["two_factor_grace_period"] == 72


def test_the_callbacks_that_providers_have_to_allow_are_an_output() -> None:
    exports = run_program(signIn={"oidc": [provider(), provider(name="keycloak")]}).exports
    base = "https://gitlab.example.test/users/auth"
    assert exports["sign_in_callbacks"] == {
        "openid_connect": f"{base}/openid_connect/callback",
        "keycloak": f"{base}/keycloak/callback",
    }
    assert run_program().exports.get("sign_in_callbacks") is None


def test_the_commands_of_the_recipe_make_a_section_with_the_redirect_uri_of_the_recipe() -> None:
    entry: dict[str, Any] = {}
    for line in re.findall(r"^pulumi config set (.+)$", RECIPE, re.MULTILINE):
        words = [word for word in shlex.split(line) if not word.startswith("--")]
        path, value = words if len(words) == 2 else (*words, SECRET)
        entry[path.removeprefix("signIn.oidc[0].")] = value
    settings = Settings.model_validate({**REQUIRED, "domain": "example.com", "signIn": {"oidc": [entry]}})
    [callback] = settings.sign_in_callbacks().values()
    assert re.findall(r"^```text\n(.+)\n```$", RECIPE, re.MULTILINE) == [callback]
    assert re.findall(r"^.*clientSecret.*$", RECIPE, re.MULTILINE) == [
        "pulumi config set --secret --path 'signIn.oidc[0].clientSecret'"
    ]
