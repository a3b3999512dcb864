"""The registry in GitLab's first configuration."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from components.component import Component
from components.registry_settings import RegistrySettings
from components.remote import Machine, run_script


@dataclass(frozen=True)
class RegistryBeginningArgs:
    """Inputs of `RegistryBeginning`."""

    machine: Machine
    settings: RegistrySettings


class RegistryBeginning(Component):
    """The registry's settings before GitLab's first configuration, so that GitLab is configured once and not twice.

    Owns `/etc/gitlab/registry.rb` until GitLab has become ready for the first time, and only if the storage is empty.
    From then on it does nothing. Refuses to own the settings of a registry that runs, and what is in a storage with
    images: both are `RegistryConfiguration`'s. `begun` is the step that GitLab's configuration waits for.
    """

    begun: pulumi.Resource

    def __init__(self, name: str, args: RegistryBeginningArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the step."""
        super().__init__("RegistryBeginning", name, opts)
        self.begun = run_script(
            self,
            "settings",
            machine=args.machine,
            file="begin-registry.sh",
            libraries=["object-storage.sh", "registry-storage.sh"],
            values=args.settings.values,
            secrets=args.settings.secrets,
            timeout_seconds=600,
        )
        self.register_outputs({})
