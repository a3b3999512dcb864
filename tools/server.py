"""Programs on the server, run over its pinned SSH connection while somebody watches."""

from __future__ import annotations

import subprocess

from tools.clients import CheckError, Outputs

#: The exit code of ssh itself; others are those of the command.
_NO_CONNECTION = 255


def run_on_server(outputs: Outputs, command: str, stdin: str = "") -> str:
    """Run a command that has to succeed: its progress is printed, its standard output returned.

    Raises:
        CheckError: it failed; what it says about that has been printed.
    """
    with outputs.ssh_files() as options:
        done = subprocess.run(
            ["ssh", *options, "-o", "ServerAliveInterval=30", f"{outputs.ssh_user}@{outputs.address}", command],
            input=stdin,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if done.returncode == _NO_CONNECTION:
        raise CheckError(f"{outputs.address} cannot be reached over SSH, or the connection was lost (see above)")
    if done.returncode != 0:
        raise CheckError("it failed on the server (see above)")
    return done.stdout
