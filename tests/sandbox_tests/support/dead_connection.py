"""A command whose machine disappears from the network while it runs. Needs a network namespace of its own.

Packets are lost in both directions and nothing is reset, as when a machine is switched off. Prints how the command
ended.
"""

from __future__ import annotations

import subprocess
import threading

from tests.sandbox.plugins import ssh
from tests.sandbox.plugins.base.framework import Call, PluginError
from tests.sandbox.plugins.provider_command import RemoteCommand
from tests.sandbox_tests.support.ssh_server import ssh_server

#: The same as Go's, in seconds instead of minutes.
ssh.KEEPALIVE_IDLE, ssh.KEEPALIVE_INTERVAL, ssh.KEEPALIVE_COUNT = 1, 1, 2


def _link(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def _hang_up(severity: str, message: str) -> None:
    if (severity, message) == ("info", "started"):
        _link("down")


def main() -> None:
    """Run the command."""
    _link("up")
    with ssh_server() as server:
        call = Call(None, "", "it", threading.Event(), _hang_up)
        try:
            RemoteCommand().create(call, {"connection": server.connection(), "create": "echo started; sleep 600"})
        except PluginError as error:
            print(error)


if __name__ == "__main__":
    main()
