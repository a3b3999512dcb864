"""Command line of the sandbox: `python -m tests.sandbox …`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from tests.sandbox.cloud import lifecycle, namespaces
from tests.sandbox.cloud.health import failures
from tests.sandbox.cloud.stacks import remove_stale_locks
from tests.sandbox.cloud.supervision import Supervisor
from tests.sandbox.cloud.workstation import command_environment, prepare_folders, tool_environment
from tests.sandbox.layout import InstanceNameError, current
from tools.progress import ToolError

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
COMMAND = Annotated[list[str], typer.Argument(help="command and its arguments, after --")]


@app.command()
def prepare(
    tools_only: Annotated[bool, typer.Option(help="only what a real account needs: Pulumi")] = False,
    image: Annotated[list[str] | None, typer.Option(help="machine image, several times for several")] = None,
    tests: Annotated[bool, typer.Option("--tests", help="also what only the tests use")] = False,
) -> None:
    """Have the tools, packages and machine images that a sandbox is made of."""
    # Not at the top: every other command would wait half a second for it.
    from tests.sandbox.cloud.tools import bootstrap  # noqa: PLC0415

    if tools_only:
        bootstrap.prepare_tools(current())
    else:
        bootstrap.prepare(current(), tuple(image) if image else bootstrap.IMAGES, tests=tests)


@app.command()
def running() -> None:
    """Exit code 0 if the sandbox runs, healthy or not, else 1; says nothing."""
    raise typer.Exit(0 if namespaces.find(current()) else 1)


@app.command()
def unlock() -> None:
    """Remove the locks of Pulumi engines that were killed; those that run keep theirs."""
    for stack in remove_stale_locks(current(), namespaces.find(current())):
        print(f"stack {stack}: lock of an ended engine removed")


@app.command(context_settings=PASSED_ON)
def tools(command: COMMAND) -> None:
    """Run a command outside the sandbox, in your own environment, with the tools of this checkout on PATH."""
    sys.exit(namespaces.run_attached(command, os.environ | tool_environment(current())))


@app.command()
def start() -> None:
    """Have a healthy sandbox; fine when one runs."""
    lifecycle.start(current())


@app.command()
def stop() -> None:
    """End the sandbox and remove what it made; fine when none runs."""
    lifecycle.stop(current())


@app.command()
def status() -> None:
    """Say how each service is; exit code 1 unless all are well."""
    layout = current()
    init = namespaces.find(layout)
    if init is None:
        print("not running")
        raise typer.Exit(1)
    for name, state in sorted(Supervisor(init, layout).states().items()):
        print(f"{name:20} {state.lower()}")
    found = failures(init, layout)
    for name, reason in found.items():
        print(f"{name:20} does not answer: {reason}")
    raise typer.Exit(1 if found else 0)


@app.command(name="exec", context_settings=PASSED_ON)
def execute(
    command: COMMAND,
    cloud: Annotated[bool, typer.Option(help="inside the cloud instead of at the workstation")] = False,
) -> None:
    """Run a command at the workstation; its exit code is this one's."""
    layout = current()
    init = namespaces.find(layout)
    if init is None:
        raise lifecycle.SandboxError(
            "no sandbox runs here: start one with `make up` or `python -m tests.sandbox start`"
        )
    prepare_folders(layout)
    environment = command_environment(layout)
    namespaces.enter(init, None if cloud else namespaces.WORKSTATION)
    sys.exit(namespaces.run_attached(command, environment))


@app.command()
def shell() -> None:
    """Open a shell at the workstation."""
    execute(["bash"])


@app.command()
def logs(name: Annotated[str, typer.Argument(help="service; none lists them")] = "") -> None:
    """Print the log of a service."""
    folder = current().state / "logs"
    if not name:
        print("\n".join(sorted(file.stem for file in folder.glob("*.log"))) or "no sandbox, no logs")
        return
    file = folder / f"{name}.log"
    if not file.exists():
        raise lifecycle.SandboxError(f"no log {name!r}: see `python -m tests.sandbox logs`")
    sys.stdout.write(file.read_text(errors="replace"))


def main() -> None:
    """Run the command line; expected mistakes end in one line and exit code 1."""
    try:
        app()
    except (lifecycle.SandboxError, ToolError, InstanceNameError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
