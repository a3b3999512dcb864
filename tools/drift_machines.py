"""Files on the machines, compared with what the stack's steps have written there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.ci_runner import of_own_runner
from tools.clients import CheckError, Outputs, run
from tools.findings import Finding
from tools.machines import Machine, machines_of
from tools.progress import say
from tools.state import Resource, StackState

#: Read-only; prints a line for each file that differs.
_SCRIPT = Path(__file__).with_name("check-files.sh")
_LIMIT_SECONDS = 60


def machine_files(state: StackState, outputs: Outputs) -> list[Finding]:
    """Every file that differs, on every machine; a machine that cannot be reached is named.

    Jobs are kept from the machine that they run on (`job-firewall.sh`). In one, that machine is left out.
    """
    found = []
    own = {one.name.removesuffix("-droplet") for one in of_own_runner(state) if one.noun == "Droplet"}
    for target in machines_of(state, outputs):
        try:
            found += list(_differing(state, target, _checked(target, outputs)))
        except (CheckError, OSError, subprocess.SubprocessError) as error:
            if target.prefix in own:
                say(f"{target.name}: left out, because this job runs there, and jobs cannot reach their machine")
                own.clear()
                continue
            reason = " ".join(str(error).split())
            found.append(Finding(f"{target.name} ({target.address}): not compared: {reason}", is_unknown=True))
    return found


def _checked(target: Machine, outputs: Outputs) -> list[str]:
    with target.pinned(outputs).ssh_files() as options:
        user = outputs.values["server_ssh_user"]
        script = _SCRIPT.read_text(encoding="utf-8")
        command = ["ssh", *options, f"{user}@{target.address}", f"sudo timeout {_LIMIT_SECONDS} bash -s"]
        return run(*command, stdin=script, timeout=2 * _LIMIT_SECONDS).splitlines()


def _differing(state: StackState, target: Machine, lines: list[str]) -> Iterator[Finding]:
    steps: dict[str, Resource] = {one.name: one for one in state.resources if one.noun == "Command"}
    if not lines:
        yield Finding(
            f"{target.name}: not compared: its files were written by an earlier version of the program, which took no "
            "note of them; run an update first",
            is_unknown=True,
        )
    for line in lines:
        step, path, how = line.split("\t")
        if how == "ok" or step not in steps:
            continue
        yield Finding(f"{target.name}: {path} {how} (step {step})", repeat=(steps[step].urn,))
