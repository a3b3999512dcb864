"""Runners of the GitLab stand-in: how they are made and found, and which jobs they get."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.exceptions import GitlabCreateError, GitlabDeleteError, GitlabError, GitlabGetError, GitlabHttpError

from tests.sandbox.gitlab_instance import PASSWORD, Instance, running
from tests.sandbox.gitlab_runner_client import Runner
from tests.sandbox.test_gitlab_ci import commit, make_project, make_runner, newest, statuses

ONE = {".gitlab-ci.yml": "job: {script: make}"}
TAGGED = {".gitlab-ci.yml": "job: {script: make, tags: [docker, linux]}"}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("gitlab")) as found:
        yield found


@pytest.fixture
def client(instance: Instance) -> Iterator[gitlab.Gitlab]:
    found = gitlab.Gitlab(instance.url, private_token=instance.token)
    yield found
    instance.execute("DELETE FROM projects")
    instance.execute("DELETE FROM ci_runners")


def only(client: gitlab.Gitlab) -> Any:
    [found] = client.runners.list(get_all=True)
    return client.runners.get(found.id)


def stuck(instance: Instance, project: Any) -> str:
    """What the page of the newest pipeline says of its job."""
    with httpx.Client(base_url=instance.url, follow_redirects=True) as visitor:
        visitor.post("/users/sign_in", data={"login": "root", "password": PASSWORD})
        return visitor.get(f"/{project.path_with_namespace}/-/pipelines/{newest(project).id}").text


def test_a_runner_is_made_with_a_token_that_is_shown_once(client: gitlab.Gitlab) -> None:
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


def test_a_runner_is_online_once_it_was_heard_of_and_its_machines_come_and_go(client: gitlab.Gitlab) -> None:
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


def test_a_runners_token_where_a_users_would_be_is_not_mistaken_for_one(client: gitlab.Gitlab) -> None:
    runner = make_runner(client, make_project(client))
    headers = {"PRIVATE-TOKEN": runner.token}
    body = {"token": runner.token, "system_id": "s_1"}
    assert httpx.post(f"{client.url}/api/v4/runners/verify", json=body, headers=headers).status_code == 200


def test_the_old_way_to_register_is_refused(client: gitlab.Gitlab) -> None:
    answer = httpx.post(f"{client.url}/api/v4/runners", json={"token": "GR1348941aaaaaaaaaaaaaaaaaaaa"})
    assert answer.status_code == 403
    assert "registration disallowed" in answer.json()["message"]


def test_a_runner_works_only_for_its_projects_and_a_locked_one_gets_no_more(client: gitlab.Gitlab) -> None:
    mine, other = make_project(client), make_project(client, "other")
    runner = make_runner(client, mine, locked=True)
    commit(other, ONE)
    assert runner.request() is None
    with pytest.raises(GitlabCreateError, match="Runner is locked"):
        other.runners.create({"runner_id": only(client).id})
    client.runners.update(only(client).id, {"locked": False})
    other.runners.create({"runner_id": only(client).id})
    assert runner.take().payload["job_info"]["project_name"] == "other"
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


def test_tags_of_jobs_and_runners_have_to_fit(client: gitlab.Gitlab, instance: Instance) -> None:
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


def test_a_runner_that_takes_nothing_can_not_be_made(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    with pytest.raises(GitlabHttpError, match="can not be empty"):
        client.http_post(
            "/user/runners",
            post_data={"runner_type": "project_type", "project_id": project.id, "run_untagged": False},
        )


def test_a_runner_for_protected_refs_leaves_other_branches_alone(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project, access_level="ref_protected")
    commit(project, ONE, branch="feature")
    assert runner.request() is None
    commit(project, ONE)
    assert runner.take().payload["git_info"]["ref"] == "main"


def test_a_paused_runner_gets_nothing(client: gitlab.Gitlab, instance: Instance) -> None:
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


def test_runners_are_for_those_who_look_after_the_project(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    make_runner(client, project)
    client.users.create({"username": "dev", "name": "D", "email": "dev@example.com", "password": "pQ4-wmd-Ksj-19"})
    stranger = gitlab.Gitlab(instance.url, private_token=instance.new_token(["api"], username="dev"))
    assert stranger.runners.list(get_all=True) == []
    with pytest.raises(GitlabGetError):
        stranger.runners.get(only(client).id)
    with pytest.raises(GitlabError):
        make_runner(stranger, project)
    with pytest.raises(GitlabHttpError):
        stranger.http_get("/runners/all")


def test_a_token_for_making_runners_makes_them_and_no_more(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    maker = gitlab.Gitlab(instance.url, private_token=instance.new_token(["create_runner"]))
    assert make_runner(maker, project).verify().status_code == 200
    with pytest.raises(GitlabError):
        maker.runners.list(get_all=True)
