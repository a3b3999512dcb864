"""The step that configures GitLab, on a machine whose commands are played: what stays after a failure."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.rendering import script
from tests.certificates import provided

FQDN = "gitlab.example.test"

#: nginx as it behaves on a reload: a pair that does not match changes nothing. Time passes
#: only while something sleeps.
MACHINE = """
with_heartbeat() { shift; "$@"; }
sleep() { SECONDS=$((SECONDS + ${1%.*})); }
update-ca-certificates() { :; }
gitlab-ctl() {
  echo "$*" >>"$ROOT/commands"
  case "$1" in
    reconfigure)
      grep -q broken "$ROOT/etc/gitlab/gitlab.rb" || return 0
      printf '\\033[31m%s\\033[0m\n\n' "There was an error running gitlab-ctl reconfigure:" \\
        "Reading unsupported config value brokn."
      return 1
      ;;
    hup) matches && cp "$SSL/$FQDN.crt" "$ROOT/loaded"; true ;;
  esac
}
matches() { [ "$(openssl x509 -noout -pubkey <"$SSL/$FQDN.crt")" = "$(openssl pkey -pubout <"$SSL/$FQDN.key")" ]; }
served_fingerprint() { [ ! -e "$ROOT/loaded" ] || fingerprint <"$ROOT/loaded"; }
wait_for_dns() { :; }
curl() {
  [[ $* != */directory ]] || { echo "curl: (28) Connection timed out"; return 28; }
  [ ! -e "$ROOT/rejected" ] || { echo "curl: (60) certificate has expired"; return 60; }
  [ ! -e "$ROOT/starting" ] || { echo "curl: (22) 502"; return 22; }
}
"""


@dataclass(frozen=True)
class Server:
    """The files of one machine."""

    root: Path

    def configure(
        self,
        certificate: dict[str, str],
        *,
        gitlab_rb: str = "good",
        ca_certificate: str = "",
        source: str = "provided",
        secrets: str = "",
        smtp_ca: str = "",
        ldap_ca: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run the step with a provided certificate, unless its source is another one."""
        values = {
            "ADDRESS": "192.0.2.1",
            "CA_CERTIFICATE": ca_certificate,
            "CERTIFICATE_CHAIN": certificate["chain"],
            "CERTIFICATE_KEY": certificate["privateKey"],
            "CERTIFICATE_SOURCE": source,
            "FQDN": FQDN,
            "GITLAB_RB": f"external_url 'https://{FQDN}' # {gitlab_rb}",
            "LDAP_CA_CERTIFICATE": ldap_ca,
            "LIMIT_SECONDS": "9",
            "ROOT": str(self.root),
            "OBJECT_BUCKETS": "",
            "DATABASE_HOST": "",
            "DATABASE_STORAGE_MIB": "",
            "KEYS_PROGRAM": "",
            "USES_DATABASE": "no",
            "USES_VALKEY": "no",
            "VALKEY_CA": "",
            "VALKEY_HOST": "",
            "VALKEY_PASSWORD": "",
            "VALKEY_PORT": "",
            "S3_ACCESS_KEY": "",
            "S3_ENDPOINT": "",
            "S3_REGION": "",
            "S3_SECRET_KEY": "",
            "SECRETS_JSON": secrets,
            "SMTP_CA_CERTIFICATE": smtp_ca,
            "USES_OBJECTS": "no",
        }
        assigned = "\n".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
        step = script("gitlab.sh") + script("database.sh") + script("move-databases.sh") + script("configure-gitlab.sh")
        for folder in ("/etc/gitlab", "/usr/local/share/ca-certificates", "/var/log", "/var/opt/gitlab"):
            step = step.replace(folder, f"{self.root}{folder}")
        text = "\n".join([script("prelude.sh"), assigned, step, MACHINE, "main </dev/null"])
        return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)

    def file(self, path: str) -> str:
        """The content of a file, without the line break at its end."""
        return (self.root / path).read_text().rstrip("\n")

    @property
    def certificate(self) -> tuple[str, str]:
        """The certificate that is on disk, and the one that nginx serves."""
        return self.file(f"etc/gitlab/ssl/{FQDN}.crt"), self.file("loaded")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    for folder in ("etc/gitlab", "usr/local/share/ca-certificates", "var/log/gitlab/nginx"):
        (tmp_path / folder).mkdir(parents=True)
    return Server(tmp_path)


