"""What an operator's machine runs besides Pulumi: the tools themselves, and a look at what is deployed."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from tools import pulumi
from tools.environment import TOOLS, tool_environment
from tools.progress import ToolError

app = typer.Typer(
    name="python -m tools", help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
COMMAND = Annotated[list[str], typer.Argument(help="The command and its arguments, after --.")]
FILE = Annotated[str | None, typer.Option("--config-file", help="The stack file, if it is not in stacks/.")]
STACK = Annotated[str | None, typer.Option(help="The stack to use; by default the one that is selected.")]


@app.command()
def prepare() -> None:
    """Install the Pulumi CLI and the plugins of the program. What is already there stays."""
    pulumi.install(TOOLS)


@app.command("exec", context_settings=PASSED_ON)
def execute(command: COMMAND) -> None:
    """Become a command, in your own environment with the tools of this checkout on PATH."""
    try:
        os.execvpe(command[0], command, os.environ | tool_environment())  # noqa: S606 - a shell would add nothing
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(127) from error


# Those below import their modules late: GitLab's and Amazon's clients take a second to load.


@app.command()
def verify(stack: STACK = None) -> None:
    """Measure, from outside, that an installation is what it should be."""
    from tools import verify as module  # noqa: PLC0415

    raise typer.Exit(module.verify(stack))


@app.command()
def demo(
    stack: STACK = None, yes: Annotated[bool, typer.Option("--yes", help="Commit without asking.")] = False
) -> None:
    """Commit a change, watch its pipeline, and run the image that it releases."""
    from tools import demo as module  # noqa: PLC0415

    raise typer.Exit(module.demo(stack, confirmed=yes))


@app.command()
def bench(
    stack: Annotated[str, typer.Option(help="The stack whose settings the benchmark's own stack starts from.")],
    repeats: Annotated[int, typer.Option(min=1, max=9, help="Builds after a change; their median counts.")] = 3,
) -> None:
    """Compare our pipeline with the walk-through's file, in a stack that is destroyed afterwards."""
    from tools import bench as module  # noqa: PLC0415

    raise typer.Exit(module.bench(stack, repeats))


@app.command("renew-token")
def renew_token(stack: STACK = None) -> None:
    """Replace the stack's API token if GitLab does not accept it, as `pulumi refresh` needs it."""
    from tools import api_token  # noqa: PLC0415

    api_token.renew(stack)


@app.command(context_settings={"ignore_unknown_options": True})
def down(
    stack: STACK = None,
    file: FILE = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    options: Annotated[list[str] | None, typer.Argument(help="Options for pulumi destroy.")] = None,
) -> None:
    """Destroy a stack, whatever state it is in; says what is kept, and what that costs."""
    from tools import down as module  # noqa: PLC0415

    raise typer.Exit(module.down(stack, options or [], file=file, confirmed=yes))


@app.command()
def strays(
    stack: Annotated[str | None, typer.Option(help="Only what carries the name of this stack.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete everything that is listed, without asking.")] = False,
) -> None:
    """List what carries the project's name in the account and is in no stack's state; exits with 2 if there is any."""
    from tools import strays as module  # noqa: PLC0415

    raise typer.Exit(module.strays(stack, confirmed=yes))


def main() -> None:
    """Run the command line; expected failures end in one line and exit code 1."""
    try:
        app()
    except ToolError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
