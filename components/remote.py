"""Steps on a machine: scripts that run over a pinned SSH connection, each of them one resource."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pulumi
import pulumi_random as random
from pulumi_command import remote

from components.component import Component
from components.rendering import script

#: SSH responds some time after a droplet is active. Attempts are up to 5 s apart, so a boot may take minutes.
BOOT_DIALS: Final = 60
#: Later a machine may still be starting after a resize; a wrong host key is reported after about a minute.
_DIALS: Final = 20
#: Seconds to wait for a step that a killed run has left running on the machine.
_LOCK_SECONDS: Final = 1800
#: Status of `flock` when it has waited for so long. It says nothing then, so a comment does, which is in every message.
_STILL_LOCKED: Final = 75
#: `flock` alone holds the lock, not what a script starts.
_LOCKED: Final = f"sudo flock --close --wait {_LOCK_SECONDS} --conflict-exit-code {_STILL_LOCKED} /run/slipway.lock"


@dataclass(frozen=True)
class Machine:
    """How to reach one machine. Plain data, not a component.

    `host_key` is the public half of the host key that the connection is pinned to: nothing is sent to a machine that
    presents another key. `dials` limits the connection attempts. Scripts wait for everything in `ready`, and are
    deleted with `droplet`. `data` changes whenever the machine's data was taken away and is back: what keeps its data
    there has to run again.
    """

    address: pulumi.Input[str]
    user: str
    private_key: pulumi.Input[str] = field(repr=False)
    host_key: pulumi.Input[str]
    droplet: pulumi.CustomResource
    ready: tuple[pulumi.Resource, ...] = ()
    dials: int = _DIALS
    data: pulumi.Input[str] = ""

    def connection(self) -> remote.ConnectionArgs:
        """Return the arguments of a pinned connection."""
        return remote.ConnectionArgs(
            host=self.address,
            user=self.user,
            private_key=self.private_key,
            host_key=pulumi.Output.from_input(self.host_key).apply(str.strip),
            dial_error_limit=self.dials,
        )


@dataclass(frozen=True)
class MaskedFile:
    """A file with secrets in it: its `content`, which is secret, and what a preview shows of it.

    `shown` is the same file, rendered with `MASK` in place of each secret. Nothing is masked afterwards, so no escaped
    form of a secret can be overlooked.
    """

    content: pulumi.Input[str]
    shown: pulumi.Input[str]


#: What stands for a secret in a file that a preview shows.
MASK: Final = "[secret]"


class RenderedStep(Component):
    """What a step with secrets sends to its machine, readable in a preview.

    Pulumi hides a whole string if a part of it is secret, and a step's standard input is one string. So each value is
    an input of this component: a changed file appears with its changed lines, and a changed secret by its name. Owns
    nothing else, and nothing on any machine.
    """

    def __init__(self, name: str, inputs: Mapping[str, pulumi.Input[str]], opts: pulumi.ResourceOptions) -> None:
        """Register the inputs; those that are secret stay encrypted in the state."""
        super().__init__("RenderedStep", name, opts, inputs)
        self.register_outputs({})


def run_script(
    parent: Component,
    suffix: str,
    *,
    machine: Machine,
    file: str,
    values: Mapping[str, pulumi.Input[str]],
    secrets: Mapping[str, pulumi.Input[str] | MaskedFile] | None = None,
    rerun_on: Mapping[str, pulumi.Input[str]] | None = None,
    timeout_seconds: int,
    depends_on: Sequence[pulumi.Resource] = (),
    libraries: Sequence[str] = (),
    ignore_changes: list[str] | None = None,
    delete: str | None = None,
) -> remote.Command:
    """Run `files/<file>` as root on `machine`: once, and again whenever the script or one of its values changes.

    Script and values are sent on standard input, so they appear in no command line, no file of the machine and no
    error message; and a change of either updates this resource, which runs the script again. Scripts are idempotent
    for that reason. On a replaced machine nothing has run yet, so the droplet's ID is the trigger. A step that has
    failed runs again, whatever its values are by then (see `_attempt`).

    `values` and `secrets` become shell variables (not environment variables) of the script; so does the logical name,
    as `STEP`, under which the machine notes what the script writes. With `secrets`, Pulumi hides all of standard input,
    so a `RenderedStep` shows the rest of it at preview. `rerun_on` names values that the script does not use, but whose
    change runs it again: they are sent as a comment, because `triggers` would replace the resource. Standard error is
    shown while the script runs; standard output is the resource's result, kept secret. `ignore_changes` names inputs
    whose change does not run it again; `libraries` are files with functions that the script uses. `delete` is a command
    line that runs as root when the step leaves the graph and its machine stays, and no step runs there.

    Raises:
        FileNotFoundError: there is no such script.
    """
    files, hidden, step = [*libraries, file], dict(secrets or {}), parent.child_name(suffix)
    # A step that ignores its input has nothing to repeat, and a preview of it would show nothing.
    runs_once = "stdin" in (ignore_changes or ())
    if hidden and not runs_once:
        rendered = _shown(files, values, hidden, rerun_on or {})
        RenderedStep(f"{step}-rendered", rendered, parent.child_options())
    stdin = pulumi.Output.all(
        values=pulumi.Output.all(LIMIT_SECONDS=str(timeout_seconds), STEP=step, **values, **_contents(hidden)),
        rerun_on=pulumi.Output.from_input(dict(rerun_on or {})),
    ).apply(lambda known: _standard_input(files, **known))
    attempt = "once" if runs_once else _attempt(parent, step, machine, stdin).hex
    return remote.Command(
        step,
        connection=machine.connection(),
        create=_command_line(step, timeout_seconds, attempt),
        stdin=stdin,
        delete=f"{_LOCKED} bash -c {shlex.quote(delete)}" if delete else None,
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


def _command_line(step: str, timeout_seconds: int, attempt: pulumi.Input[str]) -> pulumi.Output[str]:
    """What runs on the machine. It is in the error message, so the step's name is in it for people."""
    return pulumi.Output.concat(
        # Waiting for the lock does not count against the timeout.
        f"{_LOCKED} timeout --kill-after=30 {timeout_seconds} bash -s -- {shlex.quote(step)} ",
        attempt,
        f" # status {_STILL_LOCKED}: an earlier step still runs there",
    )