def test_a_renewed_certificate_is_written_and_served(server: Server) -> None:
    for certificate in (provided(), provided()):
        done = server.configure(certificate)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "gitlab: ready")
        assert set(server.certificate) == {certificate["chain"].rstrip("\n")}


def test_a_certificate_that_nginx_does_not_serve_fails_the_step_and_the_previous_pair_is_put_back(
    server: Server,
) -> None:
    good = provided()
    server.configure(good)
    (server.root / "var/log/gitlab/nginx/current").write_text("[emerg] key values mismatch\n")
    done = server.configure({**provided(), "privateKey": good["privateKey"]})
    assert done.returncode == 1
    assert "error: nginx does not serve the certificate" in done.stderr
    assert "[emerg] key values mismatch" in done.stderr
    assert set(server.certificate) == {good["chain"].rstrip("\n")}
    assert server.file(f"etc/gitlab/ssl/{FQDN}.key") == good["privateKey"].rstrip("\n")


def test_a_configuration_that_gitlab_rejects_is_replaced_by_the_last_one_that_worked(server: Server) -> None:
    server.configure(provided())
    done = server.configure(provided(), gitlab_rb="broken")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "gitlab: the previous configuration is in effect"
    assert server.file("etc/gitlab/gitlab.rb").endswith("# good")
    assert server.file("commands").splitlines()[-2:] == ["reconfigure", "hup nginx"]


def test_a_first_configuration_that_fails_stays_for_the_next_run(server: Server) -> None:
    done = server.configure(provided(), gitlab_rb="broken")
    assert done.returncode == 1
    assert "previous" not in done.stderr
    assert server.file("commands").splitlines() == ["reconfigure"]


def test_services_that_a_failed_upgrade_has_stopped_are_started_before_the_configuration(server: Server) -> None:
    server.configure(provided())
    assert "start" not in server.file("commands").splitlines()
    (server.root / "var/opt/gitlab").mkdir(parents=True)
    (server.root / "var/opt/gitlab/bootstrapped").touch()
    before = len(server.file("commands").splitlines())
    server.configure(provided())
    assert server.file("commands").splitlines()[before:][:2] == ["start", "reconfigure"]


def test_a_repeated_failure_with_the_same_files_applies_nothing_twice(server: Server) -> None:
    certificate = provided()
    server.configure(certificate)
    (server.root / "starting").touch()
    before = len(server.file("commands").splitlines())
    done = server.configure(certificate)
    assert "error: GitLab was configured, but is not ready after ten minutes (curl: (22) 502)" in done.stderr
    assert server.file("commands").splitlines()[before:] == ["reconfigure"]


def test_a_certificate_that_the_server_itself_rejects_is_reported_at_once(server: Server) -> None:
    server.configure(provided())
    (server.root / "rejected").touch()
    done = server.configure(provided())
    assert "rejects GitLab's certificate, and so would runners (curl: (60) certificate has expired)" in done.stderr
    assert "waiting until it is ready" not in done.stderr


@pytest.mark.parametrize(
    ("source", "directory"),
    [
        ("lets-encrypt", "https://acme-v02.api.letsencrypt.org/directory"),
        ("https://acme.example.test/directory", "https://acme.example.test/directory"),
    ],
)
def test_an_authority_out_of_reach_is_named_before_gitlab_is_configured(
    server: Server, source: str, directory: str
) -> None:
    done = server.configure(provided(), source=source)
    assert done.returncode == 1
    assert f"error: this machine cannot reach the certificate authority at {directory} (curl: (28)" in done.stderr
    assert not (server.root / "commands").exists()


