"""Runners' requests for jobs at the GitLab stand-in, which holds them until there may be one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from gitlab.v4.objects import Project

from tests.sandbox.gitlab.web import long_polling
from tests.sandbox.gitlab.web.ci import scheduler
from tests.sandbox.gitlab.web.long_polling import LARGEST_BODY, duration
from tests.sandbox_tests.support.gitlab_instance import Instance, running
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, statuses
from tests.sandbox_tests.support.gitlab_runner_client import Runner

ONE = {".gitlab-ci.yml": "job: {script: make}"}
UPDATE, POLLING = "X-GitLab-Last-Update", "Gitlab-Ci-Builds-Polling"
#: Seconds for what has to happen long before a held request is answered by itself.
PATIENCE = 20


@pytest.fixture(scope="module")
def ending() -> threading.Event:
    """Set when GitLab ends."""
    return threading.Event()


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, ending: threading.Event) -> Iterator[Instance]:
    """An instance that holds requests for ten minutes."""
    folder = tmp_path_factory.mktemp("held")
    with running(folder, ending=ending, api_ci_long_polling_duration="10m") as instance:
        yield instance


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for what waits."""
    with ThreadPoolExecutor() as found:
        yield found


@pytest.fixture
def project(held: Instance) -> Iterator[Project]:
    """A project of that instance, deleted after the test."""
    yield make_project(held.client())
    held.empty()


@pytest.fixture
def runner(held: Instance, project: Project) -> Runner:
    """A runner of the project."""
    return make_runner(held.client(), project)


