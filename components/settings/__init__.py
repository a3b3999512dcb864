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
from typing import Any

import pulumi
from pydantic import TypeAdapter, ValidationError

from components.settings.certificate import Certificate, CertificateSource
from components.settings.certificate_pair import certificate_errors
from components.settings.conflicts import conflicts_between
from components.settings.errors import SettingsError, format_error, secret_paths
from components.settings.gitlab import Packages
from components.settings.projects import ExtraStage, ProjectSettings
from components.settings.registry import S3, Storage
from components.settings.runners import Builder, RunnerSettings
from components.settings.stack_file import DnsZone, Removal, Settings

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
    return load(pulumi.get_project(), pulumi.get_stack(), config, encrypted)


def load(
    project: str,
    stack: str,
    config: Mapping[str, str],
    secret_keys: Collection[str],
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Read and check the settings of `project` from Pulumi's flat configuration.

    Args:
        project: the namespace of this project's keys; keys of other namespaces are ignored.
        stack: the name of the stack, which becomes part of many names in the cloud.
        config: all configuration of the stack: `namespace:key` to a string, which is JSON for all other types.
        secret_keys: the keys of `config` that are encrypted in the stack file, entirely or in part.
        environment: the environment variables, which must include the API token.

    Raises:
        SettingsError: with every error found.
    """
    errors = _missing_credentials(environment) + _bad_stack_name(stack)
    ours = {key.removeprefix(f"{project}:"): value for key, value in config.items() if key.startswith(f"{project}:")}
    values = {key: _parsed(key, value) for key, value in ours.items()}
    errors += _plain_secrets(values, {key.removeprefix(f"{project}:") for key in secret_keys})
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


def _plain_secrets(values: Mapping[str, Any], encrypted: Collection[str]) -> list[str]:
    plain = [
        place
        for path in secret_paths(Settings)
        if path.split(".")[0] not in encrypted
        for place in _places(values, path.split("."))
    ]
    return [
        f"{place}: is in plain text in the stack file; anyone who can read the file would have it. "
        f"Replace the secret, and set the new one with: pulumi config set --secret --path {shlex.quote(place)} …"
        for place in plain
    ]


def _places(values: Any, path: list[str], place: str = "") -> Iterator[str]:
    """The key paths, in Pulumi's notation, of all values at `path`, through lists and names that the user chose."""
    if not path:
        if values is not None:
            yield place
    elif isinstance(values, list):
        for number, value in enumerate(values):
            yield from _places(value, path, f"{place}[{number}]")
    elif isinstance(values, Mapping):
        dot = "." if place else ""
        if path[0] in values:
            yield from _places(values[path[0]], path[1:], f"{place}{dot}{path[0]}")
        else:
            for name, value in values.items():
                if isinstance(value, Mapping):
                    yield from _places(value, path, f"{place}{dot}{name}")


def _parsed(key: str, value: str) -> Any:
    field = next((field for field in Settings.model_fields.values() if field.alias == key), None)
    if field is None or field.annotation is str or not value.startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        # Reported as an error of its type.
        return value
