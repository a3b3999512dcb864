"""One emulated account: its configuration, state, backend and running actions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.digitalocean.models import Account, Action, Catalog, Droplet, Record, now
from tests.sandbox.digitalocean.state.backend import Backend
from tests.sandbox.digitalocean.state.network import resolve_picture
from tests.sandbox.digitalocean.state.store import Store
from tests.sandbox.digitalocean.state.transitions import Transitions

log = logging.getLogger(__name__)

Handler = Callable[["Cloud", Action], Awaitable[None]]
Certify = Callable[[list[str]], tuple[str, str]]


@dataclass(frozen=True)
class Config:
    """What an account and its service look like."""

    token: str = field(repr=False)
    #: Slugs of the images that the backend can boot.
    images: tuple[str, ...] = ("debian-12-x64", "debian-13-x64")
    droplet_limit: int = 25
    reserved_ip_limit: int = 20
    volume_limit: int = 100
    #: Requests an hour and a minute, as published.
    rate_limit: int = 5000
    burst_limit: int = 250
    #: Slugs of regions that take no new resources at the moment, besides those that never do.
    closed_regions: tuple[str, ...] = ()
    #: Seconds after which Spaces knows a key that the API has returned; other parts of the service do not wait for it.
    spaces_key_seconds: float = 0
    #: Seconds between two rounds of checks and metrics; in those of alerts, a minute is as long.
    minute_seconds: float = 60
    #: Seconds between two looks of the service at its Kubernetes clusters; the real autoscaler takes ten.
    cluster_seconds: float = 10
    #: Processors of the host, which no node of a cluster has more of, whatever its size; None is no such limit.
    host_processors: int | None = None
    email: str = "sandbox@example.com"
    nameservers: tuple[str, ...] = ("ns1.digitalocean.com", "ns2.digitalocean.com", "ns3.digitalocean.com")
    #: What a public authority does: certificate and key (PEM) for hosts. Without one, nobody connects to what has them.
    certify: Certify | None = None
    #: Name servers that the metadata service announces to machines.
    resolvers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metrics:
    """What the agent of a machine has reported, by the names that alert policies have; `at` is a monotonic time."""

    at: float
    values: dict[str, float]


class NetworkKeeper:
    """Keeps the backend's filtering and routing equal to what the records say.

    Changes are reported, not described: code that changed anything calls `changed`, and the whole picture is resolved
    again. Changes that arrive while one is being applied are applied together afterwards.
    """

    def __init__(self, store: Store, backend: Backend, transitions: Transitions) -> None:
        self._store = store
        self._backend = backend
        self._transitions = transitions
        self._wanted = 0
        self._applied = 0
        self._progress = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._failure: str | None = None

    def changed(self) -> None:
        """Something that filtering or routing depends on has changed."""
        self._wanted += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._apply())

    @property
    def settled(self) -> bool:
        """Whether everything reported so far is in force."""
        return self._applied == self._wanted and self._failure is None

    @property
    def failed(self) -> bool:
        """Whether the backend could not do what it was last asked to."""
        return self._failure is not None

    async def attempted(self) -> None:
        """Wait until the backend has dealt with everything reported so far, well or badly."""
        wanted = self._wanted
        async with self._progress:
            await self._progress.wait_for(lambda: self._applied >= wanted)

    async def in_force(self) -> None:
        """Wait until everything reported so far is in force. Raises RuntimeError if the backend could not do it."""
        await self.attempted()
        if self._failure is not None:
            raise RuntimeError(self._failure)

    async def _apply(self) -> None:
        while self._applied < self._wanted:
            target = self._wanted
            error = await _outcome(self._apply_once())
            if error is not None:
                log.error("the network could not be applied", exc_info=error)
            self._failure = None if error is None else f"the network could not be applied: {error}"
            async with self._progress:
                self._applied = target
                self._progress.notify_all()

    async def _apply_once(self) -> None:
        async with self._transitions.passage("firewall.apply"):
            await self._backend.apply_network(resolve_picture(self._store))

    async def stop(self) -> None:
        """Stop; the next start applies everything again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