def ask(runner: Runner, last_update: str = "", token: str = "") -> httpx.Response:
    """A request for a job."""
    body = {"token": token or runner.token, "system_id": "s_0123456789ab"} | (
        {"last_update": last_update} if last_update else {}
    )
    return httpx.post(f"{runner.url}/api/v4/jobs/request", json=body, timeout=60)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released for each request that is held from then on."""
    holds, changed = threading.Semaphore(0), long_polling.Watch.changed

    @asynccontextmanager
    async def noted(self: long_polling.Watch, state: str) -> AsyncIterator[asyncio.Future[None]]:
        async with changed(self, state) as found:
            holds.release()
            yield found

    monkeypatch.setattr(long_polling.Watch, "changed", noted)
    return holds


@pytest.fixture
def waiting(pool: ThreadPoolExecutor, watched: threading.Semaphore, runner: Runner) -> Future[httpx.Response]:
    """A request that is held, and stays so while nothing happens."""
    future = pool.submit(ask, runner, ask(runner).headers[UPDATE])
    assert watched.acquire(timeout=PATIENCE)
    threading.Event().wait(2 * long_polling.LOOK_S)
    assert not future.done()
    return future


def test_a_request_is_held_until_a_job_begins_to_wait(project: Project, waiting: Future[httpx.Response]) -> None:
    commit(project, ONE)
    answer = waiting.result(PATIENCE)
    assert (answer.status_code, answer.headers[POLLING], answer.content) == (204, "yes", b"")
    assert UPDATE not in answer.headers


def test_the_next_request_gets_the_job_at_once(project: Project, runner: Runner, pool: ThreadPoolExecutor) -> None:
    newest = ask(runner).headers[UPDATE]
    commit(project, ONE)
    answer = pool.submit(ask, runner, newest).result(PATIENCE)
    assert (answer.status_code, answer.json()["job_info"]["name"]) == (201, "job")
    assert answer.headers[POLLING] == "yes"
    assert statuses(project) == {"job": "running"}


def test_a_delayed_job_ends_the_wait_without_another_request(
    held: Instance, project: Project, runner: Runner, waiting: Future[httpx.Response]
) -> None:
    stopped = scheduler.watch(held.config, longest_look_s=0.1)
    try:
        commit(project, {".gitlab-ci.yml": "job: {script: make, when: delayed, start_in: 1 second}"})
        assert waiting.result(PATIENCE).status_code == 204
    finally:
        stopped.set()
    assert ask(runner).status_code == 201


@pytest.mark.parametrize("last_update", ["", "0123456789abcdef"])
def test_who_does_not_know_the_newest_is_answered_at_once(runner: Runner, last_update: str) -> None:
    answer = ask(runner, last_update)
    assert answer.status_code == 204
    assert len(answer.headers[UPDATE]) == 32


def test_a_wrong_token_is_refused_at_once(runner: Runner) -> None:
    newest = ask(runner).headers[UPDATE]
    assert ask(runner, newest, "glrt-" + "x" * 20).status_code == 403


def test_a_runner_that_is_removed_hears_of_it(held: Instance, runner: Runner, waiting: Future[httpx.Response]) -> None:
    newest = ask(runner).headers[UPDATE]
    held.execute("DELETE FROM ci_runners")
    assert waiting.result(PATIENCE).status_code == 204
    assert ask(runner, newest).status_code == 403


def test_a_change_of_the_runner_ends_the_wait(held: Instance, runner: Runner, waiting: Future[httpx.Response]) -> None:
    [found] = held.client().runners.list(get_all=True)
    held.client().runners.update(found.id, {"paused": True})
    assert waiting.result(PATIENCE).status_code == 204
    assert UPDATE in ask(runner).headers


def test_other_requests_are_not_held(held: Instance, runner: Runner) -> None:
    assert runner.verify().status_code == 200
    assert POLLING not in runner.verify().headers
    assert httpx.get(f"{held.url}/api/v4/jobs/request").status_code == 405


def test_a_body_that_is_no_json_goes_on_to_rails_and_one_that_is_too_long_does_not(held: Instance) -> None:
    url, headers = f"{held.url}/api/v4/jobs/request", {"content-type": "application/json"}
    assert httpx.post(url, content=b"{", headers=headers).status_code == 400
    assert httpx.post(url, content=b"[]", headers=headers).status_code == 400
    assert httpx.post(url, content=b" " * (LARGEST_BODY + 1), headers=headers).status_code == 413


def test_without_a_duration_rails_itself_says_that_there_is_nothing_new(tmp_path: Path) -> None:
    with running(tmp_path, api_ci_long_polling_duration="0") as instance:
        runner = make_runner(instance.client(), make_project(instance.client()))
        newest = ask(runner).headers[UPDATE]
        again = ask(runner, newest)
    assert (again.status_code, again.headers[UPDATE]) == (204, newest)
    assert POLLING not in again.headers


def test_gitlabs_own_duration_is_too_short_to_hold_anything(instance: Instance) -> None:
    runner = make_runner(instance.client(), make_project(instance.client()))
    again = ask(runner, ask(runner).headers[UPDATE])
    assert (again.status_code, again.headers[POLLING]) == (204, "yes")
    instance.empty()


def test_after_the_duration_there_is_still_no_job(tmp_path: Path) -> None:
    with running(tmp_path, api_ci_long_polling_duration="300ms") as instance:
        runner = make_runner(instance.client(), make_project(instance.client()))
        answer = ask(runner, ask(runner).headers[UPDATE])
    assert (answer.status_code, answer.headers[POLLING]) == (204, "yes")
    assert UPDATE not in answer.headers


@pytest.mark.parametrize(
    ("text", "seconds"), [("50s", 50), ("1m30s", 90), ("1.5h", 5400), ("250ms", 0.25), ("50ns", 5e-8), ("0", 0)]
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["50", "", "s", "fifty", "50s ", "-1x"])
def test_gitlab_does_not_start_with_a_duration_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=f'invalid value "{text}" for flag -apiCiLongPollingDuration: parse error'):
        duration(text)


def test_nothing_holds_up_the_end_of_gitlab(
    runner: Runner, waiting: Future[httpx.Response], ending: threading.Event
) -> None:
    newest = ask(runner).headers[UPDATE]
    ending.set()
    try:
        assert waiting.result(PATIENCE).status_code == 204
        assert ask(runner, newest).status_code == 204
    finally:
        ending.clear()
