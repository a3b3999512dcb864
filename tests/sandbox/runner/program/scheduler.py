"""`gitlab-runner run`: requests jobs for every runner of the configuration and runs them, until stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import log, version
from .configuration import Configuration, ConfigurationError, Table, short_token
from .coordinator import CREATED, FORBIDDEN, Coordinator, UnreachableError
from .job import Job
from .payload import Payload

RELOAD_EVERY = 3.0
CHECK_INTERVAL = 3.0
#: So many refusals one after the other, and a runner is left alone for a while (seconds).
UNHEALTHY_AFTER, UNHEALTHY_FOR = 3, 3600.0
#: On, unless the configuration turns it off: as many requests at once as jobs have come lately. Each job adds a tenth
#: (merge request 5558 of GitLab Runner); how the number shrinks again is not documented.
ADAPTIVE = "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY"
GROWTH, DECAY = 1.1, 0.95


@dataclass
class Slots:
    """Who runs what: at most `concurrent` jobs in all, and each runner's own limit."""

    concurrent: int = 1
    _used: dict[str, set[int]] = field(default_factory=dict)
    _lock: threading.Condition = field(default_factory=threading.Condition)

    def take(self, token: str, limit: int) -> int | None:
        """A slot of a runner, numbered from 0; None while there is none."""
        with self._lock:
            used = self._used.setdefault(token, set())
            if sum(map(len, self._used.values())) >= self.concurrent or (limit and len(used) >= limit):
                return None
            slot = next(number for number in range(len(used) + 1) if number not in used)
            used.add(slot)
            return slot

    def give_back(self, token: str, slot: int) -> None:
        """The slot is free again."""
        with self._lock:
            self._used[token].discard(slot)
            self._lock.notify_all()

    def wait(self, seconds: float) -> None:
        """Until a slot becomes free, at most so long."""
        with self._lock:
            self._lock.wait(seconds)


class Requests:
    """How many requests for jobs one runner may have at once: from one to `request_concurrency`."""

    def __init__(self, most: int, adaptive: bool) -> None:
        self._most = max(most, 1)
        self._now = 1.0 if adaptive else float(self._most)
        self._adaptive = adaptive
        self._open, self._lock = 0, threading.Lock()

    def begin(self) -> bool:
        """Whether there may be one more."""
        with self._lock:
            if self._open >= round(self._now):
                return False
            self._open += 1
            return True

    def end(self, found: bool) -> None:
        """One is answered, with a job or without."""
        with self._lock:
            self._open -= 1
            if self._adaptive:
                self._now = min(max(self._now * (GROWTH if found else DECAY), 1.0), float(self._most))


class Feeder:
    """Asks for jobs for one `[[runners]]` entry: once an interval, as soon as a worker is free.

    Like the real program (`commands/multi.go`), it waits for a free worker without counting the interval, so a request
    that the server has held as long as there was no job is followed by the next one at once.
    """

    def __init__(self, runner: Table, configuration: Configuration, slots: Slots, jobs: set[Job]) -> None:
        self._runner, self._slots, self._jobs = runner, slots, jobs
        self._token = str(runner.get("token", ""))
        self._interval = float(configuration.document.get("check_interval") or CHECK_INTERVAL)
        self._coordinator = Coordinator(runner, configuration.system_id(), configuration.path.parent / "certs")
        self._ended, self._refusals = threading.Event(), 0
        self._woken = threading.Event()
        flags = runner.get("feature_flags") or {}
        self._requests = Requests(int(runner.get("request_concurrency") or 1), bool(flags.get(ADAPTIVE, True)))
        threading.Thread(target=self._feed, name=short_token(self._token), daemon=True).start()

    def end(self) -> None:
        """Ask no more. Jobs that run, run on."""
        self._ended.set()
        self._woken.set()

    def _feed(self) -> None:
        while not self._ended.is_set():
            if self._refusals >= UNHEALTHY_AFTER:
                self._ended.wait(UNHEALTHY_FOR)
                self._refusals = 0
                continue
            slot = self._slots.take(self._token, int(self._runner.get("limit") or 0))
            if slot is None:
                self._slots.wait(1.0)
                continue
            if self._requests.begin():
                threading.Thread(target=self._work, args=(slot,), daemon=True).start()
            else:
                self._slots.give_back(self._token, slot)
            self._woken.wait(self._interval)
            self._woken.clear()

    def _work(self, slot: int) -> None:
        """One worker: ask once, and run the job that there is. After a job the next request comes without delay."""
        job = None
        try:
            try:
                job = self._ask(slot)
            finally:
                self._requests.end(job is not None)
            if job is not None:
                self._woken.set()
                job.run()
        finally:
            if job is not None:
                self._jobs.discard(job)
            self._slots.give_back(self._token, slot)

    def _ask(self, slot: int) -> Job | None:
        runner = short_token(self._token)
        try:
            reply = self._coordinator.request_job()
        except UnreachableError as error:
            log.warning("Checking for jobs... failed", runner=runner, status=error)
            return None
        if reply.status == FORBIDDEN:
            self._refusals += 1
            log.error("Checking for jobs... forbidden", runner=runner, status=reply.text)
            if self._refusals == UNHEALTHY_AFTER:
                log.error(
                    f'Runner "{self._coordinator.url}{runner}" is unhealthy and will be disabled for 1h0m0s seconds!',
                    unhealthy_requests=UNHEALTHY_AFTER,
                )
            return None
        self._refusals = 0
        if reply.status == CREATED:
            payload = Payload(reply.body)
            log.info("Checking for jobs... received", job=payload.id, runner=runner)
            job = Job(self._runner, self._coordinator, payload, slot)
            self._jobs.add(job)
            return job
        if reply.status != 204:  # no content: nothing to do
            log.warning("Checking for jobs... failed", runner=runner, status=reply.text)
        return None


