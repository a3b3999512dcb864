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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pulumi
from pydantic import ValidationError

from components.settings.backup import Backup
from components.settings.certificate import Certificate, CertificateSource
from components.settings.certificate_pair import certificate_errors
from components.settings.conflicts import conflicts_between
from components.settings.errors import SettingsError, format_errors
from components.settings.gitlab import Packages
from components.settings.projects import ExtraStage, ProjectSettings
from components.settings.registry import S3, Storage
from components.settings.runners import Builder, RunnerSettings
from components.settings.secrets import encrypted_config, plain_secrets
from components.settings.stack_file import DnsZone, Removal, Settings

#: The folder of the program and of `Pulumi.yaml`.
_ROOT: Final = Path(__file__).resolve().parents[2]
#: Linux, HOST_NAME_MAX.
_LONGEST_HOST_NAME: Final = 64

__all__ = [
    "S3",
    "Backup",
    "Builder",
    "Certificate",
    "CertificateSource",
    "DnsZone",
    "ExtraStage",
    "Packages",
    "ProjectSettings",
    "Reading",
    "Removal",
    "RunnerSettings",
    "Settings",
    "SettingsError",
    "Storage",
    "load",
    "of_stack",
    "read",
]


#: What stands for a key that is not valid, so that the rest can be checked; for all others, their default does. Nothing
#: is created with it.
_PLACEHOLDERS: Final = {
    "domain": "placeholder.invalid",
    "adminCidrs": ["192.0.2.1/32"],
    "registry": {"storage": "filesystem"},
}
_CREDENTIALS: Final = "DIGITALOCEAN_TOKEN"
#: As the provider reads them.
_SPACES_KEY: Final = ("SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Reading:
    """A stack file as far as it is valid, and every error in it.

    In `settings`, a default or a placeholder stands for each top-level key in `invalid`, which also names the API token
    if there is none. `has_spaces_key` says whether the environment has a key for Spaces.
    """

    settings: Settings
    invalid: frozenset[str]
    errors: tuple[str, ...]
    has_spaces_key: bool = False

    def has(self, *keys: str) -> bool:
        """Whether all of these top-level keys are valid on their own."""
        return self.invalid.isdisjoint(keys)

    @property
    def has_credentials(self) -> bool:
        """Whether there is an API token."""
        return self.has(_CREDENTIALS)

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
    config = dict(pulumi.runtime.config.CONFIG.get())
    encrypted = {key for key in config if pulumi.runtime.is_config_secret(key)}
    project, stack = pulumi.get_project(), pulumi.get_stack()
    return read(project, stack, config, encrypted, stack_file=encrypted_config(_ROOT, project, stack))


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
    errors = [*missing, *_half_a_spaces_key(environment), *_bad_stack_name(stack)]
    ours = {key.removeprefix(f"{project}:"): value for key, value in config.items() if key.startswith(f"{project}:")}
    dotted = _dotted_keys(ours)
    errors += dotted.values()
    values = {key: _parsed(key, value) for key, value in ours.items() if key not in dotted}
    errors += plain_secrets(values, {key.removeprefix(f"{project}:") for key in secret_keys}, stack_file or {})
    errors += _long_machine_names(f"{project}-{stack}", values.get("runners"))
    settings, invalid, found = _validated(values)
    reading = Reading(settings, invalid | ({_CREDENTIALS} if missing else frozenset()), ())
    errors += [*found, *_conflicts(reading)]
    return replace(reading, errors=tuple(errors), has_spaces_key=all(environment.get(name) for name in _SPACES_KEY))


def _validated(values: Mapping[str, Any]) -> tuple[Settings, frozenset[str], list[str]]:
    """The settings without what is invalid, the top-level keys that are, and why."""
    try:
        return Settings.model_validate(values), frozenset(), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    # The default of a key is reported under the name of its field.
    keys = {name: field.alias or name for name, field in Settings.model_fields.items()}
    wrong = {keys.get(str(detail["loc"][0]), str(detail["loc"][0])) for detail in details}
    if "adminsFromAnywhere" in wrong:
        # The two are checked against each other.
        wrong.add("adminCidrs")
    elif "adminCidrs" in wrong:
        wrong.add("adminsFromAnywhere")
    placeholders = {key: value for key, value in _PLACEHOLDERS.items() if key in wrong}
    valid = {key: value for key, value in values.items() if key not in wrong}
    settings = Settings.model_validate({**placeholders, **valid})
    return settings, frozenset(wrong), format_errors(details, Settings)


def _conflicts(reading: Reading) -> Iterator[str]:
    """Conflicts between top-level keys that are valid on their own, even if there are errors elsewhere."""
    settings = reading.settings
    if reading.has("certificate"):
        fqdn = settings.fqdn if reading.has("domain", "hostname") else None
        yield from certificate_errors(settings.certificate, fqdn, datetime.datetime.now(tz=datetime.UTC))
    if reading.has("projects", "runners"):
        yield from conflicts_between(settings.projects, settings.runners)


def _missing_credentials(environment: Mapping[str, str]) -> list[str]:
    if environment.get("DIGITALOCEAN_TOKEN") or environment.get("DIGITALOCEAN_ACCESS_TOKEN"):
        return []
    return [
        "DIGITALOCEAN_TOKEN: is not set in the environment; DigitalOcean would reject every call. "
        "Create a token with full access under API in the control panel, and export it"
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


def _bad_stack_name(stack: str) -> list[str]:
    if re.fullmatch(r"[a-z][a-z0-9-]{0,36}", stack):
        return []
    return [
        f"stack: {stack} cannot be part of the names of droplets, volumes and buckets; DigitalOcean would reject them. "
        "Use at most 37 lowercase letters, digits and dashes, starting with a letter: pulumi stack rename …"
    ]


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
    longest = _LONGEST_HOST_NAME - len(f"{prefix}--10")
    return [
        f"runners[{number}].name: {name} is too long beside the stack's name; Linux has no longer host names. "
        f"Use at most {longest} characters"
        for number, name in enumerate(names)
        if isinstance(name, str) and len(name) > longest
    ]


def _parsed(key: str, value: str) -> Any:
    field = next((field for field in Settings.model_fields.values() if field.alias == key), None)
    if field is None or field.annotation is str or not value.startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        # Reported as an error of its type.
        return value
