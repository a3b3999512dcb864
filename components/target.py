"""A machine of the stack that one environment of a project is deployed to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_tls as tls
from pulumi_command import remote

from components.component import Component
from components.droplets import DropletArgs, create_droplet, install_host_key
from components.hardening import LIBRARIES, hardening
from components.keys import HostKeys
from components.network import MachineGroup, machine_group, open_to_everybody, ssh_from
from components.remote import Machine, run_script
from components.rendering import script
from components.settings import DropletSettings, EnvironmentSettings, open_ports
from components.site import Site

#: The user of deploy jobs.
DEPLOY_USER: Final = "deploy"


@dataclass(frozen=True)
class TargetArgs:
    """Inputs of `Target`.

    `name` is that of the droplet, without the prefix of the stack. `registry` is the address of the registry, whether
    it answers yet or not, and `ca_certificate` the authority that the machine has to trust for it. `near` says that the
    jobs run in the stack's network, on its own runners.
    """

    site: Site
    settings: EnvironmentSettings
    droplet: DropletSettings
    name: str
    registry: str
    ca_certificate: str | None
    near: bool


class Target(Component):
    """A machine for one environment: a droplet with Docker, and a user on it for the deploy jobs.

    Owns the droplet with its tag, its firewall and its host keys, what is installed on it, and the key of the jobs. The
    firewall opens SSH to the machines of the stack's runners and to the administrators' networks, and the ports of the
    application to everybody. Refuses to own what runs there: that is deployed by jobs, and is lost with the droplet,
    whatever is kept of the stack.

    `name` is that of the inputs, `address` that of the application, and `job_address` the one that jobs use.
    """

    name: str
    machine: Machine
    address: pulumi.Output[str]
    job_address: pulumi.Output[str]
    deploy_key: pulumi.Output[str]

    def __init__(self, name: str, args: TargetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the machine."""
        super().__init__("Target", name, opts)
        self._args, self.name = args, args.name
        key = tls.PrivateKey(self.child_name("key"), algorithm="ED25519", opts=self.child_options())
        self.deploy_key = pulumi.Output.secret(key.private_key_openssh)
        full_name = f"{args.site.prefix}-{args.name}"
        host_keys = HostKeys(self.child_name("host-keys"), self.child_options())
        droplet = create_droplet(
            self,
            "droplet",
            DropletArgs.at(
                args.site,
                group=self._group(full_name),
                name=full_name,
                size=args.droplet.size,
                image=args.droplet.image,
                host_keys=host_keys,
            ),
        )
        self.address = droplet.ipv4_address
        self.job_address = droplet.ipv4_address_private if args.near else droplet.ipv4_address
        machine = install_host_key(
            self,
            "host-key",
            droplet=droplet,
            address=droplet.ipv4_address,
            private_key=args.site.admin_key.private_key,
            host_keys=host_keys,
        )
        prepared = self._prepare(full_name, machine, key.public_key_openssh)
        self.machine = dataclasses.replace(machine, ready=(prepared,))
        self.register_outputs({"address": self.address})

    def _group(self, name: str) -> MachineGroup:
        network = self._args.site.network
        ports = [open_to_everybody(port, protocol) for protocol, port in open_ports(self._args.settings)]
        ssh = ssh_from(network.admin_cidrs, [network.runners])
        return machine_group(self, tag=("tag", name), firewall=("firewall", name), inbound=[ssh, *ports])

    def _prepare(self, name: str, machine: Machine, public_key: pulumi.Output[str]) -> remote.Command:
        args = self._args
        # Docker opens the ports of containers by itself. This is for those that use the network of the machine.
        public_ports = [port for protocol, port in open_ports(args.settings) if protocol == "tcp"]
        return run_script(
            self,
            "preparation",
            machine=machine,
            file="prepare-target.sh",
            libraries=[*LIBRARIES, "docker.sh"],
            values={
                **hardening(machine.user, args.site.login_keys, public_ports),
                "CA_CERTIFICATE": args.ca_certificate or "",
                # No terminal, and nothing is forwarded.
                "DEPLOY_KEY": pulumi.Output.concat("restrict ", public_key.apply(str.strip)),
                "DEPLOY_SSHD_CONF": script("target/sshd.conf").strip(),
                "DEPLOY_USER": DEPLOY_USER,
                "HOSTNAME": name,
                "REGISTRY": args.registry,
            },
            timeout_seconds=1800,
        )
