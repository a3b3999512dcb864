"""The step that configures GitLab, on a machine whose commands are played: what stays after a failure."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
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
    reconfigure) ! grep -q broken "$ROOT/etc/gitlab/gitlab.rb" ;;
    hup) matches && cp "$SSL/$FQDN.crt" "$ROOT/loaded"; true ;;
  esac
}
matches() { [ "$(openssl x509 -noout -pubkey <"$SSL/$FQDN.crt")" = "$(openssl pkey -pubout <"$SSL/$FQDN.key")" ]; }
served_fingerprint() { [ ! -e "$ROOT/loaded" ] || fingerprint <"$ROOT/loaded"; }
curl() {
  [ ! -e "$ROOT/rejected" ] || { echo "curl: (60) certificate has expired"; return 60; }
  [ ! -e "$ROOT/starting" ] || { echo "curl: (22) 502"; return 22; }
}
"""


@dataclass(frozen=True)
class Server:
    """The files of one machine."""

    root: Path

    def configure(
        self, certificate: dict[str, str], gitlab_rb: str = "good", ca_certificate: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run the step with a provided certificate."""
        values = {
            "ADDRESS": "192.0.2.1",
            "CA_CERTIFICATE": ca_certificate,
            "CERTIFICATE_CHAIN": certificate["chain"],
            "CERTIFICATE_KEY": certificate["privateKey"],
            "CERTIFICATE_SOURCE": "provided",
            "FQDN": FQDN,
            "GITLAB_RB": f"external_url 'https://{FQDN}' # {gitlab_rb}",
            "LIMIT_SECONDS": "9",
            "ROOT": str(self.root),
        }
        assigned = "\n".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
        step = script("gitlab.sh") + script("configure-gitlab.sh")
        for folder in ("/etc/gitlab", "/usr/local/share/ca-certificates", "/var/log"):
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
