"""The one place that reads configuration.

Owns the shape of a stack file (`stack_file`) and the messages about errors in it (`errors`). Owns no resource. All
settings are checked before the first resource is registered, and all errors are reported at once.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pulumi

from components.settings.alerts import Alerts
from components.settings.backup import Backup
from components.settings.certificate import Certificate, CertificateSource
from components.settings.clusters import ClusterSettings
from components.settings.conflicts import conflicts_between
from components.settings.databases import DatabaseSettings
from components.settings.deployment import EnvironmentSettings
from components.settings.errors import SettingsError
from components.settings.gitlab import Packages
from components.settings.groups import GroupSettings
from components.settings.images import ImageSettings
from components.settings.members import Member
from components.settings.notifications import Notifications
from components.settings.projects import ExtraStage, ProjectSettings
from components.settings.recover import NEW, Recover
from components.settings.registry import S3, Storage
from components.settings.runners import (
    DOCKER_HUB_CACHE,
    DOCKER_HUB_CACHE_HOST,
    AccessLevel,
    Builder,
    RunnerKind,
    RunnerSettings,
    tag_of_protected_jobs,
)
from components.settings.secrets import encrypted_config, hidden_lines, plain_secrets, without_secrets
from components.settings.shown import shown
from components.settings.stack_file import DnsZone, Removal, Settings
from components.settings.strings import LONGEST_HOST_NAME
from components.settings.supply_chain import SupplyChain
from components.settings.targets import DropletSettings, droplets_of, open_ports, target_errors, target_name
from components.settings.validation import Validated, Validity, validate

#: The folder of the program and of `Pulumi.yaml`.
_ROOT: Final = Path(__file__).resolve().parents[2]
#: No setting is nested deeper, and Python would give up on what is nested without end.
_DEEPEST: Final = 20

__all__ = [
    "DOCKER_HUB_CACHE",
    "DOCKER_HUB_CACHE_HOST",
    "NEW",
    "S3",
    "AccessLevel",
    "Alerts",
    "Backup",
    "Builder",
    "Certificate",
    "CertificateSource",
    "ClusterSettings",
    "DatabaseSettings",
    "DnsZone",
    "DropletSettings",
    "EnvironmentSettings",
    "ExtraStage",
    "GroupSettings",
    "ImageSettings",
    "Member",
    "Notifications",
    "Packages",
    "ProjectSettings",
    "Reading",
    "Recover",
    "Removal",
    "RunnerKind",
    "RunnerSettings",
    "Settings",
    "SettingsError",
    "Storage",
    "SupplyChain",
    "droplets_of",
    "load",
    "of_program",
    "of_stack",
    "open_ports",
    "plain_secrets",
    "read",
    "tag_of_protected_jobs",
    "target_name",
]


#: As the provider reads them.
_SPACES_KEY: Final = ("SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY")
#: Where Pulumi's own programs for DigitalOcean have the API token.
_TOKEN_KEY: Final = "digitalocean:token"  # noqa: S105 - a name
#: The list that `pulumi new` asks for.
_LISTED_KEY: Final = "adminCidrs"
#: Of `PROJECT-STACK`, which begins the names of all things. Buckets have the shortest names.
_LONGEST_PREFIX: Final = 45
_LONGEST_PROJECT: Final = 30


@dataclass(frozen=True)
class Reading:
    """A stack file as far as it is valid, and every error in it.

    In `settings`, a default or a placeholder stands for each key that is not valid. `has_credentials` says whether the
    environment has an API token, and `has_spaces_key` whether it has a key for Spaces.
    """

    settings: Settings
    validity: Validity
    errors: tuple[str, ...]
    has_credentials: bool
    has_spaces_key: bool

    def has(self, *paths: str) -> bool:
        """Whether everything at and below these key paths is valid on its own."""
        return self.validity.has(*paths)

    def complete(self, further: Collection[str] = ()) -> Settings:
        """Return the settings.

        Raises:
            SettingsError: with all errors of the stack file and the `further` ones, if there is one.
        """
        if errors := [*self.errors, *further]:
            raise SettingsError(errors)
        return self.settings


def of_stack() -> Reading:
    """The settings of the stack that the program runs for, and the errors in them."""
    project, stack = pulumi.get_project(), pulumi.get_stack()
    return of_program(dict(pulumi.runtime.config.CONFIG.get()), encrypted_config(_ROOT, project, stack))


def of_program(config: Mapping[str, str], stack_file: Mapping[str, Any] | None = None) -> Reading:
    """The settings in a configuration of the stack that a program runs for. The arguments are those of `read`."""
    encrypted = {key for key in config if pulumi.runtime.is_config_secret(key)}
    if token := config.get(_TOKEN_KEY):
        # As in Pulumi's providers, the stack's own wins. Requests of the program itself take it from there.
        os.environ["DIGITALOCEAN_TOKEN"] = token
    return read(pulumi.get_project(), pulumi.get_stack(), config, encrypted, stack_file=stack_file)


def load(
    project: str,
    stack: str,
    config: Mapping[str, str],
    secret_keys: Collection[str],
    environment: Mapping[str, str] = os.environ,
    *,
    stack_file: Mapping[str, Any] | None = None,
) -> Settings:
    """Read and check the settings of `project` from Pulumi's flat configuration. The arguments are those of `read`.

    Raises:
        SettingsError: with every error found.
    """
    return read(project, stack, config, secret_keys, environment, stack_file=stack_file).complete()


def read(
    project: str,
    stack: str,
    config: Mapping[str, str],
    secret_keys: Collection[str],
    environment: Mapping[str, str] = os.environ,
    *,
    stack_file: Mapping[str, Any] | None = None,
) -> Reading:
    """Read and check the settings of `project` from Pulumi's flat configuration.

    Args:
        project: the namespace of this project's keys; keys of other namespaces are ignored.
        stack: the name of the stack, which becomes part of many names in the cloud.
        config: all configuration of the stack: `namespace:key` to a string, which is JSON for all other types.
        secret_keys: the keys of `config` that are encrypted in the stack file, entirely or in part.
        environment: the environment variables, which must include the API token.
        stack_file: the same settings as `encrypted_config` reads them from the stack file, if there is one.
    """
    missing = _missing_credentials(environment)
    errors = [*missing, *_half_a_spaces_key(environment), *_bad_names(project, stack)]
    errors += _plain_token(config, secret_keys)
    ours = {key.removeprefix(f"{project}:"): value for key, value in config.items() if key.startswith(f"{project}:")}
    dotted = _dotted_keys(ours)
    errors += dotted.values()
    values = {key: _parsed(key, value) for key, value in ours.items() if key not in dotted}
    encrypted = {key.removeprefix(f"{project}:") for key in secret_keys}
    errors += [*plain_secrets(values, encrypted, stack_file or {}), *hidden_lines(stack_file or {})]
    errors += _long_machine_names(f"{project}-{stack}", values.get("runners"))
    found = validate(values)
    errors += [*found.errors, *_conflicts(found)]
    errors += target_errors(f"{project}-{stack}", found.settings, found.validity)
    return Reading(
        found.settings,
        found.validity,
        tuple(dict.fromkeys(without_secrets(errors, values, encrypted, stack_file or {}))),
        has_credentials=not missing,
        has_spaces_key=all(environment.get(name) for name in _SPACES_KEY),
    )


def _conflicts(found: Validated) -> Iterator[str]:
    """Conflicts between keys that are valid on their own, even if there are errors elsewhere."""
    settings, validity = found.settings, found.validity
    fqdn = settings.fqdn if validity.has("domain", "hostname") else None
    if settings.certificate.chain or settings.certificate.ca_certificate:
        # What can read certificates takes long to load.
        from components.settings.certificate_pair import certificate_errors  # noqa: PLC0415

        yield from certificate_errors(settings.certificate, fqdn, datetime.datetime.now(tz=datetime.UTC))
    yield from conflicts_between(settings, validity)


def _missing_credentials(environment: Mapping[str, str]) -> list[str]:
    if environment.get("DIGITALOCEAN_TOKEN") or environment.get("DIGITALOCEAN_ACCESS_TOKEN"):
        return []
    return [
        "DIGITALOCEAN_TOKEN: is not set in the environment; DigitalOcean would reject every call. "
        "Create a token under API in the control panel, and export it, or set it with: pulumi config set --secret "
        f"{_TOKEN_KEY}"
    ]


def _plain_token(config: Mapping[str, str], secret_keys: Collection[str]) -> list[str]:
    if _TOKEN_KEY not in config or _TOKEN_KEY in secret_keys:
        return []
    return [
        f"{_TOKEN_KEY}: is not encrypted; whoever reads the stack file could use the account. Delete that token in the "
        f"control panel, create another one, and set it with: pulumi config set --secret {_TOKEN_KEY}"
    ]


def _half_a_spaces_key(environment: Mapping[str, str]) -> list[str]:
    missing = [name for name in _SPACES_KEY if not environment.get(name)]
    if len(missing) != 1:
        return []
    [other] = set(_SPACES_KEY) - set(missing)
    return [
        f"{missing[0]}: is not set, but {other} is; Spaces would reject every request. Set both, or neither: then the "
        "stack creates a key of its own"
    ]


def _bad_names(project: str, stack: str) -> list[str]:
    """Errors in the two parts of the names of all things."""
    name, errors = r"[a-z][a-z0-9-]*", []
    if not re.fullmatch(name, project) or len(project) > _LONGEST_PROJECT:
        errors.append(
            f"project: {shown(project)} cannot be part of the names of droplets, volumes and buckets; DigitalOcean "
            f"would reject them. Set name in Pulumi.yaml to at most {_LONGEST_PROJECT} lowercase letters, digits and "
            "dashes, starting with a letter"
        )
    longest = _LONGEST_PREFIX - len("-") - min(len(project), _LONGEST_PROJECT)
    if not re.fullmatch(name, stack) or len(stack) > longest:
        errors.append(
            f"stack: {stack} cannot be part of the names of droplets, volumes and buckets; DigitalOcean would reject "
            f"them. Use at most {longest} lowercase letters, digits and dashes, starting with a letter: "
            "pulumi stack rename …"
        )
    return errors


def _dotted_keys(keys: Collection[str]) -> dict[str, str]:
    """Errors of keys such as `server.size`, as `pulumi config set` writes them without `--path` (pulumi#21726)."""
    known = {field.alias for field in Settings.model_fields.values()}
    return {
        key: f"{key}: is one key of that name, not a place below {head[0]}; it would have no effect. Remove it with: "
        f"pulumi config rm {shlex.quote(key)}; then set it with: pulumi config set --path {shlex.quote(key)} …"
        for key in keys
        if (head := re.match(r"\w+(?=[.\[])", key)) and head[0] in known
    }


def _long_machine_names(prefix: str, runners: Any) -> list[str]:
    """Runners whose machines would have a host name that is too long."""
    names = (
        [runner.get("name") for runner in runners if isinstance(runner, Mapping)] if isinstance(runners, list) else []
    )
    longest = LONGEST_HOST_NAME - len(f"{prefix}--10")
    return [
        f"runners[{number}].name: {shown(name)} is too long beside the stack's name; Linux has no longer host names. "
        f"Use at most {longest} characters"
        for number, name in enumerate(names)
        if isinstance(name, str) and len(name) > longest
    ]


def _parsed(key: str, value: str) -> Any:
    field = next((field for field in Settings.model_fields.values() if field.alias == key), None)
    if field is None or field.annotation is str:
        return value
    if not value.startswith(("[", "{")):
        return _listed(value) if key == _LISTED_KEY else value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        # Reported as an error of its type.
        return value
    return _shallow(parsed, _DEEPEST)


def _listed(value: str) -> list[str]:
    """The entries of a list, as people type them: `pulumi new` can ask for texts only."""
    return [entry.strip() for entry in value.split(",") if entry.strip()]


def _shallow(value: Any, levels: int) -> Any:
    """The same without what is nested deeper than that, which is no setting."""
    if not isinstance(value, dict | list):
        return value
    if not levels:
        return None
    if isinstance(value, list):
        return [_shallow(one, levels - 1) for one in value]
    return {key: _shallow(one, levels - 1) for key, one in value.items()}
