"""Every tool trusts what the stack trusts: a private authority, beside those of the machine that it runs on."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from components.gitlab_leftovers import GitLabApi
from components.package_repository import fetch
from components.rendering import script
from components.trust import bundle, trust
from tests.certificates import authority, root
from tests.unit.engine import ROOT, run_program
from tests.unit.test_down import resource
from tools import api_token, browse, status_parts, verify
from tools.answers import Health, Question
from tools.ci_note import Job
from tools.clients import CheckError, Outputs, objects_in, stored
from tools.drift_gitlab import gitlab_settings
from tools.state import StackState
from tools.trust import trusted_file

TOKEN: Final = "glpat-of-a-test"  # noqa: S105 - of no GitLab
LISTING: Final = "<ListBucketResult><Contents><Key>a</Key><Size>7</Size></Contents></ListBucketResult>"


class Service(BaseHTTPRequestHandler):
    """Plays GitLab, its registry and a bucket, at one address."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found: dict[str, tuple[int, Any]] = {
            "/users/sign_in": (200, ""),
            "/v2/": (401, ""),
            "/api/v4/user": (200, {"id": 1, "username": "root", "is_admin": True}),
            "/api/v4/version": (200, {"version": "19.3.0", "revision": "x"}),
            "/api/v4/application/settings": (200, {"signup_enabled": False}),
            "/images": (200, LISTING),
        }
        status, body = found.get(path, (404, ""))
        text = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if isinstance(body, dict) else "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of an installation on this machine whose certificate a private authority has issued."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(params=[True, False], ids=["trusted", "not-trusted"])
def is_trusted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the stack has the private authority. Neither the machine nor any library has it."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    return bool(request.param)


@pytest.fixture
def outputs(port: int, is_trusted: bool) -> Outputs:
    values: dict[str, Any] = {
        "gitlab_url": f"https://localhost:{port}",
        "gitlab_api_token": TOKEN,
        "registry": f"localhost:{port}",
        "registry_storage": {
            **{"bucket": "images", "endpoint": f"https://localhost:{port}", "region": "r"},
            **{"access_key": "A", "secret_key": "S"},
        },
        "server_address": "127.0.0.1",
    }
    return Outputs({**values, "ca_certificate": root()} if is_trusted else values)


def state(outputs: Outputs, **provider: str) -> StackState:
    stack = resource("pulumi:pulumi:Stack", "slipway-test", "", outputs=outputs.values)
    gitlab = resource("pulumi:providers:gitlab", "gitlab", "1", inputs=provider)
    return StackState("test", {"deployment": {"resources": [stack, gitlab]}})


def test_the_questions_of_status_verify_the_certificates_of_the_stack(outputs: Outputs, is_trusted: bool) -> None:
    question = Question(state(outputs), outputs, 20)
    for part in (status_parts.gitlab_answers, status_parts.registry_answers):
        found = part(question)
        assert (found.health is Health.HEALTHY) == is_trusted, found.text
        assert ("certificate verify failed" in found.text.lower()) != is_trusted, found.text


def test_the_days_of_a_certificate_are_read_if_it_is_trusted(port: int, outputs: Outputs, is_trusted: bool) -> None:
    if is_trusted:
        assert verify.certificate_of("localhost", port, outputs.trust()).days > 1
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            verify.certificate_of("localhost", port, outputs.trust())


def test_the_check_of_gitlab_verifies_the_page_and_the_api(outputs: Outputs, is_trusted: bool) -> None:
    if is_trusted:
        assert verify.gitlab_is_ready(outputs) == "sign-in page: 200; API: version 19.3.0, as root"
    else:
        with pytest.raises(CheckError, match="CERTIFICATE_VERIFY_FAILED"):
            verify.gitlab_is_ready(outputs)


def test_a_bucket_behind_the_stacks_authority_is_listed(outputs: Outputs, is_trusted: bool) -> None:
    if is_trusted:
        assert str(stored(outputs)) == "0 blobs, 0.0 MiB in bucket images"
    else:
        assert outputs.storage
        with pytest.raises(Exception, match="SSL validation failed"):
            list(objects_in(outputs.storage))


def test_drift_and_the_renewal_of_the_token_ask_gitlab(port: int, outputs: Outputs, is_trusted: bool) -> None:
    url = f"https://localhost:{port}/api/v4/"
    status = api_token._accepts(url, TOKEN, state(outputs).ca_certificate)
    assert (status == "200") == is_trusted, status
    # It is asked at its address, and not where its name leads to.
    local = Outputs({**outputs.values, "gitlab_url": "https://localhost", "server_address": f"127.0.0.1:{port}"})
    if is_trusted:
        assert gitlab_settings(state(outputs), local) == []
    else:
        with pytest.raises(CheckError, match="does not answer"):
            gitlab_settings(state(outputs), local)