def _attempt(parent: Component, step: str, machine: Machine, stdin: pulumi.Output[str]) -> random.RandomId:
    """Declare a number that changes whenever the step is about to get another input, and before it does.

    The engine keeps the old inputs of a step that has failed. If they were set again, nothing would have changed for
    it, and the machine would stay as the failed run has left it. The number of that run is in the state by then, and
    not in the step's inputs: another one follows it, whichever inputs are next.
    """
    sent = pulumi.Output.all(stdin, machine.address, machine.user, machine.private_key, machine.host_key)
    digest: pulumi.Output[str] = pulumi.Output.secret(
        sent.apply(lambda known: hashlib.sha256(json.dumps(known).encode()).hexdigest())
    )
    return random.RandomId(
        f"{step}-attempt",
        byte_length=4,
        keepers={"input": digest},
        opts=parent.child_options(),
    )


def _contents(secrets: Mapping[str, pulumi.Input[str] | MaskedFile]) -> dict[str, pulumi.Output[str]]:
    return {
        name: pulumi.Output.secret(one.content if isinstance(one, MaskedFile) else one) for name, one in secrets.items()
    }


def _shown(
    files: Sequence[str],
    values: Mapping[str, pulumi.Input[str]],
    secrets: Mapping[str, pulumi.Input[str] | MaskedFile],
    rerun_on: Mapping[str, pulumi.Input[str]],
) -> dict[str, pulumi.Input[str]]:
    """The inputs of `RenderedStep`: the script, each value by its name, and files with their secrets masked."""
    masked = {name: one.shown for name, one in secrets.items() if isinstance(one, MaskedFile)}
    return {
        "script": "\n".join(script(file) for file in ["prelude.sh", *files]),
        **rerun_on,
        **values,
        **_contents(secrets),
        **masked,
    }


def _standard_input(files: Sequence[str], values: Mapping[str, str], rerun_on: Mapping[str, str]) -> str:
    assignments = [f"{name}={shlex.quote(value)}" for name, value in sorted(values.items())]
    # JSON, because a comment ends at the first line break.
    comments = [f"# Runs again with another {name}: {json.dumps(value)}" for name, value in sorted(rerun_on.items())]
    # The whole script is read before `main` starts, so that no program inside it can read the rest of it as input.
    bodies = [script(file) for file in files]
    return "\n".join([script("prelude.sh"), *assignments, *comments, *bodies, "main </dev/null", ""])
