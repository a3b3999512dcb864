"""Command line of the sandbox: `python -m tests.sandbox …`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tests.sandbox.cloud import lifecycle, namespaces
from tests.sandbox.cloud.health import failures
from tests.sandbox.cloud.processes import run_attached
from tests.sandbox.cloud.stacks import remove_stale_locks
from tests.sandbox.cloud.supervision import Supervisor
from tests.sandbox.cloud.workstation import command_environment, prepare_folders
from tests.sandbox.layout import InstanceNameError, PluginsNameError, current
from tools.progress import ToolError

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
COMMAND = Annotated[list[str], typer.Argument(help="command and its arguments, after --")]


@app.command()
def prepare(
    image: Annotated[list[str] | None, typer.Option(help="machine image to build; can be repeated")] = None,
    tests: Annotated[bool, typer.Option("--tests", help="also what only the tests need")] = False,
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="also Kubernetes, for clusters")] = False,
) -> None:
    """Install or build the tools, packages and machine images of a sandbox. Skips what is there already."""
    # Not at the top: it would delay every other command by half a second.
    from tests.sandbox.cloud.tools import bootstrap  # noqa: PLC0415

    bootstrap.prepare(current(), tuple(image) if image else bootstrap.IMAGES, tests=tests, kubernetes=kubernetes)


@app.command()
def running() -> None:
    """Exit with code 0 if the sandbox is running, healthy or not, else with 1. Prints nothing."""
    raise typer.Exit(0 if namespaces.find(current()) else 1)


@app.command()
def unlock() -> None:
    """Remove the stack locks of Pulumi engines that were killed. Running engines keep theirs."""
    for stack in remove_stale_locks(current(), namespaces.find(current())):
        print(f"stack {stack}: removed the lock of an engine that is no longer running")


@app.command()
def start() -> None:
    """Start the sandbox, or repair a running one, and wait until it is healthy."""
    lifecycle.start(current())


@app.command()
def stop() -> None:
    """Stop the sandbox and remove everything it created. Does nothing if none is running."""
    lifecycle.stop(current())


@app.command()
def status() -> None:
    """Show the state of each service. Exit code 1 unless all are healthy."""
    layout = current()
    init = namespaces.find(layout)
    if init is None:
        print("not running")
        raise typer.Exit(1)
    for name, state in sorted(Supervisor(init, layout).states().items()):
        print(f"{name:20} {state.lower()}")
    found = failures(init, layout)
    for name, reason in found.items():
        print(f"{name:20} does not respond: {reason}")
    raise typer.Exit(1 if found else 0)


@app.command(name="exec", context_settings=PASSED_ON)
def execute(
    command: COMMAND,
    cloud: Annotated[bool, typer.Option(help="inside the cloud instead of on the workstation")] = False,
) -> None:
    """Run a command on the workstation and return its exit code."""
    layout = current()
    init = namespaces.find(layout)
    if init is None:
        raise lifecycle.SandboxError(
            "no sandbox is running: start one with `make up` or `python -m tests.sandbox start`"
        )
    prepare_folders(layout)
    environment = command_environment(layout)
    namespaces.enter(init, None if cloud else namespaces.WORKSTATION)
    sys.exit(run_attached(command, environment))


@app.command()
def shell() -> None:
    """Open a shell on the workstation."""
    execute(["bash"])


@app.command("open")
def browse(
    stack: Annotated[str, typer.Option(help="the stack whose GitLab to open")] = "sandbox",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="port of 127.0.0.1")] = None,
    password: Annotated[bool, typer.Option("--password", help="print the administrator's password as well")] = False,
) -> None:
    """Serve a stack's GitLab to a browser of this machine, on a port of 127.0.0.1, until Ctrl-C."""
    # Not at the top: as above.
    from tests.sandbox.cloud import browsing  # noqa: PLC0415

    raise typer.Exit(browsing.open_gitlab(current(), stack, port, show_password=password))


@app.command()
def logs(name: Annotated[str, typer.Argument(help="name of the service; leave it out to list them")] = "") -> None:
    """Print the log of a service."""
    folder = current().state / "logs"
    if not name:
        print("\n".join(sorted(file.stem for file in folder.glob("*.log"))) or "no logs: no sandbox has been started")
        return
    file = folder / f"{name}.log"
    if not file.exists():
        raise lifecycle.SandboxError(f"there is no log {name!r}: `python -m tests.sandbox logs` lists them")
    sys.stdout.write(file.read_text(errors="replace"))


def main() -> None:
    """Run the command line. Expected errors print one line and exit with code 1."""
    try:
        app()
    except (lifecycle.SandboxError, ToolError, InstanceNameError, PluginsNameError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
