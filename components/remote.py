"""Steps on a machine: scripts that run over a pinned SSH connection, each of them one resource."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi_command import remote

from components.component import Component
from components.rendering import script

#: SSH responds some time after a droplet is active. Attempts are up to 5 s apart, so a boot may take minutes.
BOOT_DIALS: Final = 60
#: Later a machine may still be starting after a resize; a wrong host key is reported after about a minute.
_DIALS: Final = 20
#: Seconds to wait for a step that a killed run has left running on the machine.
_LOCK_SECONDS: Final = 1800


@dataclass(frozen=True)
class Machine:
    """How to reach one machine. Plain data, not a component.

    `host_key` is the public half of the host key that the connection is pinned to: nothing is sent to a machine that
    presents another key. `dials` limits the connection attempts. Scripts wait for everything in `ready`, and are
    deleted with `droplet`.
    """

    address: pulumi.Input[str]
    user: str
    private_key: pulumi.Input[str]
    host_key: pulumi.Input[str]
    droplet: pulumi.CustomResource
    ready: tuple[pulumi.Resource, ...] = ()
    dials: int = _DIALS

    def connection(self) -> remote.ConnectionArgs:
        """Return the arguments of a pinned connection."""
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
    rerun_on: Mapping[str, pulumi.Input[str]] | None = None,
    timeout_seconds: int,
    depends_on: Sequence[pulumi.Resource] = (),
    libraries: Sequence[str] = (),
    ignore_changes: list[str] | None = None,
) -> remote.Command:
    """Run `files/<file>` as root on `machine`: once, and again whenever the script or one of its values changes.

    Script and values are sent on standard input, so they appear in no command line, no file of the machine and no
    error message; and a change of either updates this resource, which runs the script again. Scripts are idempotent
    for that reason. On a replaced machine nothing has run yet, so the droplet's ID is the trigger.

    `values` become shell variables (not environment variables) of the script. `rerun_on` names values that the script
    does not use, but whose change runs it again: they are sent as a comment, because `triggers` would replace the
    resource. Standard error is shown while the script runs; standard output is the resource's result, kept secret.
    `ignore_changes` names inputs whose change does not run it again; `libraries` are files with functions that the
    script uses.

    Raises:
        FileNotFoundError: there is no such script.
    """
    return remote.Command(
        parent.child_name(suffix),
        connection=machine.connection(),
        # `flock` alone holds the lock, not what a script starts; waiting for it does not count against the timeout.
        create=(
            f"sudo flock --close --wait {_LOCK_SECONDS} /run/slipway.lock "
            f"timeout --kill-after=30 {timeout_seconds} bash -s"
        ),
        stdin=pulumi.Output.all(
            values=pulumi.Output.all(LIMIT_SECONDS=str(timeout_seconds), **values),
            rerun_on=pulumi.Output.from_input(dict(rerun_on or {})),
        ).apply(lambda known: _standard_input([*libraries, file], **known)),
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


def _standard_input(files: Sequence[str], values: Mapping[str, str], rerun_on: Mapping[str, str]) -> str:
    assignments = [f"{name}={shlex.quote(value)}" for name, value in sorted(values.items())]
    # JSON, because a comment ends at the first line break.
    comments = [f"# Runs again with another {name}: {json.dumps(value)}" for name, value in sorted(rerun_on.items())]
    # The whole script is read before `main` starts, so that no program inside it can read the rest of it as input.
    bodies = [script(file) for file in files]
    return "\n".join([script("prelude.sh"), *assignments, *comments, *bodies, "main </dev/null", ""])
