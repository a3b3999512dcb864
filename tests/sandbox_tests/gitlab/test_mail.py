"""Mail of the stand-in, by the library that GitLab sends with, to a mail server that insists on TLS and a login."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.gitlab import gitlab_rb
from components.rendering import script
from components.settings import Settings
from tests.moments import clock_variables
from tests.sandbox.cloud import mail
from tests.sandbox.cloud.authority import Authority
from tests.sandbox.gitlab.build import PACKAGE
from tests.sandbox.gitlab.web.core.config import Config
from tests.sandbox_tests.support.gitlab_instance import write_config

COOKBOOKS = PACKAGE / "opt/gitlab/embedded/cookbooks"
INITIALIZER = Path(__file__).parent / "smtp_settings.rb"
#: The names that a stack file has, and the test instead of them.
HOST, HERE = "smtp.example.com", "localhost"


@dataclass(frozen=True)
class Service:
    """A mail service on this machine, whose certificate only its own authority vouches for."""

    folder: Path
    authority: Authority
    starttls: int
    tls: int

    def received(self) -> list[dict[str, str]]:
        """What it has taken."""
        return mail.received(self.folder)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("mail")
    authority = Authority(folder / "ca")
    certificate, key = authority.issue("mail", [HERE])
    ports: list[int] = []
    ready, loop, done = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        serving = mail.serving(folder / "mail", certificate, key, "127.0.0.1", starttls=(0,), tls=(0,))
        async with serving as found:
            ports.extend(found)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    yield Service(folder / "mail", authority, *ports)
    loop.call_soon_threadsafe(done.set)
    thread.join(20)
    loop.close()


def initializer(folder: Path, service: Service, smtp: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """What the package makes of the program's own gitlab.rb."""
    section = {"address": HOST, "port": service.starttls, "from": "gitlab@example.com", **smtp}
    settings = Settings.model_validate({"domain": "example.com", "adminCidrs": ["203.0.113.7/32"], "smtp": section})
    text = gitlab_rb("gitlab.example.com", settings).replace(HOST, HERE)
    text = text.replace("/etc/gitlab/ssl/slipway-smtp.crt", str(service.authority.certificate_file))
    for name, content in (("registry.rb", ""), ("slipway-secrets.json", secrets(settings))):
        (folder / name).write_text(content)
        text = text.replace(f"/etc/gitlab/{name}", str(folder / name))
    (folder / "gitlab.rb").write_text(text)
    return subprocess.run(
        ["ruby", INITIALIZER, COOKBOOKS, folder / "gitlab.rb"], capture_output=True, text=True, check=False
    )


def secrets(settings: Settings) -> str:
    password = settings.smtp.password if settings.smtp else None
    return json.dumps({"smtp.password": password.get_secret_value()} if password else {})


def send(folder: Path, tree: Path, service: Service, **smtp: Any) -> subprocess.CompletedProcess[str]:
    """Send the test mail of `make verify`, with these settings of the section `smtp`."""
    made = initializer(folder, service, smtp)
    assert made.returncode == 0, made.stderr
    bundle = made.stdout.replace("/opt/gitlab/embedded/ssl/certs/cacert.pem", "/etc/ssl/certs/ca-certificates.crt")
    (folder / "smtp_settings.rb").write_text(bundle)
    email = {"enabled": True, "from": "gitlab@example.com", "display_name": "GitLab", "reply_to": "gitlab@example.com"}
    (folder / "gitlab.json").write_text(json.dumps({"email": email}))
    return subprocess.run(
        [
            "ruby",
            tree / "opt/gitlab/embedded/rails/runner.rb",
            "runner",
            "-",
            "ops@example.com",
            "Test mail",
            "<p>It works.</p>",
        ],
        input=script("send-test-mail.rb"),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "GITLAB_RAILS_CONFIG": str(folder), **clock_variables()},
    )


def trusted(service: Service) -> dict[str, str]:
    """A login that is right, and the authority of the server."""
    root = service.authority.certificate_file.read_text()
    return {"userName": mail.USER, "password": mail.PASSWORD, "caCertificate": root}


@pytest.mark.parametrize("authentication", ["plain", "login"])
def test_a_mail_is_taken_over_tls_with_a_login(
    tmp_path: Path, tree: Path, service: Service, authentication: str
) -> None:
    sent = send(tmp_path, tree, service, **trusted(service), authentication=authentication)
    assert (sent.returncode, sent.stderr) == (0, "")
    last = service.received()[-1]
    assert last["X-RcptTo"] == "ops@example.com"
    assert (last["From"], last["Subject"]) == ("GitLab <gitlab@example.com>", "Test mail")
    assert (last["X-Authenticated"], last["body"].strip()) == (mail.USER, "<p>It works.</p>")


def test_a_mail_is_taken_where_tls_begins_at_once(tmp_path: Path, tree: Path, service: Service) -> None:
    sent = send(tmp_path, tree, service, **trusted(service), port=service.tls, security="tls")
    assert (sent.returncode, sent.stderr) == (0, "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": "SG.wrong"}, r"Net::SMTPAuthenticationError: 535 5\.7\.8"),
        ({"caCertificate": None}, r"OpenSSL::SSL::SSLError: .*certificate verify failed"),
        ({"userName": None, "password": None}, r"Net::SMTP\w+: 530 5\.7\.0 Authentication required"),
        ({"port": 1}, r"Errno::ECONNREFUSED: "),
    ],
)
def test_a_server_that_takes_no_mail_is_named_with_the_reason(
    tmp_path: Path, tree: Path, service: Service, changes: dict[str, Any], reason: str
) -> None:
    before = len(service.received())
    sent = send(tmp_path, tree, service, **{**trusted(service), **changes})
    assert sent.returncode == 1
    assert len(service.received()) == before
    [line] = sent.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(reason, line), line
    assert mail.PASSWORD not in sent.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gitlab_rails['smtp_authentication'] = 'xoauth2'", 'is set to an unrecognized value: "xoauth2"'),
        ("gitlab_rails['smtp_tls'] = true", "are mutually exclusive. Set one of them to false"),
    ],
)
def test_settings_that_cannot_work_are_refused_as_the_package_does(tmp_path: Path, line: str, words: str) -> None:
    text = "external_url 'https://gitlab.example.com'\ngitlab_rails['smtp_enable'] = true\n"
    (tmp_path / "gitlab.rb").write_text(f"{text}gitlab_rails['smtp_enable_starttls_auto'] = true\n{line}\n")
    made = subprocess.run(
        ["ruby", INITIALIZER, COOKBOOKS, tmp_path / "gitlab.rb"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 3
    assert words in made.stderr


def test_the_application_does_not_start_in_a_time_zone_that_there_is_not(tmp_path: Path) -> None:
    write_config(tmp_path, "https://gitlab.example.com", "http://127.0.0.1:1")
    file = tmp_path / "gitlab.json"
    for zone, words in (("Europe/Berlin", None), ("Europe/Berln", "Invalid Timezone: Europe/Berln")):
        file.write_text(json.dumps({**json.loads(file.read_text()), "time_zone": zone}))
        if words is None:
            assert Config.load(tmp_path, tmp_path / "version").time_zone == zone
        else:
            with pytest.raises(ValueError, match=words):
                Config.load(tmp_path, tmp_path / "version")
