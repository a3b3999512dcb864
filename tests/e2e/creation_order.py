"""In which order an update created its resources, and whether that is the order that they ask for.

The engine's event log says when each resource started and ended, as a place in one sequence; the state says what each
one declares to need. Nothing here compares seconds, so a slow machine changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

#: Steps that are long enough, and always: an SSH session or a machine that boots.
_LONG = ("$command:remote:Command::", "$digitalocean:index/droplet:Droplet::")


@dataclass(frozen=True)
class Step:
    """The creation of one resource: where in the sequence of events it started and ended, and what it needs."""

    started: int
    ended: int
    needs: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class CreationOrder:
    """The steps of one update, by URN."""

    steps: Mapping[str, Step]

    @classmethod
    def read(cls, event_log: Path, resources: Mapping[str, Mapping[str, Any]]) -> Self:
        """Combine the log of the update that created a whole stack with the resources in its state, by URN."""
        started, ended = dict[str, int](), dict[str, int]()
        for line in event_log.read_text().splitlines():
            event = json.loads(line)
            for kind, places in (("resourcePreEvent", started), ("resOutputsEvent", ended)):
                if kind in event:
                    places[event[kind]["metadata"]["urn"]] = event["sequence"]
        return cls({urn: Step(started[urn], ended[urn], _needs(one)) for urn, one in resources.items()})

    def names(self) -> set[str]:
        """Logical names of all resources that were created."""
        return {_name(urn) for urn in self.steps}

    def too_early(self) -> dict[str, set[str]]:
        """By name, what had not ended when a resource that needs it started."""
        return self._by_name(
            (urn, {need for need in step.needs if self.steps[need].ended > step.started})
            for urn, step in self.steps.items()
        )

    def too_late(self) -> dict[str, set[str]]:
        """By name, the long steps that started and ended while a resource had all that it needs and did not start.

        The program's own work between the two is short; that a whole step fits into it shows that something waited.
        """
        long = {urn: step for urn, step in self.steps.items() if any(kind in urn for kind in _LONG)}
        return self._by_name(
            (
                urn,
                {
                    other
                    for other, between in long.items()
                    if self._ready(step) < between.started and between.ended < step.started
                },
            )
            for urn, step in self.steps.items()
        )

    def _ready(self, step: Step) -> int:
        return max((self.steps[need].ended for need in step.needs), default=0)

    @staticmethod
    def _by_name(found: Iterable[tuple[str, set[str]]]) -> dict[str, set[str]]:
        return {_name(urn): {_name(other) for other in others} for urn, others in found if others}


def _needs(resource: Mapping[str, Any]) -> frozenset[str]:
    """What a resource declares to need; not its parent, which is only its place in the tree."""
    properties = resource.get("propertyDependencies", {}).values()
    urns = {*resource.get("dependencies", []), *(urn for urns in properties for urn in urns or [])}
    provider = resource.get("provider", "").rpartition("::")[0]
    return frozenset((urns | {provider, resource.get("deletedWith", "")}) - {""})


def _name(urn: str) -> str:
    return urn.rsplit("::", 1)[1]
