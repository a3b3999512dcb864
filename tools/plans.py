"""Updates by a plan: what a preview has shown is applied, and nothing else.

Pulumi saves a preview as a plan and holds an update to it: other inputs, operations or resources are refused. The file
has the secrets of the stack, encrypted as in its state, and is readable by its owner alone. It is deleted afterwards.

Pulumi's message about a value that differs from the plan has that value in it, secrets included (`PlanDiff.MakeError`
in its `pkg/resource/deploy/plan.go`, 3.259.0). So the output of such an update ends here at the first of them.

Pulumi cannot hold every update to its plan. A provider whose configuration is not known at preview, such as that of a
GitLab which is still to be created, does not check the inputs of its resources then. Once it does, it adds its
defaults, and these count as changes (pulumi/pulumi#11012). Such an update is applied as it was shown, without the plan.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.prompt import Confirm

from tools import processes
from tools.environment import POLICIES, ROOT
from tools.progress import ToolError, say

FOLDER: Final = ROOT / ".cache" / "plans"
#: Policies are checked before there is a plan: an update that they would stop half way is never begun.
POLICY_PACK: Final = ("--policy-pack", str(POLICIES))
#: How a plan writes a value that is not known yet (`plugin.UnknownStringValue`).
_UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_VIOLATION: Final = re.compile(r"(?:resource (?P<urn>urn:\S+) )?(?:resource )?violates plan|no plan for resource")


@contextmanager
def plan_file(stack: str) -> Iterator[Path]:
    """A file for the plan of a stack, which only its owner can read, until the end of the block."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    FOLDER.chmod(0o700)
    file = FOLDER / f"{stack}.{os.getpid()}.json"
    try:
        # Pulumi keeps the mode of a file that is there.
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield file
    finally:
        file.unlink(missing_ok=True)


def preview(stack: str, plan: Path, options: Sequence[str] = ()) -> None:
    """Show what an update would change, and save it as a plan.

    Raises:
        ToolError: Pulumi or the program refuses the update; nothing was changed.
    """
    command = ["pulumi", "preview", "--stack", stack, "--diff", *POLICY_PACK, "--save-plan", str(plan), *options]
    if processes.run_attached(command, os.environ) != 0:
        raise ToolError(f"the preview of {stack} failed (see above); nothing was changed")


def apply(stack: str, plan: Path, options: Sequence[str] = (), *, again: str = "") -> None:
    """Apply a plan. `again` says how to get a new one, if that is not `make up`.

    Raises:
        ToolError: the update failed, or no longer matches the plan. What was changed before that stays.
    """
    command = ["pulumi", "up", "--stack", stack, "--yes", "--skip-preview", "--non-interactive", *options]
    if late := late_providers(plan):
        say(f"{stack}: {', '.join(late)} can check inputs only during the update, which is not held to the plan")
    else:
        command += ["--plan", str(plan)]
    out, err = subprocess.PIPE, subprocess.STDOUT
    with (
        processes.interrupts_are_the_commands(),
        subprocess.Popen(command, stdout=out, stderr=err, text=True, errors="replace") as process,
    ):
        violation = _print_until_violation(process.stdout or [])
    if violation is not None:
        raise ToolError(
            f"{violation} is not as in the plan that was shown: the stack file, the program or the stack changed in "
            f"between, and the update was stopped. {again or f'Run make up STACK={stack}, which shows a new plan'}"
        )
    if process.returncode != 0:
        then = again or f"Then run: make up STACK={stack}"
        raise ToolError(f"the update of {stack} failed (see above). Fix the cause. {then}")


def late_providers(plan: Path) -> list[str]:
    """The providers whose configuration the preview did not know, by name: their resources would violate the plan."""
    resources = json.loads(plan.read_text(encoding="utf-8")).get("resourcePlans") or {}
    providers = {urn: one for urn, one in resources.items() if "::pulumi:providers:" in urn}
    late = [urn for urn, one in providers.items() if _UNKNOWN in json.dumps((one.get("goal") or {}).get("inputDiff"))]
    return sorted(urn.rsplit("::", 1)[-1] for urn in late)


def _print_until_violation(lines: Iterable[str]) -> str | None:
    """Print the lines of an update up to the first one about the plan; returns the resource that it is about."""
    violation = None
    for line in lines:
        found = _VIOLATION.search(line)
        if found and violation is None:
            violation = (found["urn"] or "a resource").rsplit("::", 1)[-1]
        if violation is None:
            sys.stdout.write(line)
            sys.stdout.flush()
    return violation


def confirm(stack: str) -> bool:
    """Ask whether the plan is to be applied.

    Raises:
        ToolError: there is nobody to ask.
    """
    try:
        return Confirm.ask(f"Apply exactly this plan to {stack}?", default=False)
    except EOFError:
        message = "there is no terminal to ask for a yes, so nothing was changed. To apply without asking: ARGS=--yes"
        raise ToolError(message) from None


def update(stack: str, options: Sequence[str], *, confirmed: bool) -> None:
    """Show a plan for a stack, ask unless it is `confirmed`, and apply exactly that plan.

    Raises:
        ToolError: it was refused, declined, or failed.
    """
    with plan_file(stack) as plan:
        preview(stack, plan, options)
        if not (confirmed or confirm(stack)):
            raise ToolError("nothing was changed")
        say(f"{stack}: applying the plan")
        apply(stack, plan, options)
