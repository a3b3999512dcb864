"""What Pulumi itself finds when it reads resources again, in words."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from components.api import RefusedError, request
from tools import processes
from tools.clients import CheckError, try_run
from tools.environment import ROOT
from tools.findings import Finding
from tools.state import Resource, StackState

#: Reading takes seconds; a provider that gets no answer tries for minutes.
_LIMIT_SECONDS = 180
#: Longer values are not printed: files, keys.
_LONGEST = 100
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
#: What is said of a resource: the kind, and the property that people know it by.
_NOUNS = {
    "BranchProtection": ("the protection of branch", "branch"),
    "DnsRecord": ("DNS record", "fqdn"),
    "Domain": ("DNS zone", "name"),
    "DatabaseCluster": ("database cluster", "name"),
    "DatabaseDb": ("database", "name"),
    "DatabaseFirewall": ("the trusted sources of database cluster", "clusterId"),
    "DatabaseUser": ("database user", "name"),
    "Droplet": ("droplet", "name"),
    "Firewall": ("firewall", "name"),
    "Project": ("project", "pathWithNamespace"),
    "ProjectDeployToken": ("deploy token", "username"),
    "ProjectVariable": ("variable", "key"),
    "RepositoryFile": ("file", "filePath"),
    "ReservedIp": ("reserved address", "ipAddress"),
    "ReservedIpAssignment": ("the assignment of address", "ipAddress"),
    "SpacesBucket": ("bucket", "name"),
    "SpacesKey": ("Spaces key", "name"),
    "SshKey": ("SSH key", "name"),
    "Tag": ("tag", "name"),
    "UserRunner": ("runner", "description"),
    "Volume": ("volume", "name"),
    "VolumeAttachment": ("the attachment of volume", "volumeId"),
    "Vpc": ("VPC", "name"),
}
#: Steps that have to run again when a volume is attached again: they mount it, and start GitLab on it.
_ON_THE_VOLUME = ("server-preparation", "gitlab-configuration")


def differences(state: StackState, file: str | None, urns: Sequence[str]) -> list[Finding]:
    """What `pulumi refresh` would change about these resources; nothing is changed.

    Raises:
        CheckError: Pulumi gives no result within three minutes.
    """
    targets = [option for urn in urns for option in ("--target", urn)]
    command = ["pulumi", "refresh", *_which(state, file), "--preview-only", "--json", "--non-interactive", *targets]
    try:
        done = try_run(*command, timeout=_LIMIT_SECONDS, cwd=ROOT)
    except subprocess.TimeoutExpired as error:
        raise CheckError(f"no answer within {_LIMIT_SECONDS} s") from error
    begin = done.stdout.find("{")
    if begin < 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CheckError(said[-1] if said else f"pulumi refresh ended with {done.returncode}")
    result = json.loads(done.stdout[begin:])
    found = [finding for step in result.get("steps") or [] for finding in _of_step(state, step)]
    if done.returncode != 0:
        errors = [
            " ".join(one["message"].split()) for one in result.get("diagnostics") or [] if one["severity"] == "error"
        ]
        found += [Finding(f"not compared: {text}", is_unknown=True) for text in dict.fromkeys(errors)]
        if not errors:
            raise CheckError(f"pulumi refresh ended with {done.returncode}")
    return found


def switched_off(state: StackState) -> Iterator[Finding]:
    """The droplets that are off. Reading them again shows no difference: the program does not declare it.

    Raises:
        RuntimeError: the API does not respond.
    """
    for droplet in state.of("Droplet"):
        try:
            status = request(f"/v2/droplets/{droplet.id}")["droplet"]["status"]
        except RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            continue
        if status == "off":
            command = f"doctl compute droplet-action power-on {droplet.id}"
            yield Finding(f"{named(droplet)} is switched off; an update needs it. Switch it on: {command}")


def _which(state: StackState, file: str | None) -> list[str]:
    return [*(["--stack", state.stack] if state.stack else []), *(["--config-file", file] if file else [])]


def _of_step(state: StackState, step: dict[str, Any]) -> Iterator[Finding]:
    if step["op"] not in {"update", "delete"}:
        return
    old, new = step.get("oldState") or {}, step.get("newState") or {}
    resource = Resource(old or new)
    if resource.type.startswith("pulumi:"):
        return
    if step["op"] == "delete":
        repeat = _ON_THE_VOLUME if resource.noun == "VolumeAttachment" else ()
        urns = tuple(one.urn for one in state.resources if one.name in repeat)
        yield Finding(f"{named(resource)} is gone", refresh=resource.urn, repeat=urns)
        return
    for path, change in sorted((step.get("detailedDiff") or {}).items()):
        kind = str(change["diffKind" if "diffKind" in change else "kind"])
        words = _change(path, kind, _value(old, path), _value(new, path))
        yield Finding(f"{named(resource)}: {words}", refresh=resource.urn)


def named(resource: Resource) -> str:
    """A resource as people know it."""
    noun, key = _NOUNS.get(resource.noun, (resource.noun, "name"))
    name = resource.values.get(key) or resource.name
    kind = f" {resource.values.get('type')}" if resource.noun == "DnsRecord" else ""
    return f"{noun} {name}{kind}"


def _change(path: str, kind: str, before: Any, after: Any) -> str:
    if kind.startswith("add"):
        return f"{path} was added{_shown(after, ': {}')}"
    if kind.startswith("delete"):
        return f"{path} was removed{_shown(before, ': {}')}"
    if _shown(before, "{}") and _shown(after, "{}"):
        return f"{path} is {_shown(after, '{}')} and was {_shown(before, '{}')}"
    return f"{path} was changed"


def _shown(value: Any, form: str) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return form.format(text) if value is not None and len(text) <= _LONGEST else ""


def _value(resource: dict[str, Any], path: str) -> Any:
    """The value at a path of Pulumi's, such as `inboundRules[0].portRange`."""
    value: Any = {**(resource.get("inputs") or {}), **(resource.get("outputs") or {})}
    for name, place in _STEP.findall(path):
        if isinstance(value, list) and place and int(place) < len(value):
            value = value[int(place)]
        elif isinstance(value, dict):
            value = value.get(name)
        else:
            return None
    return value


def mark(state: StackState, file: str | None, findings: Sequence[Finding]) -> int:
    """Record what was found in the state, so that the next update puts it right; returns Pulumi's exit code.

    What differs in a service is read again. A step whose result was changed on a machine is tainted: Pulumi replaces it
    at the next update, which runs it again.
    """
    which = _which(state, file)
    refresh = dict.fromkeys(one.refresh for one in findings if one.refresh)
    if refresh:
        targets = [option for urn in refresh for option in ("--target", urn)]
        if code := _run(["pulumi", "refresh", *which, "--yes", "--skip-preview", *targets]):
            return code
    repeat = list(dict.fromkeys(urn for one in findings for urn in one.repeat))
    stack = ["--stack", state.stack] if state.stack else []
    return _run(["pulumi", "state", "taint", *stack, "--yes", *repeat]) if repeat else 0


def _run(command: Sequence[str]) -> int:
    return processes.run_attached(command, os.environ)