def test_a_job_and_the_program_itself_ask_gitlab(port: int, outputs: Outputs, is_trusted: bool, tmp_path: Path) -> None:
    url, file = f"https://localhost:{port}", tmp_path / "ca.pem"
    file.write_text(root())
    names = ("CI_PROJECT_ID", "CI_MERGE_REQUEST_IID", "CI_PIPELINE_ID", "CI_COMMIT_SHA", "CI_JOB_URL", "NOTES_TOKEN")
    environment = dict.fromkeys(names, "1") | {"CI_API_V4_URL": f"{url}/api/v4"}
    job = Job.here(environment | ({"CI_SERVER_TLS_CA_FILE": str(file)} if is_trusted else {}))
    assert job.ca_certificate == outputs.ca_certificate
    api = GitLabApi(url, TOKEN, outputs.ca_certificate)
    if is_trusted:
        assert api.get("/version")["version"] == "19.3.0"
        assert fetch(f"{url}/images", outputs.ca_certificate).decode() == LISTING
    else:
        with pytest.raises(RuntimeError, match="CERTIFICATE_VERIFY_FAILED"):
            api.get("/version")
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(f"{url}/images", outputs.ca_certificate)


def test_a_browser_does_not_trust_what_only_the_stack_trusts(outputs: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ssl.SSLContext] = []

    def certificate_of(_: str, __: int, context: ssl.SSLContext, ___: float) -> verify.Certificate:
        asked.append(context)
        raise ssl.SSLCertVerificationError("self-signed certificate in certificate chain")

    monkeypatch.setattr(browse, "certificate_of", certificate_of)
    assert "pulumi stack output ca_certificate prints it" in browse.trust(outputs)
    assert ssl.PEM_cert_to_DER_cert(root()) not in asked[0].get_ca_certs(binary_form=True)


def test_the_authorities_of_a_stack_are_an_output_and_a_stack_without_any_has_none() -> None:
    assert run_program(certificate={"caCertificate": root()}).exports["ca_certificate"] == root()
    staging = run_program(certificate={"acmeStaging": True}).exports["ca_certificate"]
    assert staging.count("-----BEGIN CERTIFICATE-----") == script("letsencrypt-staging-roots.pem").count("-----BEGIN")
    assert run_program().exports.get("ca_certificate") is None


def test_before_the_output_the_file_of_the_provider_is_used_if_it_is_here(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    bare = Outputs({})
    assert state(bare, cacertFile=str(file)).ca_certificate is None
    file.write_text(root())
    assert state(bare, cacertFile=str(file)).ca_certificate == root()
    assert state(bare).ca_certificate is None


def test_the_machines_authorities_stay_trusted_beside_the_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = {*ssl.create_default_context().get_ca_certs(binary_form=True)}
    found = trust(root()).get_ca_certs(binary_form=True)
    assert {*found} == machine | {ssl.PEM_cert_to_DER_cert(root())}
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/the/users/own.pem")
    assert trusted_file(None, "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE") == "/the/users/own.pem"
    file = Path(trusted_file(root(), "REQUESTS_CA_BUNDLE"))
    assert file.is_relative_to(ROOT / ".cache")
    assert {*ssl.create_default_context(cafile=str(file)).get_ca_certs(binary_form=True)} == {*found}


def test_a_python_that_trusts_nothing_gets_the_authorities_of_the_protocol_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    assert len(trust().get_ca_certs()) > 50


def test_a_python_that_trusts_something_gets_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = trustme.CA()
    own.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    assert len(trust().get_ca_certs()) == 1


def test_a_machine_that_has_its_authorities_in_a_folder_has_them_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = trustme.CA()
    own.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "README").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert own.cert_pem.bytes().decode().strip() in bundle(root())
    assert root().strip() in bundle(root())


def test_no_tool_and_no_component_opens_a_connection_with_other_authorities() -> None:
    """Contexts are made in one module, and no client is left to what its library brings along."""
    sources = {file: file.read_text() for folder in ("tools", "components") for file in (ROOT / folder).rglob("*.py")}
    making = {file.name: text for file, text in sources.items() if "create_default_context" in text}
    # A cluster has an authority of its own, and trust in others would be too much. The other one runs on the server.
    assert making.keys() == {"trust.py", "pod_logs.py", "keys.py"}
    [call] = making["pod_logs.py"].split("create_default_context(")[1:]
    assert call.startswith("cadata=")
    for file, text in sources.items():
        for client in ("httpx.get(", "httpx.Client(", "gitlab.Gitlab(", '"s3",'):
            for call in text.split(client)[1:]:
                assert "verify=" in call[:300] or "ssl_verify=" in call[:300], f"{file}: {client}"
        # Runs by itself, without the project's modules: Python's own default, which reads SSL_CERT_FILE.
        if file.name != "credential.py":
            for call in text.split("urlopen(")[1:]:
                assert "context=" in call[:100], file