class Scheduler:
    """Feeders of the configuration as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slots = Slots()
        self._jobs: set[Job] = set()
        self._feeders: dict[str, Feeder] = {}
        self._modified = -1.0
        self.shutdown_timeout = 30.0
        self.stopping = ""
        self._woken = threading.Event()

    def tell(self, how: str) -> None:
        """End: `gracefully` waits for jobs, `now` aborts them. `again` reads the configuration."""
        if how == "again":
            self._modified = -1.0
        else:
            self.stopping = how
        self._woken.set()

    def run(self) -> None:
        """Run until stopped."""
        while not self.stopping:
            self._load_if_changed()
            self._woken.wait(RELOAD_EVERY)
            self._woken.clear()
        for feeder in self._feeders.values():
            feeder.end()
        if self.stopping == "now":
            for job in list(self._jobs):
                job.stop.set("stopped")
        deadline = time.monotonic() + self.shutdown_timeout
        while self._jobs and (self.stopping == "gracefully" or time.monotonic() < deadline):
            time.sleep(0.1)
            if self.stopping == "now":
                for job in list(self._jobs):
                    job.stop.set("stopped")
        log.info("All workers stopped. Can exit now")

    def _load_if_changed(self) -> None:
        modified = self._path.stat().st_mtime if self._path.exists() else 0.0
        if modified == self._modified:
            return
        self._modified = modified
        try:
            configuration = Configuration(self._path).load()
            concurrent = configuration.concurrent
        except ConfigurationError as error:
            if not self._feeders:
                raise
            log.error("Failed to load configuration", error=error)
            return
        log.info("Configuration loaded", builds=len(self._jobs), max_builds=concurrent)
        self._slots.concurrent = concurrent
        self.shutdown_timeout = float(configuration.document.get("shutdown_timeout") or 30)
        wanted = {repr(sorted(runner.items(), key=str)): runner for runner in configuration.runners}
        for key in self._feeders.keys() - wanted.keys():
            self._feeders.pop(key).end()
        for key, runner in wanted.items():
            if key in self._feeders:
                continue
            if runner.get("executor") not in ("docker", "kubernetes"):
                log.error(
                    f"the executor {runner.get('executor')} is not in this stand-in, which has docker and kubernetes",
                    runner=short_token(str(runner.get("token", ""))),
                )
                continue
            self._feeders[key] = Feeder(runner, configuration, self._slots, self._jobs)


def run(path: Path) -> None:
    """Run the service in the foreground."""
    log.info("Runtime platform", arch="amd64", os="linux", pid=os.getpid(), revision="standin", version=version())
    log.info(f"Starting multi-runner from {path}...", builds=0, max_builds=0)
    scheduler = Scheduler(path)
    signal.signal(signal.SIGQUIT, lambda *_: scheduler.tell("gracefully"))
    signal.signal(signal.SIGHUP, lambda *_: scheduler.tell("again"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: scheduler.tell("now"))
    scheduler.run()
    # Threads may still wait for an answer of the server, up to a minute: nothing that they could do matters any more.
    sys.stderr.flush()
    os._exit(0)
