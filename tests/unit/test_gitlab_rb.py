"""Lines of gitlab.rb in a stack file: what is accepted, where errors are, and where secrets go."""

from __future__ import annotations

import json

import pytest

from components.settings import SettingsError, load
from components.settings.gitlab_rb import errors_of, used_secrets
from tests.unit.engine import REQUIRED, as_config, project_defaults, run_program
from tests.unit.test_nasty_stack_files import shell

#: As GitLab's documentation has it, with the secret in its place.
OIDC = """\
gitlab_rails['omniauth_allow_single_sign_on'] = ['openid_connect']
gitlab_rails['omniauth_providers'] = [
  {
    name: "openid_connect", # do not change this parameter
    label: "Provider name",
    args: {
      name: "openid_connect",
      scope: ["openid", "profile", "email"],
      issuer: "https://sso.example.com",
      discovery: true,
      client_auth_method: "query",
      send_scope_to_token_endpoint: "false",
      client_options: {
        identifier: "gitlab",
        secret: secrets['IMAP'],
        redirect_uri: "https://gitlab.example.com/users/auth/openid_connect/callback"
      }
    }
  }
]
"""
LDAP = """\
gitlab_rails['ldap_enabled'] = true
gitlab_rails['ldap_servers'] = {
  'main' => {
    'label' => 'LDAP',
    'host' => 'ldap.example.com',
    'port' => 636,
    'uid' => 'sAMAccountName',
    'bind_dn' => 'CN=GitLab,OU=Users,DC=example,DC=com',
    'password' => secrets['IMAP'],
    'encryption' => 'simple_tls',
    'base' => 'DC=example,DC=com',
  }
}
"""
LINES = """\
# Appearance
gitlab_rails['gitlab_default_theme'] = 2
gitlab_rails['incoming_email_password'] = secrets['IMAP']
"""


@pytest.mark.parametrize(
    "lines",
    [
        LINES,
        OIDC,
        LDAP,
        "gitlab_rails['nginx']['client_max_body_size'] = '1g'",
        "nginx['worker_processes'] = 4 # registry['enable'] = false",
        "puma['worker_processes'] = 3; sidekiq['concurrency'] = 5",
        "gitlab_rails['env'] = { 'HTTPS_PROXY' => \"http://proxy.example.com:3128\" }",
        "gitlab_rails['gitlab_signup_enabled'] = ENV.key?('X') ? true : false",
        "gitlab_rails['rack_attack_git_basic_auth'] = {\n  'enabled' => true,\n  'maxretry' => 10,\n}",
        "gitlab_rails['x'] = 'registry[\\'enable\\'] = false'",
        "gitlab_rails['x'] = <<~'EOS'\n  letsencrypt['enable'] = false\nEOS\npuma['port'] = 8090",
        "gitlab_rails['x'] = { registry: 'a', 'user' => 'b', password_authentication_enabled: false }",
        "gitlab_pages['certificate_key'] = '/etc/gitlab/ssl/pages.key'\npages_external_url 'https://pages.example.com'",
        "gitlab_rails['x'] = YAML.load <<-EOS\n  main:\n    password: #{secrets['IMAP']}\n  EOS",
        "user['git_user_email'] = 'git@example.com'",
    ],
)
def test_lines_that_touch_nothing_of_the_stack_are_accepted(lines: str) -> None:
    assert list(errors_of(lines, frozenset({"IMAP"}))) == []


def test_an_error_names_its_line_whatever_is_above_it() -> None:
    above = "# a comment\n\nx = <<~EOS\n  text 'quoted\nEOS\ny = 'two\nlines'\n"
    [line] = errors_of(f"{above}registry['enable'] = false", frozenset())
    assert line.startswith("line 8: registry['enable'] is the stack's own; ")


def test_all_errors_are_reported_in_the_order_of_the_lines() -> None:
    lines = "gitlab_rails['backup_path'] = '/x'\nexternal_url 'https://x'\nexit"
    assert [line.split(":")[0] for line in errors_of(lines, frozenset())] == ["line 1", "line 2", "line 3"]


def test_secrets_are_found_wherever_they_are_used() -> None:
    assert used_secrets("a = secrets['A']\nb = \"x#{secrets[\"B\"]}\"\n# secrets['C']\nd = 'secrets'") == {"A", "B"}


def test_encrypting_all_lines_is_refused_because_the_state_has_them_in_plain_text() -> None:
    with pytest.raises(SettingsError, match=r"gitlab\.extraConfiguration: is encrypted as a whole"):
        load(
            "slipway",
            "test",
            as_config({**project_defaults(), **REQUIRED, "gitlab": {"extraConfiguration": "puma['port'] = 8090"}}),
            ["slipway:gitlab"],
            stack_file={"gitlab": {"extraConfiguration": {"secure": "v1:example"}}},
        )


def test_the_machine_gets_the_lines_at_the_end_and_the_secrets_in_a_file_of_their_own() -> None:
    engine = run_program(gitlab={"extraConfiguration": LINES, "extraSecrets": {"IMAP": 'it\'s "so" ünsafe'}})
    sent = shell(engine, "gitlab-configuration")
    assert sent["GITLAB_RB"].endswith(f"# gitlab.extraConfiguration of the stack file.\n{LINES}")
    before, _, after = sent["GITLAB_RB"].partition("from_file '/etc/gitlab/registry.rb'\n")
    assert "secrets = JSON.parse(File.read('/etc/gitlab/slipway-secrets.json'))\n" in before
    assert LINES in after
    assert json.loads(sent["SECRETS_JSON"]) == {"IMAP": 'it\'s "so" ünsafe'}


def test_without_lines_the_file_is_what_it_was_before() -> None:
    sent = shell(run_program(), "gitlab-configuration")
    assert sent["GITLAB_RB"].endswith("from_file '/etc/gitlab/registry.rb'\n")
    assert sent["SECRETS_JSON"] == ""
