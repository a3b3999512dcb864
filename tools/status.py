"""The state of an installation, in seconds: every part is asked at the same time, and none waits for another.

`make verify` proves that everything works, by using it; this only asks. It changes nothing, and works on any stack.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools import status_parts as parts
from tools.answers import Answer, Health, Question, side_by_side, worst
from tools.clients import FAILURES, Outputs
from tools.clusters import clusters_run
from tools.databases import databases_run
from tools.hub_cache import caches_serve
from tools.progress import ToolError, running_for
from tools.state import StackState
from tools.status_drift import drift_is_known
from tools.status_tokens import tokens_last

#: Seconds from the start of the program to its answer.
WITHIN: Final = 5.0
#: Pulumi is asked first, and a slow back end leaves less. Every part has at least so many seconds.
_SHORTEST: Final = 3.0
#: Seconds to print the answer and to end.
_END: Final = 0.3

PARTS: Final[Mapping[str, Callable[[Question], Answer]]] = {
    "GitLab": parts.gitlab_answers,
    "Registry": parts.registry_answers,
    "Certificate": parts.certificates_last,
    "Tokens": tokens_last,
    "Disks": parts.disks_have_space,
    "Runners": parts.runners_are_online,
    "Clusters": clusters_run,
    "Databases": databases_run,
    "Cache": caches_serve,
    "Pipelines": parts.pipelines_ended,
    "Backup": parts.backup_is_young,
    "Versions": parts.versions_are_newest,
    "Drift": drift_is_known,
}
#: Parts that a stack has only with resources of a kind.
_OF_CLUSTERS: Final = {"Clusters": "KubernetesCluster", "Databases": "DatabaseCluster"}
_MARKS: Final = {
    Health.HEALTHY: "[green]✓[/]",
    Health.NOTICE: "[yellow]![/]",
    Health.UNKNOWN: "[yellow]?[/]",
    Health.FAILING: "[red]✗[/]",
}
#: Exit codes as those of `drift`: something is failing; something could not be asked, and nothing is failing.
_CODES: Final = {Health.HEALTHY: 0, Health.NOTICE: 0, Health.UNKNOWN: 1, Health.FAILING: 2}


def ask(state: StackState, outputs: Outputs, seconds: float) -> dict[str, Answer]:
    """Ask every part, all at once, within so many seconds."""
    # A part gives up by itself shortly before nobody waits for it any more, and says why.
    question = Question(state, outputs, seconds * 0.75)
    asked = {name: partial(part, question) for name, part in PARTS.items() if _concerns(name, state)}
    return side_by_side(asked, seconds)


def _concerns(name: str, state: StackState) -> bool:
    """Most stacks have no clusters, and nothing to read about them."""
    return name not in _OF_CLUSTERS or bool(state.of(_OF_CLUSTERS[name]))


def status(stack: str | None, *, as_json: bool, within: float = WITHIN) -> int:
    """Print the state of a stack, as text or as JSON.

    Returns 0 if it is healthy, 2 if a part is failing, and 1 if none is, but one cannot be asked.

    All of it takes about `within` seconds, whatever answers or not.

    Raises:
        ToolError: Pulumi cannot read the stack, or it was never deployed.
    """
    try:
        with ThreadPoolExecutor(2) as pool:
            reading = pool.submit(Outputs.of_stack, stack)
            state = pool.submit(StackState.of_stack, stack).result()
            outputs = reading.result()
    except FAILURES as error:
        raise ToolError(str(error)) from error
    answers = ask(state, outputs, max(_SHORTEST, within - _END - running_for()))
    health = worst(answers.values())
    if as_json:
        print(json.dumps(_document(outputs, answers, health), indent=2))
    else:
        _print(outputs, answers, health)
    return _CODES[health]


def _document(outputs: Outputs, answers: Mapping[str, Answer], health: Health) -> dict[str, Any]:
    parts_ = [
        {"name": name, "health": answer.health, "text": answer.text, "values": answer.values}
        for name, answer in answers.items()
    ]
    return {
        "url": outputs.url,
        "registry": outputs.registry,
        "time": int(time.time()),
        "health": health,
        "healthy": _CODES[health] == 0,
        "parts": parts_,
    }


def _print(outputs: Outputs, answers: Mapping[str, Answer], health: Health) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    table = Table.grid(padding=(0, 2))
    for name, answer in answers.items():
        table.add_row(_MARKS[answer.health], name, Text(answer.text))
    console.print(f"{outputs.url} and its registry {outputs.registry}", style="bold", markup=False)
    console.print(table)
    console.print(_summary(answers, health), style="bold", markup=False)


def _summary(answers: Mapping[str, Answer], health: Health) -> str:
    def named(wanted: Health) -> str:
        return ", ".join(name for name, answer in answers.items() if answer.health is wanted)

    if health is Health.FAILING:
        return f"failing: {named(Health.FAILING)}"
    if health is Health.UNKNOWN:
        return f"nothing is failing; not known: {named(Health.UNKNOWN)}"
    return f"healthy{'; worth a look: ' + named(Health.NOTICE) if health is Health.NOTICE else ''}"