@dataclass
class Cloud:
    """The emulated account and everything behind it. One a process; needs a running event loop."""

    store: Store
    backend: Backend
    config: Config
    handlers: dict[str, Handler]
    transitions: Transitions = field(init=False)
    network: NetworkKeeper = field(init=False)
    catalog: Catalog = field(init=False)
    #: By droplet; a restart forgets them, and the next report comes within a minute.
    metrics: dict[int, Metrics] = field(init=False, default_factory=dict)
    _tasks: dict[int, asyncio.Task[None]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog = Catalog(self.config.images)
        self.transitions = Transitions(self.store)
        self.network = NetworkKeeper(self.store, self.backend, self.transitions)

    @property
    def account(self) -> Account:
        """What the account is like now; the control interface changes it."""
        return Account.model_validate(self.store.setting("account", {}))

    @account.setter
    def account(self, account: Account) -> None:
        self.store.set_setting("account", account.model_dump())

    @property
    def volume_limit(self) -> int:
        """How many volumes the account may have; 0 is no limit."""
        limit = self.account.volume_limit
        return self.config.volume_limit if limit is None else limit

    @property
    def droplet_limit(self) -> int:
        """How many droplets the account may have."""
        limit = self.account.droplet_limit
        return self.config.droplet_limit if limit is None else limit

    async def start(self) -> None:
        """Bring the backend up to what the records say and take up work that a former process left."""
        self.network.changed()
        for action in self.store.where(Action, status="in-progress"):
            self._launch(action)

    async def stop(self) -> None:
        """Stop working; what is unfinished stays in progress for the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.network.stop()

    def act(
        self,
        work: str,
        owner: Record,
        *,
        type_: str,
        region: str | None = None,
        droplet_id: int | None = None,
        public: bool = True,
        params: dict[str, Any] | None = None,
    ) -> Action:
        """Store an action and start its work. The caller's other changes belong in the same transaction."""
        action = Action(
            id=self.store.next_number("action", 2_100_000_001),
            type=type_,
            resource_type={"volume": "volume", "reserved_ip": "reserved_ip"}.get(owner.kind, owner.kind),
            owner_kind=owner.kind,
            owner_key=owner.key,
            region=region,
            droplet_id=droplet_id,
            public=public,
            started_at=now(),
            work=work,
            params=params or {},
        )
        self.store.put(action)
        self._launch(action)
        return action

    async def finished(self, action: Action) -> Action:
        """Wait until an action is over, and return how it ended."""
        if task := self._tasks.get(action.id):
            await asyncio.shield(task)
        return self.store.get(Action, action.id) or action

    def pending(self, droplet: Droplet) -> list[Action]:
        """Work under way on a droplet."""
        return self.store.where(Action, status="in-progress", droplet_id=droplet.id)

    def pending_for(self, record: Record) -> list[Action]:
        """Work under way on any record."""
        return self.store.where(Action, status="in-progress", owner_kind=record.kind, owner_key=record.key)

    def _launch(self, action: Action) -> None:
        task = asyncio.create_task(self._run(action), name=f"{action.work} {action.owner_key}")
        self._tasks[action.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(action.id, None))

    async def _run(self, action: Action) -> None:
        error = await _outcome(self._work(action))
        if error is not None:
            log.error("%s of %s %s failed", action.work, action.owner_kind, action.owner_key, exc_info=error)
        action.status = "completed" if error is None else "errored"
        action.completed_at = now()
        action.params = {}
        self.store.put(action)

    async def _work(self, action: Action) -> None:
        async with self.transitions.passage(action.work):
            await self.handlers[action.work](self, action)


async def _outcome(work: Coroutine[Any, Any, None]) -> BaseException | None:
    """Run work of the backend, which may raise anything, to its end, and return what it raised.

    A cancelled caller cancels the work, and that is not an outcome.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    return task.exception()
