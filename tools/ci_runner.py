"""The runner that a job runs on, as the stack that it updates may know it: its own GitLab's, on its own machines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tools.clients import CheckError, Outputs
from tools.progress import ToolError
from tools.state import Resource, StackState

_HARMLESS: Final = frozenset({"same", "read", "refresh"})


def refuse_own_runner(state: StackState, plan: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a plan that changes the runner which runs this job: the job would end in the middle of the update.

    Raises:
        ToolError: it does; names what it changes.
    """
    changed = [f"{steps} {one.name}" for one in of_own_runner(state, environment) if (steps := _steps(plan, one))]
    if changed:
        raise ToolError(
            f"the plan changes runner #{environment['CI_RUNNER_ID']}, which runs this job and would stop it in the "
            f"middle of the update ({', '.join(changed)}); nothing was changed. Apply it from a workstation with make "
            f"up STACK={state.stack}, or by a pipeline on a runner that is not the stack's own"
        )


def of_own_runner(state: StackState, environment: Mapping[str, str] = os.environ) -> Iterator[Resource]:
    """Everything that the runner of this job consists of, if this is a job and the runner belongs to the stack."""
    runners = [
        one
        for one in state.resources
        if one.type == "gitlab:index/userRunner:UserRunner" and one.id == environment.get("CI_RUNNER_ID", "")
    ]
    # Other installations of GitLab have runners with the same numbers.
    if not runners or not _is_own_gitlab(state, environment):
        return
    above = {one.urn: str(one.raw.get("parent") or "") for one in state.resources}
    component = above[runners[0].urn]
    for one in state.resources:
        if one.raw.get("custom") and component in _ancestors(one.urn, above):
            yield one


def _is_own_gitlab(state: StackState, environment: Mapping[str, str]) -> bool:
    try:
        return Outputs.of_stack(state.stack).url == environment.get("CI_SERVER_URL", "").rstrip("/")
    except CheckError:
        # Without outputs there is no GitLab that could run this.
        return False


def _ancestors(urn: str, above: Mapping[str, str]) -> Iterator[str]:
    while urn := above.get(urn, ""):
        yield urn


def _steps(plan: Mapping[str, Any], resource: Resource) -> str:
    steps = ((plan.get("resourcePlans") or {}).get(resource.urn) or {}).get("steps") or []
    return ", ".join(step for step in steps if step not in _HARMLESS)
