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
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import pulumi
from pydantic import TypeAdapter, ValidationError

from components.settings.certificate import Certificate, CertificateSource
from components.settings.certificate_pair import certificate_errors
from components.settings.conflicts import conflicts_between
from components.settings.errors import SettingsError, format_error
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
    "Builder",
    "Certificate",
    "CertificateSource",
    "DnsZone",
    "ExtraStage",
    "Packages",
    "ProjectSettings",
    "Removal",
    "RunnerSettings",
    "Settings",
    "SettingsError",
    "Storage",
    "load",
    "of_stack",
]


def of_stack() -> Settings:
    """The settings of the stack that the program runs for.

    Raises:
        SettingsError: with every error found.
    """
    config = dict(pulumi.runtime.config.CONFIG.get())
    encrypted = {key for key in config if pulumi.runtime.is_config_secret(key)}
    project, stack = pulumi.get_project(), pulumi.get_stack()
    return load(project, stack, config, encrypted, stack_file=encrypted_config(_ROOT, project, stack))


def load(
    project: str,
    stack: str,
    config: Mapping[str, str],
    secret_keys: Collection[str],
    environment: Mapping[str, str] = os.environ,
    *,
    stack_file: Mapping[str, Any] | None = None,
) -> Settings:
    """Read and check the settings of `project` from Pulumi's flat configuration.

    Args:
        project: the namespace of this project's keys; keys of other namespaces are ignored.
        stack: the name of the stack, which becomes part of many names in the cloud.
        config: all configuration of the stack: `namespace:key` to a string, which is JSON for all other types.
        secret_keys: the keys of `config` that are encrypted in the stack file, entirely or in part.
        environment: the environment variables, which must include the API token.
        stack_file: the same settings as `encrypted_config` reads them from the stack file, if there is one.

    Raises:
        SettingsError: with every error found.
    """
    errors = _missing_credentials(environment) + _bad_stack_name(stack)
    ours = {key.removeprefix(f"{project}:"): value for key, value in config.items() if key.startswith(f"{project}:")}
    dotted = _dotted_keys(ours)
    errors += dotted.values()
    values = {key: _parsed(key, value) for key, value in ours.items() if key not in dotted}
    errors += plain_secrets(values, {key.removeprefix(f"{project}:") for key in secret_keys}, stack_file or {})
    errors += _long_machine_names(f"{project}-{stack}", values.get("runners"))
    fqdn = None
    try:
        settings = Settings.model_validate(values)
        fqdn = settings.fqdn
    except ValidationError as invalid:
        errors += [format_error(detail, Settings) for detail in invalid.errors(include_url=False, include_input=False)]
    errors += _certificate_errors(values, fqdn) + _delivery_errors(values)
    if errors:
        raise SettingsError(errors)
    return settings


def _certificate_errors(values: Mapping[str, Any], fqdn: str | None) -> list[str]:
    """What is wrong with provided certificates, even if there are errors elsewhere."""
    try:
        certificate = TypeAdapter(Certificate).validate_python(values.get("certificate", {}))
    except ValidationError:
        return []
    return list(certificate_errors(certificate, fqdn, datetime.datetime.now(tz=datetime.UTC)))


def _delivery_errors(values: Mapping[str, Any]) -> list[str]:
    """Conflicts between projects and runners, even if there are errors elsewhere."""
    try:
        projects = TypeAdapter(tuple[ProjectSettings, ...]).validate_python(values.get("projects", ()))
        runners = TypeAdapter(tuple[RunnerSettings, ...]).validate_python(values.get("runners", ()))
    except ValidationError:
        # One of them is invalid on its own, which is reported already; there is nothing to compare.
        return []
    return list(conflicts_between(projects, runners))


def _missing_credentials(environment: Mapping[str, str]) -> list[str]:
    if environment.get("DIGITALOCEAN_TOKEN") or environment.get("DIGITALOCEAN_ACCESS_TOKEN"):
        return []
    return [
        "DIGITALOCEAN_TOKEN: is not set in the environment; DigitalOcean would reject every call. "
        "Create a token with full access under API in the control panel, and export it"
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