def test_a_certificate_that_is_due_while_its_authority_is_out_of_reach_stays_in_service(server: Server) -> None:
    due = provided(not_after=datetime.now(UTC) + timedelta(days=29))
    server.configure(due)
    (server.root / "etc/gitlab/ssl/slipway-source").write_text("lets-encrypt\n")
    before = server.file("commands")
    done = server.configure(provided(), gitlab_rb="other", source="lets-encrypt")
    assert done.returncode == 1
    assert "and a certificate is due; nothing was applied" in done.stderr
    assert set(server.certificate) == {due["chain"].rstrip("\n")}
    assert "# good" in server.file("etc/gitlab/gitlab.rb")
    # A configuration would have asked the authority, too, and failed.
    assert server.file("commands") == before


def test_a_certificate_that_is_not_due_needs_no_authority(server: Server) -> None:
    server.configure(provided(not_after=datetime.now(UTC) + timedelta(days=31)))
    (server.root / "etc/gitlab/ssl/slipway-source").write_text("lets-encrypt\n")
    done = server.configure(provided(), gitlab_rb="other", source="lets-encrypt")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "gitlab: ready")


def test_a_private_authority_is_trusted_until_it_leaves_the_settings(server: Server) -> None:
    places = ("etc/gitlab/trusted-certs/slipway.crt", "usr/local/share/ca-certificates/slipway.crt")
    server.configure(provided(), ca_certificate="the root")
    assert [server.file(place) for place in places] == ["the root", "the root"]
    server.configure(provided())
    assert [place for place in places if (server.root / place).exists()] == []


def test_copies_of_keys_are_readable_by_root_alone(server: Server) -> None:
    server.configure(provided())
    copy = server.root / "etc/gitlab/slipway-working"
    assert copy.stat().st_mode & 0o777 == 0o700
    assert list(copy.rglob("*.key"))


def test_the_reason_that_the_package_gives_is_shown(server: Server) -> None:
    done = server.configure(provided(), gitlab_rb="broken")
    assert (
        "There was an error running gitlab-ctl reconfigure:\nReading unsupported config value brokn.\n" in done.stderr
    )


def test_secrets_of_the_configuration_are_for_root_alone_and_leave_with_it(server: Server) -> None:
    server.configure(provided(), secrets='{"IMAP": "example"}')
    file = server.root / "etc/gitlab/slipway-secrets.json"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ('{"IMAP": "example"}\n', 0o600)
    server.configure(provided())
    assert not file.exists()


def test_a_configuration_that_gitlab_rejects_brings_back_the_secrets_of_the_last_one(server: Server) -> None:
    server.configure(provided(), secrets='{"IMAP": "before"}')
    server.configure(provided(), gitlab_rb="broken", secrets='{"IMAP": "after"}')
    assert server.file("etc/gitlab/slipway-secrets.json") == '{"IMAP": "before"}'
    server.configure(provided(), gitlab_rb="broken")
    assert server.file("etc/gitlab/slipway-secrets.json") == '{"IMAP": "before"}'


@pytest.mark.parametrize(("option", "name"), [("smtp_ca", "slipway-smtp.crt"), ("ldap_ca", "slipway-ldap.crt")])
def test_the_authority_of_a_service_is_a_file_of_its_own_that_leaves_with_the_setting(
    server: Server, option: str, name: str
) -> None:
    server.configure(provided(), **{option: "of-the-service"})
    assert server.file(f"etc/gitlab/ssl/{name}") == "of-the-service"
    assert server.configure(provided(), gitlab_rb="broken").returncode == 1
    assert server.file(f"etc/gitlab/ssl/{name}") == "of-the-service"
    server.configure(provided())
    assert not (server.root / f"etc/gitlab/ssl/{name}").exists()
