"""Steps on a machine: scripts that run over a pinned SSH connection, one node of the graph each."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi_command import remote

from components.component import Component
from components.rendering import script

#: SSH answers some time after a machine is active. Dials are up to 5 s apart, so this many give a boot minutes.
BOOT_DIALS: Final = 60
#: Later on a machine may be on its way up from a resize; one with another host key is told after a minute.
_DIALS: Final = 20
#: Seconds that a step waits for one that a killed run has left behind.
_LOCK_SECONDS: Final = 1800


@dataclass(frozen=True)
class Machine:
    """How to reach one machine, and what its things die with.

    `host_key` is the public half of the host key that the connection is pinned to: a machine that answers with
    another key is refused before anything is sent to it. `dials` is how often a connection is tried.
    """

    address: pulumi.Input[str]
    user: str
    private_key: pulumi.Input[str]
    host_key: pulumi.Input[str]
    droplet: pulumi.CustomResource
    ready: tuple[pulumi.Resource, ...] = ()
    dials: int = _DIALS

    def connection(self) -> remote.ConnectionArgs:
        """The arguments of a pinned connection."""
        return remote.ConnectionArgs(
            host=self.address,
            user=self.user,
            private_key=self.private_key,
            host_key=pulumi.Output.from_input(self.host_key).apply(str.strip),
            dial_error_limit=self.dials,
        )


def run_script(
    parent: Component,
    suffix: str,
    *,
    machine: Machine,
    file: str,
    values: Mapping[str, pulumi.Input[str]],
    timeout_seconds: int,
    depends_on: Sequence[pulumi.Resource] = (),
    libraries: Sequence[str] = (),
    ignore_changes: list[str] | None = None,
) -> remote.Command:
    """Run `files/<file>` as root on `machine`: once, and again whenever the script or one of `values` changes.

    The script and its values travel on standard input. So they are in no command line, no file of the machine and no
    error message; and a change of either is an update of this node, which runs the script again. Scripts are
    idempotent for that reason. A machine that was replaced has none of their effects: its id is the trigger.

    `values` become shell variables (not environment variables) of the script. What it says on standard error is shown
    while it runs; its standard output is the node's result and is kept secret. `ignore_changes` names inputs whose
    changes do not run it again; `libraries` are files with functions that the script uses.

    Raises:
        FileNotFoundError: there is no such script.
    """
    return remote.Command(
        parent.child_name(suffix),
        connection=machine.connection(),
        # The lock is held by `flock` alone and not by what a script starts; waiting for it does not count as work.
        create=(
            f"sudo flock --close --wait {_LOCK_SECONDS} /run/slipway.lock "
            f"timeout --kill-after=30 {timeout_seconds} bash -s"
        ),
        stdin=pulumi.Output.all(LIMIT_SECONDS=str(timeout_seconds), **values).apply(
            lambda resolved: _standard_input([*libraries, file], resolved)
        ),
        triggers=[machine.droplet.id],
        logging=remote.Logging.STDERR,
        add_previous_output_in_env=False,
        opts=parent.child_options(
            depends_on=[*machine.ready, *depends_on],
            deleted_with=machine.droplet,
            additional_secret_outputs=["stdout", "stderr"],
            ignore_changes=ignore_changes,
        ),
    )


def _standard_input(files: Sequence[str], values: Mapping[str, str]) -> str:
    assignments = [f"{name}={shlex.quote(value)}" for name, value in sorted(values.items())]
    # The whole script is read before `main` starts: a program inside it that reads standard input cannot eat the rest.
    bodies = [script(file) for file in files]
    return "\n".join([script("prelude.sh"), *assignments, *bodies, "main </dev/null", ""])
