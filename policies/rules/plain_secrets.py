"""Secrets must not be where others can read them, encrypted in the state or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml
from pulumi_policy import ReportViolation, ResourceValidationArgs, ResourceValidationPolicy

from policies.reading import known, strings

#: What secrets look like, by their kind: prefixes that vendors have documented so that scanners find them.
KINDS: Final = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token of GitLab": re.compile(r"\bgl(pat|rt|dt|cbt|ptt|ft|soat|agent|imt)-[\w.-]{20,}"),
    "a token of DigitalOcean": re.compile(r"\bdo[opr]_v1_[0-9a-f]{64}"),
    "an access key of Spaces or S3": re.compile(r"\b(AKIA[0-9A-Z]{16}|DO(00|80)[0-9A-Z]{16})\b"),
    "a password in a URL": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"$]+:[^\s/@'\"$]+@"),
}
#: Who reads a property, by type and name. Names, tags and descriptions are read by everyone in the account.
READERS: Final = {
    "userData": "every process on the machine can read it for as long as the machine exists",
    "create": "command lines are in process lists, logs and error messages",
    "update": "command lines are in process lists, logs and error messages",
    "delete": "command lines are in process lists, logs and error messages",
    "environment": "environments are in process lists and error messages",
    "triggers": "triggers are shown by every preview that changes them",
    "name": "everybody in the account can read it",
    "tags": "everybody in the account can read them",
    "description": "everybody who sees the resource can read it",
}


def check(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Look for what resembles a secret in properties that others can read."""
    for key, readers in READERS.items():
        for path, text in strings(known(args.props, key), key):
            for kind in _found(_without_host_keys(text) if key == "userData" else text):
                report(
                    f"{args.name} has {kind} in {path}: {readers}. Send secrets on standard input (stdin), and replace "
                    "this one, because it may have been read",
                    args.urn,
                )


def _found(text: str) -> Iterator[str]:
    return (kind for kind, pattern in KINDS.items() if pattern.search(text))


def _without_host_keys(user_data: str) -> str:
    """`user_data` without the host keys in cloud-init's own place for them; the program's is for first contact only."""
    try:
        content: Any = yaml.safe_load(user_data)
    except yaml.YAMLError:
        return user_data
    if not isinstance(content, dict):
        return user_data
    return str(yaml.safe_dump({key: value for key, value in content.items() if key != "ssh_keys"}, width=10**6))


POLICY = ResourceValidationPolicy(
    name="no-secrets-in-plain-sight",
    description="No secret is in a command line, in user_data, or in a name, a tag or a description.",
    validate=check,
)
