"""Runners of the GitLab stand-in: how they are made and found, and which jobs they get."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.exceptions import GitlabCreateError, GitlabDeleteError, GitlabError, GitlabGetError, GitlabHttpError

from tests.sandbox.gitlab.web.core import access
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest, statuses
from tests.sandbox_tests.support.gitlab_runner_client import Runner
from tests.sandbox_tests.support.runner_command import gitlab_runner

ONE = {".gitlab-ci.yml": "job: {script: make}"}
#: A registration token of the right shape that nobody has.
NOBODYS = "GR1348941" + "x" * 20
TAGGED = {".gitlab-ci.yml": "job: {script: make, tags: [docker, linux]}"}


pytestmark = pytest.mark.usefixtures("emptied")


def only(client: gitlab.Gitlab) -> Any:
    [found] = client.runners.list(get_all=True)
    return client.runners.get(found.id)


def member(instance: Instance, level: int, *projects: Any) -> gitlab.Gitlab:
    """A client of a user who has this access to the projects and is no administrator."""
    user_id, client = instance.new_user()
    for project in projects:
        project.members.create({"user_id": user_id, "access_level": level})
    return client


def stuck(instance: Instance, project: Any) -> str:
    """What the page of the newest pipeline says of its job."""
    with httpx.Client(base_url=instance.url, follow_redirects=True) as visitor:
        visitor.post("/users/sign_in", data={"login": "root", "password": PASSWORD})
        return visitor.get(f"/{project.path_with_namespace}/-/pipelines/{newest(project).id}").text


def test_a_runner_is_created_with_a_token_that_is_shown_once(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    made = client.http_post(
        "/user/runners",
        post_data={
            "runner_type": "project_type",
            "project_id": project.id,
            "description": "docker-builder",
            "locked": True,
            "tag_list": "linux,docker",
            "run_untagged": True,
            "maximum_timeout": 1800,
        },
    )
    assert isinstance(made, dict)
    assert made["token"].startswith("glrt-")
    assert len(made["token"]) >= 25
    assert made["token_expires_at"] is None
    runner = only(client)
    assert "token" not in runner.attributes
    assert (runner.description, runner.locked, runner.run_untagged) == ("docker-builder", True, True)
    assert (runner.tag_list, runner.maximum_timeout, runner.access_level) == (
        ["docker", "linux"],
        1800,
        "not_protected",
    )
    assert (runner.status, runner.online, runner.contacted_at) == ("never_contacted", None, None)
    assert [found["id"] for found in runner.projects] == [project.id]
    assert [found.id for found in project.runners.list(get_all=True)] == [runner.id]


def test_a_runner_is_online_after_its_first_contact_and_lists_its_machines(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    answer = runner.verify()
    assert (answer.status_code, answer.json()["token"]) == (200, runner.token)
    shown = only(client)
    assert (shown.status, shown.online, shown.version) == ("online", True, "19.3.0")
    assert shown.contacted_at is not None
    Runner(client.url, runner.token, "s_second").verify()
    machines = client.http_list(f"/runners/{shown.id}/managers", get_all=True)
    assert {found["system_id"] for found in machines} == {"s_0123456789ab", "s_second"}
    body = {"token": runner.token, "system_id": "s_second"}
    assert httpx.request("DELETE", f"{client.url}/api/v4/runners/managers", json=body).status_code == 204
    assert len(client.http_list(f"/runners/{shown.id}/managers", get_all=True)) == 1
    assert runner.verify().status_code == 200


def test_a_wrong_token_and_that_of_a_removed_runner_are_forbidden(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    for path in ("runners/verify", "jobs/request"):
        answer = Runner(client.url, "glrt-" + "x" * 20).post(path)
        assert (answer.status_code, answer.json()) == (403, {"message": "403 Forbidden"})
    client.runners.delete(only(client).id)
    assert runner.post("jobs/request").status_code == 403


def test_a_runner_token_is_not_accepted_as_a_user_token(client: gitlab.Gitlab) -> None:
    runner = make_runner(client, make_project(client))
    headers = {"PRIVATE-TOKEN": runner.token}
    body = {"token": runner.token, "system_id": "s_1"}
    assert httpx.post(f"{client.url}/api/v4/runners/verify", json=body, headers=headers).status_code == 200


def allow_registration(client: gitlab.Gitlab, **more: Any) -> None:
    client.settings.update(new_data={"allow_runner_registration_token": True, **more})


@pytest.fixture
def registering(client: gitlab.Gitlab) -> Iterator[gitlab.Gitlab]:
    """A client of an instance that lets runners register themselves."""
    allow_registration(client)
    yield client
    off = {"allow_runner_registration_token": False, "valid_runner_registrars": ["project", "group"]}
    client.settings.update(new_data=off)


def register(client: gitlab.Gitlab, **parameters: Any) -> httpx.Response:
    return httpx.post(f"{client.url}/api/v4/runners", json=parameters)


def test_registration_tokens_do_not_work_until_the_settings_allow_them(client: gitlab.Gitlab) -> None:
    answer = register(client, token=NOBODYS)
    assert (answer.status_code, answer.json()["message"]) == (410, "410 Gone - runner registration disallowed")
    assert register(client).status_code == 400
    project = client.projects.get(make_project(client).id)
    assert project.runners_token is None
    with pytest.raises(GitlabHttpError, match="403"):
        client.http_post(f"/projects/{project.id}/runners/reset_registration_token")


def test_a_runner_registers_itself_for_a_project_a_group_or_the_instance(registering: gitlab.Gitlab) -> None:
    project = registering.projects.get(make_project(registering).id)
    group = registering.groups.create({"name": "Old", "path": "old"})
    instance = registering.http_post("/runners/reset_registration_token")
    assert isinstance(instance, dict)
    kinds = {
        "project_type": project.runners_token,
        "group_type": registering.groups.get(group.id).runners_token,
        "instance_type": instance["token"],
    }
    for kind, token in kinds.items():
        answer = register(registering, token=token, description=kind, tag_list="old", run_untagged=False)
        assert answer.status_code == 201
        made = answer.json()
        assert made["token"].startswith("glrtr-")
        runner = registering.runners.get(made["id"])
        assert (runner.runner_type, runner.description, runner.tag_list) == (kind, kind, ["old"])
        assert (runner.locked, runner.run_untagged) == (False, False)
        assert Runner(registering.url, made["token"]).verify().status_code == 200
    assert kinds["project_type"].startswith("GR1348941")
    assert [found.description for found in project.runners.list(get_all=True)] == ["project_type"]
    group.delete()


def test_a_runner_that_registered_itself_does_the_jobs_of_its_project(registering: gitlab.Gitlab) -> None:
    project = registering.projects.get(make_project(registering).id)
    made = register(registering, token=project.runners_token).json()
    commit(project, ONE)
    assert Runner(registering.url, made["token"]).drain() == ["job"]
    gone = httpx.request("DELETE", f"{registering.url}/api/v4/runners", json={"token": made["token"]})
    assert gone.status_code == 204
    assert registering.runners.list(get_all=True) == []


def test_gitlab_runner_registers_with_a_registration_token(registering: gitlab.Gitlab, tmp_path: Path) -> None:
    project = registering.projects.get(make_project(registering).id)
    file = tmp_path / "config.toml"
    words = ("register", "--non-interactive", "--config", file, "--url", registering.url, "--executor", "docker")
    more = ("--docker-image", "docker:29", "--description", "old way", "--tag-list", "a,b")
    refused = gitlab_runner(*words, *more, "--registration-token", NOBODYS)
    assert refused.returncode != 0
    assert "forbidden (check registration token)" in refused.stderr
    done = gitlab_runner(*words, *more, "--registration-token", project.runners_token)
    assert done.returncode == 0
    runner = only(registering)
    assert (runner.description, runner.tag_list, runner.locked) == ("old way", ["a", "b"], True)
    [kept] = tomllib.loads(file.read_text())["runners"]
    assert kept["token"].startswith("glrtr-")
    assert kept["id"] == runner.id
    assert Runner(registering.url, kept["token"]).verify().status_code == 200
    assert gitlab_runner("unregister", "--config", file, "--all-runners").returncode == 0
    assert registering.runners.list(get_all=True) == []


def test_a_registration_token_that_was_reset_is_forbidden_like_an_unknown_one(registering: gitlab.Gitlab) -> None:
    project = registering.projects.get(make_project(registering).id)
    fresh = registering.http_post(f"/projects/{project.id}/runners/reset_registration_token")
    assert isinstance(fresh, dict)
    assert fresh["token_expires_at"] is None
    for token, status in ((project.runners_token, 403), (NOBODYS, 403), (fresh["token"], 201)):
        assert register(registering, token=token).status_code == status
    assert registering.projects.get(project.id).runners_token == fresh["token"]
    answer = register(registering, token=project.runners_token)
    assert answer.json()["message"] == "403 Forbidden - invalid token supplied"


def test_only_the_registrars_in_the_settings_can_register_runners(registering: gitlab.Gitlab) -> None:
    project = registering.projects.get(make_project(registering).id)
    allow_registration(registering, valid_runner_registrars=["group"])
    assert register(registering, token=project.runners_token).status_code == 403
    allow_registration(registering, valid_runner_registrars=["project"])
    assert register(registering, token=project.runners_token).status_code == 201


def test_a_registration_without_tags_that_runs_no_untagged_jobs_is_refused(registering: gitlab.Gitlab) -> None:
    project = registering.projects.get(make_project(registering).id)
    answer = register(registering, token=project.runners_token, run_untagged=False)
    assert answer.status_code == 400
    assert "tags_list" in answer.json()["message"]


def test_only_maintainers_see_and_reset_a_registration_token(instance: Instance, registering: gitlab.Gitlab) -> None:
    project = make_project(registering)
    hers = member(instance, access.DEVELOPER, project)
    assert "runners_token" not in hers.projects.get(project.id).attributes
    for path in (f"/projects/{project.id}/runners", "/runners"):
        with pytest.raises(GitlabHttpError, match="403"):
            hers.http_post(f"{path}/reset_registration_token")


def test_a_runner_works_only_for_its_projects_and_a_locked_one_gets_no_others(
    instance: Instance, client: gitlab.Gitlab
) -> None:
    mine, other = make_project(client), make_project(client, "other")
    runner = make_runner(client, mine, locked=True)
    commit(other, ONE)
    assert runner.request() is None
    maintainer = member(instance, access.MAINTAINER, mine, other)
    with pytest.raises(GitlabCreateError, match="Runner is locked"):
        maintainer.projects.get(other.id).runners.create({"runner_id": only(client).id})
    client.runners.update(only(client).id, {"locked": False})
    maintainer.projects.get(other.id).runners.create({"runner_id": only(client).id})
    assert runner.take().payload["job_info"]["project_name"] == "other"
    other.runners.delete(only(client).id)
    client.runners.update(only(client).id, {"locked": True})
    # An administrator may do what the lock keeps from others.
    other.runners.create({"runner_id": only(client).id})
    with pytest.raises(GitlabDeleteError, match="Runner is locked"):
        maintainer.projects.get(other.id).runners.delete(only(client).id)
    other.runners.delete(only(client).id)
    with pytest.raises(GitlabDeleteError, match="Only one project"):
        mine.runners.delete(only(client).id)


def test_with_shared_runners_off_a_job_waits_and_says_why(client: gitlab.Gitlab, instance: Instance) -> None:
    made = client.http_post("/user/runners", post_data={"runner_type": "instance_type", "description": "shared"})
    assert isinstance(made, dict)
    shared = Runner(client.url, made["token"])
    closed, free = make_project(client), make_project(client, "free", shared_runners_enabled=True)
    commit(closed, ONE)
    assert shared.request() is None
    text = stuck(instance, closed)
    assert "the project doesn&#39;t have any runners assigned to it" in text
    assert "Shared runners are turned off for this project" in text
    assert statuses(newest(closed)) == {"job": "pending"}
    commit(free, ONE)
    assert shared.take().payload["job_info"]["project_name"] == "free"


def test_the_tags_of_jobs_and_runners_must_match(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    some = make_runner(client, project, tag_list=["docker"], run_untagged=True)
    commit(project, TAGGED)
    assert some.request() is None
    assert "does not have the tags: linux" in stuck(instance, project)
    every = make_runner(client, project, tag_list=["docker", "linux", "big"], run_untagged=False)
    assert every.take().name == "job"
    commit(project, ONE)
    assert every.request() is None
    assert some.take().name == "job"


def test_a_runner_that_could_run_nothing_cannot_be_created(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    with pytest.raises(GitlabHttpError, match="can not be empty"):
        client.http_post(
            "/user/runners",
            post_data={"runner_type": "project_type", "project_id": project.id, "run_untagged": False},
        )


def test_a_runner_for_protected_refs_does_not_run_jobs_of_other_branches(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project, access_level="ref_protected")
    commit(project, ONE, branch="feature")
    assert runner.request() is None
    commit(project, ONE)
    assert runner.take().payload["git_info"]["ref"] == "main"


def test_a_paused_runner_gets_no_jobs(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, ONE)
    client.runners.update(only(client).id, {"paused": True})
    assert runner.request() is None
    assert "it is paused" in stuck(instance, project)
    client.runners.update(only(client).id, {"paused": False})
    assert runner.take().name == "job"


def test_two_runners_that_ask_at_once_never_get_the_same_job(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runners = [make_runner(client, project), make_runner(client, project)]
    names = [f"job {number}" for number in range(8)]
    commit(project, {".gitlab-ci.yml": "\n".join(f"{name}: {{script: make}}" for name in names)})
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda number: runners[number % 2].request(), range(8)))
    assert sorted(job.name for job in jobs if job is not None) == names


def test_only_maintainers_manage_runners(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    make_runner(client, project)
    client.users.create({"username": "dev", "name": "D", "email": "dev@example.com", "password": "pQ4-wmd-Ksj-19"})
    stranger = instance.client(instance.new_token(["api"], username="dev"))
    assert stranger.runners.list(get_all=True) == []
    with pytest.raises(GitlabGetError):
        stranger.runners.get(only(client).id)
    with pytest.raises(GitlabError):
        make_runner(stranger, project)
    with pytest.raises(GitlabHttpError):
        stranger.http_get("/runners/all")


def test_a_token_for_creating_runners_can_do_nothing_else(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    maker = instance.client(instance.new_token(["create_runner"]))
    assert make_runner(maker, project).verify().status_code == 200
    with pytest.raises(GitlabError):
        maker.runners.list(get_all=True)
