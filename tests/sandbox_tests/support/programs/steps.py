"""Every step of the program, on one SSH server and with a script that fails, or never ends, if it is told to."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pulumi
import pulumi_random as random
from pulumi_command import remote

config = pulumi.Config()
sys.path.insert(0, config.require("repository"))

from components import remote as steps  # noqa: E402 - a program finds only what is in its own folder
from components.component import Component  # noqa: E402
from components.rendering import script  # noqa: E402

#: Changes the machine first, and fails afterwards.
SCRIPT = r"""
main() {
  printf '%s' "$VALUE" >"$FOLDER/$STEP"
  [ "$VALUE" != broken ] || die "the machine is broken"
  [ "$VALUE" != endless ] || sleep 240
  printf '%s' "$VALUE"
}
"""


@dataclass(frozen=True)
class Machine(steps.Machine):
    """A machine whose SSH server has a port of its own."""

    def connection(self) -> remote.ConnectionArgs:
        """One dial, to that port."""
        return remote.ConnectionArgs(
            host=self.address,
            port=config.require_int("port"),
            user=self.user,
            private_key=self.private_key,
            host_key=self.host_key,
            dial_error_limit=1,
        )


steps.script = lambda name: script(name) if name == "prelude.sh" else SCRIPT  # type: ignore[attr-defined]
machine = Machine(
    address="127.0.0.1",
    user="root",
    private_key=config.require_secret("key"),
    host_key=config.require("hostKey"),
    droplet=random.RandomId("droplet", byte_length=2),
)
for name, runs_once in config.require_object("steps").items():
    parent, _, suffix = name.rpartition("-")
    steps.run_script(
        # Components of several steps have one name, so their types differ.
        Component(f"Of{suffix.title()}", parent),
        suffix,
        machine=machine,
        file="script.sh",
        values={"FOLDER": config.require("folder"), "VALUE": config.require("value")},
        timeout_seconds=600,
        ignore_changes=["create", "stdin"] if runs_once else None,
    )
