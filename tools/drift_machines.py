"""Files on the machines, compared with what the stack's steps have written there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.clients import CheckError, Outputs, run
from tools.findings import Finding
from tools.state import Resource, StackState

#: Read-only; prints a line for each file that differs.
_SCRIPT = Path(__file__).with_name("check-files.sh")
_LIMIT_SECONDS = 60
_HOST_KEY = "-host-keys-lasting"


@dataclass(frozen=True)
class Target:
    """A machine of the stack. `prefix` begins the logical names of its resources."""

    prefix: str
    name: str
    address: str
    host_key: str


def machine_files(state: StackState, outputs: Outputs) -> list[Finding]:
    """Every file that differs, on every machine; a machine that cannot be reached is named."""
    found = []
    for target in _targets(state, outputs):
        try:
            found += list(_differing(state, target, _checked(target, outputs)))
        except (CheckError, OSError, subprocess.SubprocessError) as error:
            reason = " ".join(str(error).split())
            found.append(Finding(f"{target.name} ({target.address}): not compared: {reason}", is_unknown=True))
    return found


def _targets(state: StackState, outputs: Outputs) -> Iterator[Target]:
    keys = {
        one.name.removesuffix(_HOST_KEY): str(one.values.get("publicKeyOpenssh", "")).strip()
        for one in state.resources
        if one.name.endswith(_HOST_KEY)
    }
    for droplet in state.of("Droplet"):
        prefix = droplet.name.removesuffix("-droplet")
        address = outputs.address if prefix == "server" else str(droplet.values.get("ipv4Address"))
        if not droplet.is_pending and prefix in keys:
            yield Target(prefix, str(droplet.values.get("name")), address, keys[prefix])


def _checked(target: Target, outputs: Outputs) -> list[str]:
    pinned = Outputs({**outputs.values, "server_address": target.address, "server_ssh_host_key": target.host_key})
    with pinned.ssh_files() as options:
        user = outputs.values["server_ssh_user"]
        script = _SCRIPT.read_text(encoding="utf-8")
        command = ["ssh", *options, f"{user}@{target.address}", f"sudo timeout {_LIMIT_SECONDS} bash -s"]
        return run(*command, stdin=script, timeout=2 * _LIMIT_SECONDS).splitlines()


def _differing(state: StackState, target: Target, lines: list[str]) -> Iterator[Finding]:
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
