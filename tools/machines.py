"""The machines of a stack, each reached over SSH with its host key pinned to the one in the stack's state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tools.clients import Outputs
from tools.state import StackState

#: The logical name of the server, without what its resources add to it.
SERVER = "server"
_HOST_KEY = "-host-keys-lasting"
#: In the URNs of what belongs to a machine that a project is deployed to.
_TARGET = "slipway:index:Target$"


@dataclass(frozen=True)
class Machine:
    """A machine of the stack. `prefix` begins the logical names of its resources.

    `is_target` says that projects are deployed to it.
    """

    prefix: str
    name: str
    address: str
    host_key: str
    is_target: bool = False

    def pinned(self, outputs: Outputs) -> Outputs:
        """The stack's outputs with this machine in the place of the server, for connections to it."""
        return Outputs({**outputs.values, "server_address": self.address, "server_ssh_host_key": self.host_key})


def machines_of(state: StackState, outputs: Outputs) -> Iterator[Machine]:
    """The server, the machines of the runners, and those that projects are deployed to."""
    keys = {
        one.name.removesuffix(_HOST_KEY): str(one.values.get("publicKeyOpenssh", "")).strip()
        for one in state.resources
        if one.name.endswith(_HOST_KEY)
    }
    for droplet in state.of("Droplet"):
        prefix = droplet.name.removesuffix("-droplet")
        address = outputs.address if prefix == SERVER else str(droplet.values.get("ipv4Address"))
        if not droplet.is_pending and prefix in keys:
            is_target = _TARGET in droplet.urn
            yield Machine(prefix, str(droplet.values.get("name")), address, keys[prefix], is_target)
