"""What an operator's machine runs besides Pulumi: the tools themselves, and a look at what is deployed."""

from __future__ import annotations

import contextlib
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tools import pulumi
from tools.environment import ROOT, TOOLS, tool_environment
from tools.progress import ToolError

app = typer.Typer(
    name="python -m tools", help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
COMMAND = Annotated[list[str], typer.Argument(help="The command and its arguments, after --.")]
FILE = Annotated[str | None, typer.Option("--config-file", help="The stack file, if it is not in stacks/.")]
STACK = Annotated[str | None, typer.Option(help="The stack to use; by default the one that is selected.")]


class HostKey(StrEnum):
    """Which SSH host key a server has after a restore."""

    KEEP = "keep"
    TAKE = "take"


class Part(StrEnum):
    """What has logs."""

    GITLAB = "gitlab"
    REGISTRY = "registry"
    RUNNER = "runner"
    TARGET = "target"
    JOB = "job"
    BACKUP = "backup"


@app.command()
def prepare() -> None:
    """Install the Pulumi CLI and the plugins of the program. What is already there stays."""
    # Standard output is that of the command that follows.
    with contextlib.redirect_stdout(sys.stderr):
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
def verify(
    stack: STACK = None,
    available: Annotated[
        bool, typer.Option("--available", help="Leave out, and name, checks whose programs cannot be run here.")
    ] = False,
    all_ports: Annotated[
        bool, typer.Option("--all-ports", help="Scan all 65535 ports of the server, with nmap and the rights of root.")
    ] = False,
) -> None:
    """Measure, from outside, that an installation is what it should be."""
    from tools import verify as module  # noqa: PLC0415

    raise typer.Exit(module.verify(stack, available=available, all_ports=all_ports))


@app.command()
def status(
    stack: STACK = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    within: Annotated[float, typer.Option(min=1, help="Seconds for all of it; more where the network is slow.")] = 5,
) -> None:
    """Print the state of an installation in seconds; exits with 2 if a part fails, with 1 if one cannot be asked."""
    from tools import status as module  # noqa: PLC0415

    raise typer.Exit(module.status(stack, as_json=as_json, within=within))


@app.command("open")
def browse(
    stack: STACK = None,
    password: Annotated[bool, typer.Option("--password", help="Print the administrator's password as well.")] = False,
) -> None:
    """Open GitLab in the browser, and print the user to sign in as."""
    from tools import browse as module  # noqa: PLC0415

    module.browse(stack, show_password=password)


@app.command()
def summary(
    stack: STACK = None,
    arguments: Annotated[str, typer.Option(help="What make commands for this stack need, such as STACK=dev.")] = "",
) -> None:
    """Print what there is now, where to look at it, and what to type next."""
    from tools import summary as module  # noqa: PLC0415

    module.summary(stack, arguments)


@app.command()
def logs(
    part: Annotated[Part, typer.Argument(help="What to show.")],
    stack: STACK = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option(min=1, help="The last lines of each log.")] = 50,
    job: Annotated[int | None, typer.Option(help="The ID of a job; by default the last one.")] = None,
) -> None:
    """Print the logs of GitLab, the registry, the runners, the backups, what runs on droplets, or of a job."""
    from tools import logs as module  # noqa: PLC0415

    raise typer.Exit(module.logs(stack, module.Wish(part, lines, follow, job)))


@app.command()
def rollback(
    project: Annotated[str, typer.Option(help="The project, by its path.")],
    environment: Annotated[str, typer.Option(help="The environment, by its name.")],
    stack: STACK = None,
    to: Annotated[str | None, typer.Option(help="A pipeline's ID or a digest; by default what ran before.")] = None,
) -> None:
    """Deploy again what an environment ran earlier, by the job that deployed it."""
    from tools import rollback as module  # noqa: PLC0415

    raise typer.Exit(module.rollback(stack, module.Wish(project, environment, to or None)))


@app.command()
def demo(
    stack: STACK = None, yes: Annotated[bool, typer.Option("--yes", help="Commit without asking.")] = False
) -> None:
    """Commit a change, watch its pipeline, and run the image that it releases."""
    from tools import demo as module  # noqa: PLC0415

    module.demo(stack, confirmed=yes)


