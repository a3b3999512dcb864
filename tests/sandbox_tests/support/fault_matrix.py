"""Every kind of call that an update of the whole program makes, and what a fault of it does to the update.

The kinds are recorded from an update, so that none is forgotten. A run lets a fault hit kinds once each, and updates
until nothing is left to do, as a person would: it follows the ways out that messages name, and deletes nothing itself.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.sandbox_tests.support.pulumi_engine import Engine
from tests.sandbox_tests.support.whole_program import World
from tools.strays import Known, find

#: Updates after which a run gives up.
MOST_UPDATES = 10
#: The name of the project in the engine of the tests.
PROJECT = "small"
WRITES = ("POST", "PUT", "PATCH", "DELETE")
FAULTS: dict[str, dict[str, Any]] = {
    "429, Retry-After": {"status": 429, "retry_after": 1},
    "500": {"status": 500},
    "503, Retry-After": {"status": 503, "retry_after": 1},
    "connection cut before": {"drop": True},
    "answer lost after": {"drop": True, "after": True},
    "slow": {"delay": 1},
}
_LITERAL = re.compile(r"v\d|[a-z_]+")


@dataclass(frozen=True, order=True)
class Kind:
    """Calls of one service that differ only in the names and IDs of things. `path` is a pattern of a fault."""

    service: str
    method: str
    path: str

    def __str__(self) -> str:
        """For tables and for the names of tests."""
        return f"{self.service}: {self.method} {self.path.replace('{}', '*')}"

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.method in WRITES

    @classmethod
    def of(cls, service: str, request: dict[str, Any]) -> Kind:
        """The kind of a request in a log. With Spaces the names in the query say what is asked for."""
        parts = [part if _LITERAL.fullmatch(part) else "{}" for part in request["path"].split("/")[1:] if part]
        if service == "spaces":
            # All of a path are names there.
            parts = ["{}" for _ in parts]
        query = f"?{request['query']}" if service == "spaces" and request.get("query") else ""
        return cls(service, request["method"], "/" + "/".join(parts) + query)


@dataclass
class Outcome:
    """How a run ended: what was hit, how many updates it took, what was followed, and what nobody knows of."""

    fault: str
    kinds: tuple[Kind, ...]
    updates: int = 0
    hit: int = 0
    converged: bool = False
    followed: list[str] = field(default_factory=list)
    #: What only `make strays` knows, and what nobody does.
    strays: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    #: What the updates that failed have said.
    messages: list[str] = field(default_factory=list)

    @property
    def way(self) -> str:
        """How it has converged, in a few words."""
        if not self.converged:
            return "never"
        if self.followed:
            return "as the message says"
        return "by itself" if self.updates == 1 else f"at update {self.updates}"


def record(world: World) -> list[Kind]:
    """The kinds of call of an update that creates a stack. Leaves the stack."""
    world.stack().up()
    logs = {
        "api": world.cloud.control.get("/requests").json(),
        "spaces": world.cloud.control.get("/spaces/requests").json(),
        "gitlab": list(world.instance.faults.requests),
    }
    return sorted({Kind.of(service, one) for service, log in logs.items() for one in log})


def run(world: World, fault: str, kinds: Sequence[Kind]) -> Outcome:
    """Update a new stack while one fault hits each of the kinds once, until all is well."""
    return run_faults(world, [(fault, kind) for kind in kinds])


def run_faults(world: World, faults: Sequence[tuple[str, Kind]]) -> Outcome:
    """Update a new stack while each fault hits its kind once, until all is well."""
    kinds = [kind for _, kind in faults]
    outcome = Outcome(faults[0][0], tuple(kinds))
    engine = world.stack()
    # The most special first: a part of a path matches anything.
    for fault, kind in sorted(faults, key=lambda one: (one[1].path.count("{}"), -len(one[1].path))):
        world.inject(kind.service, {"method": kind.method, "path": kind.path, **FAULTS[fault]})
    while outcome.updates < MOST_UPDATES:
        outcome.updates += 1
        process = engine.start("up", "--yes", "--skip-preview")
        output, _ = process.communicate(timeout=300)
        outcome.converged = process.returncode == 0
        if outcome.converged:
            break
        outcome.messages.append(output.partition("Diagnostics:")[2].partition("Resources:")[0])
        for way in ways_out(output):
            outcome.followed.append(way)
            engine.run(*shlex.split(way)[1:], *(["--yes"] if " import " in way else []))
    outcome.hit = len(kinds) - world.waiting()
    left, named = unknown(world, engine), strays(world, engine)
    outcome.strays = [one for one in left if one in named]
    outcome.left_behind = [one for one in left if one not in named]
    return outcome


def strays(world: World, engine: Engine) -> set[str]:
    """What `make strays` names."""
    prefix = f"{PROJECT}-test"
    identifiers = frozenset(tuple(one.split(" ", 1)) for one in _known(engine))
    known = Known(PROJECT, prefix, ("test",), identifiers, frozenset())  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in world.environment().items():
            patch.setenv(name, value)
        return {f"{one.noun} {one.identifier}" for one in find(known)}


def ways_out(message: str) -> Iterator[str]:
    """The commands that a message names, each once: imports, and settings that take something over."""
    for line in dict.fromkeys(line.strip() for line in message.splitlines()):
        if line.startswith(("pulumi import ", "pulumi config set ")):
            yield line


def unknown(world: World, engine: Engine) -> list[str]:
    """What there is and the state does not have, and what the state has and is not there."""
    known = Counter(_known(engine))
    there = Counter(_there(world))
    missing = [f"missing: {one}" for one in (known - there).elements()]
    return sorted([*(there - known).elements(), *missing])


#: Kinds in the account, each with the property that is its ID in the state.
_ACCOUNT = {
    "ssh_keys": ("SshKey", "id"),
    "droplets": ("Droplet", "id"),
    "volumes": ("Volume", "id"),
    "reserved_ips": ("ReservedIp", "ip"),
    "firewalls": ("Firewall", "id"),
    "vpcs": ("Vpc", "id"),
    "domains": ("Domain", "name"),
    "spaces_keys": ("SpacesKey", "access_key"),
    "buckets": ("SpacesBucket", "name"),
}


def _known(engine: Engine) -> Iterator[str]:
    kinds = {kind for kind, _ in _ACCOUNT.values()} | {"Project", "UserRunner", "ProjectDeployToken", "ProjectVariable"}
    for resource in engine.resources().values():
        kind = resource["type"].rpartition(":")[2]
        if kind in kinds and resource.get("custom"):
            yield f"{kind} {resource['id']}"


def _there(world: World) -> Iterator[str]:
    for name, things in world.cloud.exists().items():
        if name in _ACCOUNT:
            kind, key = _ACCOUNT[name]
            yield from (f"{kind} {thing[key]}" for thing in things)
    # The first network of a region is its default, which the list leaves out.
    yield from (f"Vpc {one['id']}" for one in world.cloud.get("/v2/vpcs")["vpcs"] if not _is_listed(world, one["id"]))
    for project in world.instance.request("GET", "/projects"):
        number = project["id"]
        yield f"Project {number}"
        tokens = world.instance.request("GET", f"/projects/{number}/deploy_tokens")
        yield from (f"ProjectDeployToken {number}:{one['id']}" for one in tokens)
        variables = world.instance.request("GET", f"/projects/{number}/variables")
        yield from (f"ProjectVariable {number}:{one['key']}:*" for one in variables)
    yield from (f"UserRunner {one['id']}" for one in world.instance.request("GET", "/runners/all"))


def _is_listed(world: World, identifier: str) -> bool:
    return any(one["id"] == identifier for one in world.cloud.exists().get("vpcs", []))


def table(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each fault: kinds tried, how the updates converged, what `make strays` names, what nobody knows."""
    order = ("by itself", "later", "as the message says", "never")
    titles = ("fault", "tried", *order, "named by strays", "left behind")
    rows: list[tuple[object, ...]] = [titles, ("---",) * len(titles)]
    for fault in FAULTS:
        of_fault = [one for one in outcomes if one.fault == fault]
        ways: Counter[str] = Counter()
        for one in of_fault:
            ways["later" if one.way.startswith("at update") else one.way] += one.hit
        named = _kinds_of(item for one in of_fault for item in one.strays)
        left = _kinds_of(item for one in of_fault for item in one.left_behind)
        rows.append((fault, sum(one.hit for one in of_fault), *(ways[way] for way in order), named, left))
    return [f"| {' | '.join(map(str, row))} |" for row in rows]


def _kinds_of(items: Iterable[str]) -> str:
    """The kinds of things, without their IDs."""
    return ", ".join(item.rpartition(" ")[0] for item in items) or "nothing"
