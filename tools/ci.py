"""What the jobs of `.gitlab-ci.yml` run: a preview as a comment, a plan, exactly that plan, and the nightly check.

The plan goes from one job to the next as an artifact. It has the stack's secrets, encrypted as in its state. Beside it
is a fingerprint of the state that it was made from: a plan for another state is refused before anything is touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from typing import Final

from tools import ci_note, plans
from tools.ci_runner import refuse_own_runner
from tools.clients import Outputs
from tools.environment import ROOT
from tools.progress import ToolError, say
from tools.state import StackState

#: `.gitlab-ci.yml` keeps what is in it as an artifact.
FOLDER: Final = ROOT / ".cache" / "ci"
AGAIN: Final = "Start a new pipeline of the default branch (Build > Pipelines > New pipeline), which makes a new plan"


def preview(stack: str) -> int:
    """Show what a merge request would change, and write it on the merge request; the exit code of the preview.

    Raises:
        ToolError: it could not be posted.
    """
    job = ci_note.Job.here()
    command = ["pulumi", "preview", "--stack", stack, "--diff", *plans.POLICY_PACK]
    command += ["--non-interactive", "--color", "never"]
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or []:
            lines.append(line)
            sys.stdout.write(line)
            sys.stdout.flush()
    succeeded = process.returncode == 0
    text = ci_note.body(job, stack, "".join(lines), succeeded=succeeded, secrets=ci_note.secret_values())
    ci_note.publish(job, stack, text)
    return 0 if succeeded else 1


def plan(stack: str) -> None:
    """Show what an update would change, and keep it as the plan for a later job.

    Raises:
        ToolError: the update is refused, or would stop the runner of this job. Nothing is kept then.
    """
    folder = FOLDER / stack
    shutil.rmtree(folder, ignore_errors=True)
    # Before the preview: what changes meanwhile is then a difference.
    fingerprint = fingerprint_of(StackState.of_stack(stack))
    with plans.plan_file(stack) as file:
        plans.preview(stack, file, ["--non-interactive"])
        refuse_own_runner(StackState.of_stack(stack), json.loads(file.read_text(encoding="utf-8")))
        folder.mkdir(mode=0o700, parents=True)
        shutil.copy2(file, folder / "plan.json")
    (folder / "state").write_text(f"{fingerprint}\n", encoding="utf-8")


def apply(stack: str) -> None:
    """Apply the plan of an earlier job of this pipeline, unless the stack has changed since.

    Raises:
        ToolError: there is no plan, it is outdated, or the update failed.
    """
    folder = FOLDER / stack
    try:
        wanted = (folder / "state").read_text(encoding="utf-8").strip()
        content = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ToolError(f"the plan of {stack} is not here: its job failed, or the artifact expired. {AGAIN}") from None
    try:
        state = StackState.of_stack(stack)
        if fingerprint_of(state) != wanted:
            raise ToolError(
                f"{stack} was changed after this plan was made, which is no longer what would happen; this job has "
                f"changed nothing. {AGAIN}"
            )
        refuse_own_runner(state, content)
        say(f"{stack}: applying the plan of commit {os.environ.get('CI_COMMIT_SHORT_SHA', 'HEAD')}")
        plans.apply(stack, folder / "plan.json", again=AGAIN)
    finally:
        shutil.rmtree(folder)


def nightly(stack: str) -> int:
    """Report drift and the age of the last backup; 0 if both are as they should be. Changes nothing.

    Raises:
        ToolError: the state or the backups cannot be read.
    """
    from tools import backup, drift  # noqa: PLC0415 - clients that take a second to load

    say(f"{stack}: drift")
    differs = drift.drift(stack, file=None, marks=False)
    say(f"{stack}: backups")
    if not (Outputs.of_stack(stack).backup or {}).get("max_age_hours"):
        print("This stack makes no backups (backup.enabled).")
        return differs
    return backup.show(stack) or differs


def fingerprint_of(state: StackState) -> str:
    """A short name of everything in a state."""
    text = json.dumps(state.raw.get("deployment"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
