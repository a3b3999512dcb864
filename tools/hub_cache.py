"""The caches of Docker Hub on the machines of runners: whether they serve. Jobs go on without them, and are slower."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from tools.answers import Answer, Health, Question, size, together
from tools.clients import CheckError, Outputs
from tools.machines import Machine, machines_of
from tools.state import StackState

#: Read-only; prints one line.
_SCRIPT = Path(__file__).with_name("check-cache.sh")
_LIMIT_SECONDS: Final = 20.0


def caches_serve(question: Question) -> Answer:
    """Whether the cache of each machine serves. One that does not is no failure: its jobs pull from Docker Hub."""
    machines = cached_machines(question.state, question.outputs)
    if not machines:
        return Answer(Health.HEALTHY, "none: no runner has dockerHubCache without a registryMirror")
    return together({one.name: partial(_ask, one, question) for one in machines}, question.seconds)


def cached_machines(state: StackState, outputs: Outputs) -> list[Machine]:
    """The machines that the stack's last update has given a cache."""
    given = {one.name: str(one.values.get("stdin")) for one in state.resources if one.noun == "Command"}
    return [
        one
        for one in machines_of(state, outputs)
        if re.search(r"^CACHE_URL=[^\s']", given.get(f"{one.prefix}-preparation", ""), re.MULTILINE)
    ]


def require_caches(state: StackState, outputs: Outputs) -> str:
    """The caches of all machines serve, for `make verify`.

    Raises:
        CheckError: one does not, or cannot be asked.
    """
    answer = caches_serve(Question(state, outputs, _LIMIT_SECONDS))
    if answer.health is not Health.HEALTHY:
        raise CheckError(answer.text)
    return answer.text


def _ask(machine: Machine, question: Question) -> Answer:
    limit = f"sudo timeout {question.seconds:.1f} bash -s"
    script = _SCRIPT.read_text(encoding="utf-8")
    said = machine.pinned(question.outputs).ssh(limit, script, timeout=question.seconds)
    how, _, more = said.strip().partition(" ")
    values: Mapping[str, object] = {"serves": how == "serves", "bytes": int(more) if how == "serves" else None}
    if how == "serves":
        return Answer(Health.HEALTHY, f"serves, {size(int(more))} stored", dict(values))
    why = f" ({more})" if more else ""
    return Answer(Health.NOTICE, f"does not serve{why}, jobs pull from Docker Hub: make logs WHAT=runner", dict(values))