@app.command()
def bench(
    stack: Annotated[str, typer.Option(help="The stack whose settings the benchmark's own stack starts from.")],
    repeats: Annotated[int, typer.Option(min=1, max=9, help="Builds after a change; their median counts.")] = 3,
    kubernetes: Annotated[bool, typer.Option(help="Compare a cluster with a machine as well.")] = False,
    record: Annotated[bool, typer.Option(help="Keep the ratios, for comparison with the next run.")] = False,
) -> None:
    """Compare our pipeline with the walk-through's file, in a stack that is destroyed afterwards."""
    from tools import bench as module  # noqa: PLC0415

    raise typer.Exit(module.bench(stack, repeats, kubernetes=kubernetes, recorded=record))


@app.command()
def backup(stack: STACK = None) -> None:
    """Make a backup now, and follow it."""
    from tools import backup as module  # noqa: PLC0415

    module.create(stack)


@app.command()
def backups(stack: STACK = None) -> None:
    """List the backups of a stack: age, version, size."""
    from tools import backup as module  # noqa: PLC0415

    raise typer.Exit(module.show(stack))


@app.command()
def restore(  # noqa: PLR0917 - typer's way to declare options
    source: Annotated[str, typer.Option("--from", help="latest, an ID, or STACK:ID for that of another stack.")],
    stack: STACK = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keys: Annotated[
        Path | None, typer.Option(help="Output `backup` of a stack that is gone, as JSON: where its backups are.")
    ] = None,
    host_key: Annotated[
        HostKey, typer.Option(help="keep the server's SSH host key, or take over that of the backup.")
    ] = HostKey.KEEP,
    discard_present: Annotated[
        bool, typer.Option("--discard-present", help="Do not save the present state first.")
    ] = False,
    config_file: Annotated[Path | None, typer.Option(help="The stack file, if it is not in stacks/.")] = None,
) -> None:
    """Restore a backup into a stack. Nothing is overwritten before the backup is there and has been checked."""
    from tools import restore as module  # noqa: PLC0415

    wish = module.Wish(source, keys, host_key, discard_present, config_file)
    raise typer.Exit(module.restore(stack, wish, confirmed=yes))


