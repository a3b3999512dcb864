"""Limits of `gitlab.limits`: the program's own script, whom they refuse, and whom they leave alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from gitlab.exceptions import GitlabUploadError

from components.settings import Settings
from tests.sandbox_tests.gitlab.test_provisioning import program, provision
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance
from tests.sandbox_tests.support.gitlab_projects import make_project

__all__ = ["program"]

pytestmark = pytest.mark.new_instance

#: So long that no test sees two of them.
LONG = 10**7


def wanted(**limits: int) -> dict[str, Any]:
    """What the step gets for a section `gitlab.limits` of a stack file."""
    given = {"domain": "example.com", "adminCidrs": ["203.0.113.7/32"], "gitlab": {"limits": limits}}
    return Settings.model_validate(given).application_settings


@pytest.fixture
def apply(instance: Instance, tree: Path, program: str) -> Any:
    """Applies a section; a test need not send as many requests as a stack file may allow at least."""

    def applied(fewer: int = 0, **limits: int) -> None:
        found = wanted(**limits)
        few = {name: fewer for name in found if fewer and name.endswith("requests_per_period")}
        long = {name: LONG for name in found if name.endswith("period_in_seconds")}
        assert provision(instance, tree, program, settings=json.dumps({**found, **few, **long})) == (0, "")

    return applied


def statuses(instance: Instance, path: str, count: int, **how: Any) -> list[int]:
    """What GitLab answers to a number of requests."""
    with httpx.Client(base_url=instance.url, **how) as client:
        return [client.get(path).status_code for _ in range(count)]


@pytest.mark.parametrize(("path", "answer"), [("/users/sign_in", 200), ("/api/v4/projects", 200)])
def test_an_address_that_has_not_signed_in_is_refused_after_as_many_requests(
    instance: Instance, apply: Any, path: str, answer: int
) -> None:
    apply(fewer=4, anonymousRequests=120)
    assert statuses(instance, path, 5) == [answer] * 4 + [429]
    refused = httpx.get(f"{instance.url}{path}")
    assert (refused.text, refused.headers["ratelimit-remaining"]) == ("Retry later\n", "0")
    assert 0 < int(refused.headers["retry-after"]) <= LONG
    # Neither a user nor a check of the machine is the address.
    assert instance.request("GET", "/user")["username"] == "root"
    assert httpx.get(f"{instance.url}/-/health").status_code == 200


def test_a_user_is_refused_after_as_many_requests_and_nobody_else(instance: Instance, apply: Any) -> None:
    _, other = instance.new_user("other")
    apply(fewer=4, userRequests=600)
    headers = {"private-token": instance.token}
    assert statuses(instance, "/api/v4/user", 5, headers=headers) == [200] * 4 + [429]
    other.auth()
    assert statuses(instance, "/users/sign_in", 9) == [200] * 9


def test_git_runners_and_health_checks_do_not_count(instance: Instance, apply: Any, tmp_path: Path) -> None:
    project = make_project(instance.client())
    apply(fewer=1, anonymousRequests=120, userRequests=600)
    address = instance.url.replace("//", f"//root:{PASSWORD}@")
    for number in range(3):
        url = f"{address}/{project.path_with_namespace}.git"
        subprocess.run(["git", "clone", "-q", url, tmp_path / str(number)], check=True, capture_output=True)
        asked = httpx.post(f"{instance.url}/api/v4/jobs/request", json={"token": "no-such-runner"})
        assert asked.status_code == 403
        assert httpx.get(f"{instance.url}/-/readiness").status_code != 429


def test_a_push_that_is_too_large_is_refused_by_git(instance: Instance, apply: Any, tmp_path: Path) -> None:
    project = make_project(instance.client())
    url = f"{instance.url.replace('//', f'//root:{PASSWORD}@')}/{project.path_with_namespace}.git"
    apply(push=1)
    subprocess.run(["git", "clone", "-q", url, tmp_path / "clone"], check=True, capture_output=True)

    def push(size: int) -> subprocess.CompletedProcess[str]:
        (tmp_path / "clone/file").write_bytes(os.urandom(size))
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        for command in (("add", "file"), (*identity, "commit", "-qm", "a file")):
            subprocess.run(["git", *command], cwd=tmp_path / "clone", check=True, capture_output=True)
        return subprocess.run(
            ["git", "push", "origin", "HEAD"], cwd=tmp_path / "clone", check=False, capture_output=True, text=True
        )

    assert push(1000).returncode == 0
    refused = push(2**21)
    assert refused.returncode != 0
    assert "unpack" in refused.stderr
    apply()
    assert push(1000).returncode == 0


def test_an_attachment_that_is_too_large_is_refused_before_it_is_kept(instance: Instance, apply: Any) -> None:
    project = make_project(instance.client())
    apply(attachment=1)
    kept = project.upload("notes.txt", filedata="x" * 2**20)
    assert kept["markdown"] == f"[notes.txt]({kept['url']})"
    with pytest.raises(GitlabUploadError) as refused:
        project.upload("video.mp4", filedata=bytes(2**20 + 1))
    assert (refused.value.response_code, refused.value.response_body) == (413, b"Request Entity Too Large\n")
    listed = instance.request("GET", f"/projects/{project.id}/uploads")
    assert [(one["filename"], one["size"]) for one in listed] == [("notes.txt", 2**20)]
    apply()
    assert project.upload("screen.png", filedata=bytes(2**20 + 1))["markdown"].startswith("![screen](/uploads/")


def test_limits_that_leave_the_stack_file_are_gone(instance: Instance, apply: Any) -> None:
    apply()
    before = instance.request("GET", "/application/settings")
    apply(anonymousRequests=120, userRequests=600, push=50, attachment=20)
    given = instance.request("GET", "/application/settings")
    assert (given["receive_max_input_size"], given["max_attachment_size"]) == (50, 20)
    assert given["throttle_authenticated_web_enabled"] is True
    apply()
    assert instance.request("GET", "/application/settings") == before


def test_without_the_section_nobody_is_refused(instance: Instance) -> None:
    assert wanted() == {}
    assert statuses(instance, "/users/sign_in", 150) == [200] * 150
