"""Report what differs between a stack and reality, in words. Changes nothing, unless it is asked to mark what it found.

Each part is looked at on its own, within a limit of time, so that a server that is gone does not hide a firewall that
was changed:

* the cloud: Pulumi reads every resource of the account again;
* the machines: the files that the stack's steps have written, compared with the checksums of when they wrote them;
* GitLab: sign-up and the stack's API token, asked at the stack's address, wherever the name points to;
* the projects: Pulumi reads everything that it has created in GitLab again. Its provider follows the name, so this part
  waits until the name leads to the stack's GitLab, and the token is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console

from tools.clients import FAILURES, CheckError, Outputs
from tools.drift_gitlab import gitlab_settings, require_gitlab
from tools.drift_machines import machine_files
from tools.drift_pipelines import pipelines
from tools.drift_pulumi import differences, mark, switched_off
from tools.findings import Finding
from tools.state import StackState
from tools.status_drift import note_comparison

#: Exit codes: something differs; a part could not be compared, and nothing differs in the others.
DIFFERS, UNKNOWN = 2, 1


@dataclass(frozen=True)
class Part:
    """One part of the comparison, and what was found there."""

    title: str
    findings: tuple[Finding, ...] = ()


def compare(state: StackState, outputs: Outputs, file: str | None) -> list[Part]:
    """Look at every part, side by side."""
    parts: dict[str, Callable[[], Sequence[Finding]]] = {
        "Cloud": lambda: _cloud(state, file),
        "Machines": lambda: machine_files(state, outputs),
        "GitLab": lambda: gitlab_settings(state, outputs),
        "Projects": lambda: _projects(state, outputs, file),
    }
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(lambda item: _look(*item), parts.items()))


def _look(title: str, look: Callable[[], Sequence[Finding]]) -> Part:
    try:
        return Part(title, tuple(look()))
    except (*FAILURES, RuntimeError) as error:
        reason = " ".join(str(error).split())
        return Part(title, (Finding(f"not compared: {reason}", is_unknown=True),))


def _cloud(state: StackState, file: str | None) -> list[Finding]:
    return [*differences(state, file, [one.urn for one in state.cloud]), *switched_off(state)]


def _projects(state: StackState, outputs: Outputs, file: str | None) -> list[Finding]:
    urns = [one.urn for one in state.resources if one.type.startswith("gitlab:")]
    if not urns:
        return []
    require_gitlab(state, outputs)
    return [*differences(state, file, urns), *pipelines(state, outputs)]


def drift(stack: str | None, *, file: str | None, marks: bool) -> int:
    """Print the report. With `marks`, record in the state what was found, so that the next update puts it right.

    Returns 0 if nothing differs, 2 if something does, and 1 if nothing does but a part could not be compared. With
    `marks` it returns 0 if everything that was found is recorded.

    Raises:
        ToolError: Pulumi cannot read the state.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    state = StackState.of_stack(stack)
    try:
        outputs = Outputs.of_stack(stack) if state.of("Droplet") else None
    except CheckError:
        # An update that has failed early has recorded no outputs.
        outputs = None
    if outputs is None:
        console.print("No server is deployed: there is nothing to compare.")
        return 0
    findings: list[Finding] = []
    for part in compare(state, outputs, file):
        console.print(f"{part.title}:" if part.findings else f"{part.title}: as the stack left it")
        for finding in part.findings:
            console.print(f"  {finding.text}")
        findings += part.findings
    if marks:
        return mark(state, file, findings)
    note_comparison(state, findings)
    differs = any(not finding.is_unknown for finding in findings)
    if differs:
        console.print("make up puts this right. With plain Pulumi: python -m tools drift --mark, then pulumi up")
    return DIFFERS if differs else UNKNOWN if findings else 0
