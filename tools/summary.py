"""The end of `make up`: what there is now, where to look at it, and what to type next, in ten lines."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from tools.clients import Outputs, outputs_of

#: Columns of what comes first in a line.
_NOUN, _COMMAND = 10, 14


def summary(stack: str | None, arguments: str) -> None:
    """Print it. `arguments` are those that every `make` command for this stack needs.

    Raises:
        ToolError: Pulumi cannot read the stack, or it was never deployed.
    """
    outputs = outputs_of(stack)
    console = Console(highlight=False, soft_wrap=True)
    width = max(_COMMAND, *(len(_command(name, arguments)) + 2 for name, _ in _next(outputs)))
    console.print("\nYour GitLab is up, and every check holds.", style="bold green")
    for noun, text in _present(outputs):
        console.print(Text.assemble((f"  {noun:<{_NOUN}}", "dim"), text))
    for name, text in _next(outputs):
        console.print(Text.assemble((f"  {_command(name, arguments):<{width}}", "bold"), text))
    console.print()


def _command(name: str, arguments: str) -> str:
    return f"make {name} {arguments}".rstrip()


def _present(outputs: Outputs) -> Iterator[tuple[str, str]]:
    yield "GitLab", f"{outputs.url}, as {outputs.user}"
    yield "Registry", str(outputs.values["docker_login"])
    projects = outputs.projects
    if not projects:
        yield "Projects", "none yet: add some to the stack file, then run make up again"
        return
    rest = f", and {len(projects) - 1} more" if len(projects) > 1 else ""
    yield "Project", f"{projects[0]['url']}{rest}"
    if released := next((one for one in projects if one.get("docker_pull")), None):
        yield "Image", str(released.get("docker_run") or released["docker_pull"])


def _next(outputs: Outputs) -> list[tuple[str, str]]:
    has_sample = any(one.get("docker_run") for one in outputs.projects)
    demo = [("demo", "commit a change, and watch it being built, tested and released")]
    return [
        ("open", "sign in with your browser; with PASSWORD=1 it shows the password"),
        *(demo if has_sample else []),
        ("status", "how all of it is, in seconds; make logs says more"),
        ("shell", "a shell with pulumi, docker and ssh for it"),
        ("down", "remove it; what is protected stays"),
    ]
