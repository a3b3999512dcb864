"""How the runner stand-in asks for jobs: how often, how many times at once, and what follows a held request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.runner.program import scheduler
from tests.sandbox.runner.program.configuration import Configuration
from tests.sandbox.runner.program.coordinator import Reply
from tests.sandbox.runner.program.scheduler import DECAY, GROWTH, Feeder, Requests, Slots
from tests.sandbox_tests.support.waiting import eventually

#: Shorter than a test waits, and long enough for requests that should not come to be seen.
INTERVAL = 0.05


class Server:
    """Holds every request for a job until the test lets it go."""

    url = "https://gitlab.example.com/"

    def __init__(self, *_: object) -> None:
        self.asked, self.open, self.status = 0, 0, 204
        self._free = threading.Semaphore(0)
        self._lock = threading.Lock()

    def request_job(self) -> Reply:
        with self._lock:
            self.asked, self.open = self.asked + 1, self.open + 1
        self._free.acquire()
        with self._lock:
            self.open -= 1
        return Reply(self.status, None, {})

    def let_go(self) -> None:
        """Answer one."""
        self._free.release()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server of every runner."""
    found = Server()
    monkeypatch.setattr(scheduler, "Coordinator", lambda *_: found)
    return found


@pytest.fixture
def feeders(tmp_path: Path, server: Server) -> Iterator[Any]:
    """Makes a feeder for an entry of the configuration, with so many workers."""
    made: list[Feeder] = []

    def make(concurrent: int, **runner: Any) -> Feeder:
        configuration = Configuration(tmp_path / "config.toml")
        configuration.document = {"check_interval": INTERVAL}
        made.append(Feeder({"token": "glrt-x", **runner}, configuration, Slots(concurrent), set()))
        return made[-1]

    yield make
    for feeder in made:
        feeder.end()
    for _ in range(100):
        server.let_go()


def test_one_worker_asks_again_when_its_request_is_answered_and_not_before(server: Server, feeders: Any) -> None:
    feeders(1, request_concurrency=4)
    eventually(lambda: server.asked == 1, 5)
    threading.Event().wait(4 * INTERVAL)
    assert server.asked == 1
    server.let_go()
    eventually(lambda: server.asked == 2, 5)


def test_a_runner_that_is_refused_three_times_asks_no_more(server: Server, feeders: Any) -> None:
    server.status = 403
    for _ in range(10):
        server.let_go()
    feeders(1)
    eventually(lambda: server.asked == 3, 5)
    threading.Event().wait(10 * INTERVAL)
    assert server.asked == 3


def test_without_jobs_one_request_is_open_however_many_there_may_be(server: Server, feeders: Any) -> None:
    feeders(4, request_concurrency=4)
    eventually(lambda: server.open == 1, 5)
    threading.Event().wait(4 * INTERVAL)
    assert server.open == 1


def test_as_many_as_the_configuration_allows_are_open_if_it_says_so(server: Server, feeders: Any) -> None:
    feeders(4, request_concurrency=3, feature_flags={scheduler.ADAPTIVE: False})
    eventually(lambda: server.open == 3, 5)
    threading.Event().wait(4 * INTERVAL)
    assert server.open == 3


def test_requests_become_more_with_jobs_and_fewer_without() -> None:
    requests = Requests(2, adaptive=True)
    assert requests.begin()
    assert not requests.begin()
    for _ in range(5):
        requests.end(found=True)
        assert requests.begin()
    assert GROWTH**5 > 1.5
    assert requests.begin()
    assert not requests.begin()
    for _ in range(2):
        requests.end(found=False)
    for _ in range(20):
        assert requests.begin()
        requests.end(found=False)
    assert requests.begin()
    assert 2 * DECAY**22 < 1.5
    assert not requests.begin()