@app.command()
def new(
    stack: Annotated[str, typer.Option(help="The name of the new stack.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="A setting; can be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a stack file that exists.")] = False,
) -> None:
    """Write the stack file of a new environment; asks for what has no default, if there is a terminal."""
    from tools import new as module  # noqa: PLC0415

    ask = module.ask_a_person if sys.stdin.isatty() else None
    file = module.new(stack, settings or [], force=force, ask=ask).relative_to(ROOT)
    print(f"{file}: written. Add projects and runners to it. Next: make preview STACK={stack}")


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
def drift(
    stack: STACK = None,
    file: FILE = None,
    mark: Annotated[bool, typer.Option("--mark", help="Record it, so that the next update puts it right.")] = False,
) -> None:
    """Report what differs between a stack and reality; exits with 2 if anything does, 1 if a part is not known."""
    from tools import drift as module  # noqa: PLC0415

    raise typer.Exit(module.drift(stack, file=file, marks=mark))


@app.command()
def strays(
    stack: Annotated[str | None, typer.Option(help="Only what carries the name of this stack.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete everything that is listed, without asking.")] = False,
) -> None:
    """List what carries the project's name in the account and is in no stack's state; exits with 2 if there is any."""
    from tools import strays as module  # noqa: PLC0415

    raise typer.Exit(module.strays(stack, confirmed=yes))


@app.command()
def repair(
    stack: Annotated[str, typer.Option(help="The stack whose update was interrupted.")],
    file: Annotated[Path | None, typer.Option("--config-file", help="The stack file, if it is not in stacks/.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take over or delete what an interrupted update has left; exits with 2 if anything stays."""
    from tools import repair as module  # noqa: PLC0415

    raise typer.Exit(module.repair(stack, file=file, confirmed=yes))


@app.command()
def recover(  # noqa: PLR0917 - typer's way to declare options
    stack: Annotated[str, typer.Option(help="The stack whose state was lost.")],
    file: Annotated[Path | None, typer.Option("--config-file", help="The stack file, if it is not in stacks/.")] = None,
    address: Annotated[str | None, typer.Option(help="The reserved address that it had.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Its output `backup`, as JSON: the key of its backups.")] = None,
    new_space: Annotated[
        bool, typer.Option("--new-space", help="The registry's Space is gone; create another one.")
    ] = False,
    new_database: Annotated[
        bool, typer.Option("--new-database", help="A managed database is gone; create another one.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take over, in a new state, the data that a stack without one has left in the account, and update the stack."""
    from tools import recover as module  # noqa: PLC0415

    raise typer.Exit(module.recover(stack, module.Wish(file, address, keys, new_space, new_database), confirmed=yes))


FROM = Annotated[str, typer.Argument(help="The stack that is promoted.")]
TO = Annotated[str, typer.Argument(help="The stack that it is promoted to.")]
STACK_NAME = Annotated[str, typer.Argument(help="The stack.")]
CONFIRMED = Annotated[bool, typer.Option("--yes", "-y", help="Apply without asking.")]
KEEP_SECRETS = Annotated[bool, typer.Option("--keep-secrets", help="Leave secrets that both stacks have as they are.")]


@app.command()
def diff(source: FROM, target: TO, keep_secrets: KEEP_SECRETS = False) -> None:
    """Print what differs between two environments and is promoted; exits with 1 if anything does, with 2 on errors."""
    from tools import diff as module  # noqa: PLC0415

    try:
        raise typer.Exit(module.diff(source, target, keep_secrets=keep_secrets))
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


@app.command()
def promote(source: FROM, target: TO, keep_secrets: KEEP_SECRETS = False, yes: CONFIRMED = False) -> None:
    """Apply to one environment what is promoted from another, by a plan that is shown first."""
    from tools import promote as module  # noqa: PLC0415

    raise typer.Exit(module.promote(source, target, keep_secrets=keep_secrets, confirmed=yes))


@app.command()
def revert(stack: STACK_NAME, yes: CONFIRMED = False) -> None:
    """Apply the settings that an environment had before its last promotion, by a plan that is shown first."""
    from tools import promote as module  # noqa: PLC0415

    raise typer.Exit(module.revert(stack, confirmed=yes))


@app.command("golden-image")
def make_image(
    stack: Annotated[str, typer.Option(help="The stack whose packages are installed.")],
    which: Annotated[str, typer.Option("--for", help="server, or the name of a runner.")] = "server",
    file: Annotated[Path | None, typer.Option("--config-file", help="The stack file, if it is not in stacks/.")] = None,
) -> None:
    """Make a snapshot with the packages of a machine installed, which new machines of that kind can start from."""
    from tools import golden_image  # noqa: PLC0415

    golden_image.make_image(stack, which, file)


@app.command("image")
def copy_image(
    source: FROM, target: TO, image: Annotated[str, typer.Argument(help="Path and tag, such as root/hello:latest.")]
) -> None:
    """Copy a released image to another environment's registry, under the same digest."""
    from tools import images  # noqa: PLC0415

    images.copy_image(source, target, image)


@app.command(context_settings=PASSED_ON)
def up(
    stack: Annotated[str, typer.Option(help="The stack to update.")],
    yes: CONFIRMED = False,
    options: Annotated[list[str] | None, typer.Argument(help="Options of both pulumi preview and pulumi up.")] = None,
) -> None:
    """Show a plan, ask, and apply exactly that plan."""
    from tools import plans  # noqa: PLC0415

    given = options or []
    confirmed = yes or not {"--yes", "-y"}.isdisjoint(given)
    plans.update(stack, [one for one in given if one not in {"--yes", "-y"}], confirmed=confirmed)


@app.command()
def pipeline(
    project: Annotated[str, typer.Option(help="Address of the GitLab project with this repository.")],
    stack: Annotated[str, typer.Option(help="The stack that its pipeline previews, updates and checks.")],
    cron: Annotated[str, typer.Option(help="When the nightly check runs (UTC).")] = "17 3 * * *",
) -> None:
    """Set up the pipeline of .gitlab-ci.yml for a stack: variables, token for notes, schedule, project settings."""
    from tools import pipeline as module  # noqa: PLC0415

    module.pipeline(stack, project, cron=cron)


class Step(StrEnum):
    """What a job does."""

    PREVIEW = "preview"
    PLAN = "plan"
    APPLY = "apply"
    NIGHTLY = "nightly"


@app.command()
def ci(step: Annotated[Step, typer.Argument(help="What the job does.")], stack: STACK_NAME) -> None:
    """Run a job of .gitlab-ci.yml: preview as a note on the merge request, plan, exactly that plan, nightly check."""
    from tools import ci as module  # noqa: PLC0415

    raise typer.Exit(getattr(module, step)(stack) or 0)


def main() -> None:
    """Run the command line; expected failures end in one line and exit code 1."""
    try:
        app()
    except ToolError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
