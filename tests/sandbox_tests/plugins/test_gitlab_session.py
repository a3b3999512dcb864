"""How the provider `gitlab` asks the API, and what it says when that fails."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pulumi_gitlab
import pytest
import trustme

from tests.sandbox.gitlab.web.faults import Fault
from tests.sandbox.plugins.base.framework import PartlyMadeError, PluginError
from tests.sandbox.plugins.gitlab.names import camel
from tests.sandbox.plugins.gitlab.session import ApiError, Session
from tests.sandbox.plugins.provider_gitlab import GitLab
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_resources import create_project, driver_of, invoke
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver


def test_every_input_exists_in_the_sdk() -> None:
    for resource in GitLab().resources:
        kind = resource.full_name.rpartition(":")[2]
        arguments = vars(getattr(pulumi_gitlab, f"{kind}Args"))
        known = {camel(name) for name, value in arguments.items() if isinstance(value, property)}
        assert resource.inputs.keys() - known == set(), kind


@pytest.mark.parametrize(
    "identifier", ["BranchProtection=1", "ProjectVariable=1:KEY", "RepositoryFile=1:main", "ProjectDeployToken=:1"]
)
def test_an_id_of_the_wrong_form_is_reported_with_the_right_one(driver: ResourceDriver, identifier: str) -> None:
    kind, _, wrong = identifier.partition("=")
    with pytest.raises(PluginError, match=r"the ID must be <project>:<"):
        driver.read(kind, wrong)


def test_functions_return_what_exists(driver: ResourceDriver) -> None:
    project, state = create_project(driver)
    group, _ = driver.create("Group", name="Asked", path="asked")
    assert invoke(driver, "getCurrentUser")["username"] == "root"
    assert invoke(driver, "getProject", pathWithNamespace=state["pathWithNamespace"])["id"] == project
    assert invoke(driver, "getProject", id=project)["webUrl"] == state["webUrl"]
    assert invoke(driver, "getGroup", fullPath="asked")["groupId"] == int(group)
    found = invoke(driver, "getGroups", search="ask", sort="asc")["groups"]
    assert [(one["fullPath"], one["groupId"]) for one in found] == [("asked", int(group))]
    assert invoke(driver, "getGroups", search="nobody-asked")["groups"] == []
    assert invoke(driver, "getMetadata")["enterprise"] is False


def test_a_function_that_finds_nothing_says_so(driver: ResourceDriver) -> None:
    with pytest.raises(PluginError, match="project no/where was not found"):
        invoke(driver, "getProject", pathWithNamespace="no/where")
    with pytest.raises(PluginError, match="exactly one of groupId and fullPath"):
        invoke(driver, "getGroup")


def test_an_error_of_the_api_is_shown_without_the_token(instance: Instance) -> None:
    wrong = "glpat-" + "z" * 20
    with pytest.raises(ApiError, match="401") as failure:
        create_project(driver_of(instance, token=wrong))
    assert wrong not in str(failure.value)


def test_the_token_is_checked_before_the_first_request_unless_disabled(instance: Instance) -> None:
    for early, asked in ((True, "GET /user"), (False, "GET /metadata")):
        driver = driver_of(instance, token="glpat-" + "z" * 20, earlyAuthCheck=early)
        with pytest.raises(ApiError, match=rf"^{asked}: 401"):
            invoke(driver, "getMetadata")


def test_an_unreachable_api_is_reported_with_the_request(instance: Instance) -> None:
    driver = driver_of(instance, baseUrl="http://127.0.0.1:1/api/v4/", retries=0)
    with pytest.raises(PluginError, match="GET /user: ") as failure:
        invoke(driver, "getMetadata")
    assert instance.token not in str(failure.value)


@contextmanager
def answering(*statuses: int, certificate: trustme.LeafCert | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server that gives one answer after the other; its address, and the methods of the requests that came."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(statuses[len(asked)])
            asked.append(self.command)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = answer  # noqa: N815 - the names are the base class's

        def log_message(self, *_: object) -> None:
            """Nothing: the test looks at `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/api/v4/", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_rate_limited_request_is_retried(method: str) -> None:
    with answering(429, 429, 200) as (address, asked):
        session = Session({"token": "t", "baseUrl": address, "earlyAuthCheck": False})
        assert session.request(method, "/anything") == {}
    assert asked == [method.upper()] * 3


def test_after_an_error_of_the_server_every_request_is_retried_as_often_as_configured() -> None:
    with answering(502, 503, 200, 500, 200, 502, 503) as (address, asked):
        session = Session({"token": "t", "baseUrl": address, "earlyAuthCheck": False, "retries": 2})
        assert session.get("/anything") == {}
        assert session.post("/anything", {"name": "x"}) == {}
        session = Session({"token": "t", "baseUrl": address, "earlyAuthCheck": False, "retries": 1})
        with pytest.raises(ApiError, match="POST /anything: 503"):
            session.post("/anything", {"name": "x"})
    assert asked == ["GET"] * 3 + ["POST"] * 4


def test_a_request_whose_connection_was_cut_is_not_retried(driver: ResourceDriver, instance: Instance) -> None:
    instance.faults.add(Fault("/api/v4/projects", method="POST", drop=True, after=True))
    with pytest.raises(PluginError, match="POST /projects: no answer"):
        create_project(driver, name="lost-answer")
    assert "lost-answer" in {one["path"] for one in instance.request("GET", "/projects")}


def test_a_runner_that_cannot_be_read_back_is_recorded_with_its_secret_token(
    driver: ResourceDriver, instance: Instance
) -> None:
    project, _ = create_project(driver)
    instance.faults.add(Fault("/api/v4/runners/*", method="GET", drop=True))
    with pytest.raises(PartlyMadeError) as failure:
        driver.create("UserRunner", runnerType="project_type", projectId=int(project))
    assert failure.value.outputs["token"].startswith("glrt-")
    assert "token" in driver.resource("UserRunner").secret_outputs
    assert driver.read("UserRunner", failure.value.identifier) is not None


def test_a_private_authority_is_trusted_only_if_its_file_is_given(tmp_path: Path) -> None:
    own, other = trustme.CA(), trustme.CA()
    own.cert_pem.write_to_path(str(tmp_path / "own.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    config = {"token": "t", "earlyAuthCheck": False, "retries": 0}
    with answering(200, certificate=own.issue_cert("127.0.0.1")) as (address, asked):
        for file, words in (("", "verify failed"), ("other.pem", "verify failed"), ("no.pem", "no such file")):
            given = {"cacertFile": str(tmp_path / file)} if file else {}
            with pytest.raises(PluginError, match=words):
                Session({**config, "baseUrl": address, **given}).get("/anything")
        assert asked == []
        assert Session({**config, "baseUrl": address, "cacertFile": str(tmp_path / "own.pem")}).get("/anything") == {}


def test_missing_configuration_is_an_error_only_once_the_api_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITLAB_TOKEN", raising=False)
    with pytest.raises(PluginError, match="no API token"):
        GitLab().configure({"baseUrl": "http://127.0.0.1:1/api/v4/"}).get("/user")
    with pytest.raises(PluginError, match="baseUrl: expected the address of an API"):
        GitLab().configure({"token": "t", "baseUrl": "gitlab.example.com"}).get("/user")


def test_token_and_url_can_come_from_the_environment(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_TOKEN", instance.token)
    monkeypatch.setenv("GITLAB_BASE_URL", f"{instance.url}/api/v4/")
    assert GitLab().configure({}).get("/user")["username"] == "root"
