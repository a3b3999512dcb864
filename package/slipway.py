"""A whole installation, with arguments that any language of Pulumi can write."""

# No `annotations` of the future: the schema is read from the types themselves.

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_digitalocean as digitalocean

from components import settings
from components.component import Component, place_below
from components.installation import Installation, Plan
from components.known_resources import StateReader
from components.state import DeploymentState
from package.arguments import arguments_of

if TYPE_CHECKING:
    SlipwayArgs = Mapping[str, Any]
else:
    #: The keys of a stack file.
    SlipwayArgs = arguments_of(settings.Settings)

_TYPE = "slipway:index:Slipway"


class Slipway(Component):
    """GitLab, its registry and everything under them. Its arguments are the settings of a stack file.

    Owns everything that the program of this project owns, below itself, with the same names; so there is one of it in a
    stack. Refuses to own secrets: secret settings are in the stack's configuration, under the key paths that they have
    in a stack file, and are added to the arguments. The provider for DigitalOcean takes the API token from the
    environment or from `digitalocean:token`, as always.
    """

    gitlab_url: pulumi.Output[str]
    """The address of GitLab."""
    gitlab_version: pulumi.Output[str]
    """The version of GitLab that is installed."""
    gitlab_admin_user: pulumi.Output[str]
    """The name of GitLab's administrator."""
    gitlab_admin_password: pulumi.Output[str]
    """The administrator's password."""
    gitlab_api_token: pulumi.Output[str]
    """A token of the administrator for GitLab's API."""
    gitlab_api_token_expires: pulumi.Output[str]
    """The day until which that token is valid."""
    registry: pulumi.Output[str]
    """The registry, as host and port."""
    docker_login: pulumi.Output[str]
    """The command that logs in to the registry."""
    projects: pulumi.Output[list[Any]]
    """Of each project, its address, its image, and how to pull and run it."""
    server_address: pulumi.Output[str]
    """The reserved IP address of the server."""
    server_ssh_user: pulumi.Output[str]
    """The user of the server that SSH logs in as."""
    server_ssh_private_key: pulumi.Output[str]
    """The private key of that user."""
    server_ssh_host_key: pulumi.Output[str]
    """The public host key of the server."""

    def __init__(self, name: str, args: SlipwayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare everything.

        Raises:
            pulumi.InputPropertiesError: an argument is not known before the update, or secret.
            SettingsError: an argument is a secret setting, or the installation cannot be what the settings say; nothing
                is created.
        """
        if errors := list(_outputs_in(args)):
            raise pulumi.InputPropertiesError("Slipway cannot be created", errors)
        if plain := settings.plain_secrets(args, (), {}, "the program"):
            raise settings.SettingsError(plain)
        reading = settings.of_program(_configured(args))
        reading.complete()
        place_below(_TYPE)
        super().__init__("Slipway", name, opts)
        outputs = Installation(Plan.read(reading, _deployed, self)).outputs
        for key in type(self).__annotations__:
            setattr(self, key, pulumi.Output.from_input(outputs.get(key)))
        self.register_outputs(dict(outputs))


def _deployed(state: StateReader, cloud: digitalocean.Provider) -> DeploymentState | None:
    """What the component has in the state, which can be read once the provider has answered."""
    try:
        digitalocean.get_account(opts=pulumi.InvokeOptions(provider=cloud))
    # The SDK raises plain exceptions for whatever a provider reports; the survey of the account reports this one.
    except Exception:
        return None
    known = state.read().outputs
    return next((DeploymentState.of_outputs(one) for urn, one in known.items() if urn.split("::")[2] == _TYPE), None)


def _outputs_in(value: Any, path: str = "") -> Iterator[pulumi.InputPropertyErrorDetails]:
    """What is not known when everything is checked."""
    if isinstance(value, pulumi.Output):
        reason = (
            "is secret, or an output of another resource; it could not be checked before something is created. Write "
            f"it as it is; or, if it is secret, set it with: pulumi config set --secret --path {path} …"
        )
        yield pulumi.InputPropertyErrorDetails(property_path=path, reason=reason)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _outputs_in(one, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, one in enumerate(value):
            yield from _outputs_in(one, f"{path}[{number}]")


def _configured(args: Mapping[str, Any]) -> dict[str, str]:
    """The arguments and the stack's configuration as one configuration: key to text, JSON unless it is a text."""
    prefix = f"{pulumi.get_project()}:"
    config = dict(pulumi.runtime.config.CONFIG.get())
    for key, value in args.items():
        own = config.get(f"{prefix}{key}")
        merged = value if own is None else _merged(value, _parsed(own))
        config[f"{prefix}{key}"] = merged if isinstance(merged, str) else json.dumps(merged)
    return config


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _merged(one: Any, other: Any) -> Any:
    """Both; where both have a value, the other one."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {
            key: _merged(one[key], other[key]) if key in one and key in other else {**one, **other}[key]
            for key in [*one, *(key for key in other if key not in one)]
        }
    if isinstance(one, list) and isinstance(other, list):
        return [_merged(*both) for both in zip_longest(one, other)]
    return one if other is None else other
