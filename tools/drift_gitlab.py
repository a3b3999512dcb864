"""GitLab's own settings: asked at the stack's address, wherever its name points to."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx

from components.trust import trust
from tools.answers import reason_of
from tools.clients import CheckError, Outputs
from tools.findings import Finding
from tools.state import StackState

_LIMIT_SECONDS = 20
_REVOKED = "the stack's API token is not accepted by GitLab: it was revoked, or its date has passed"


def gitlab_settings(state: StackState, outputs: Outputs) -> list[Finding]:
    """Whether the token is accepted, its owner is an administrator, sign-up is off, and settings are the stack's.

    Raises:
        CheckError: GitLab does not answer.
    """
    user = _ask(state, outputs, "user")
    if user is None:
        return [
            Finding(_REVOKED, repeat=_urns(state, "gitlab-api-token-digits")),
            Finding("sign-up: not compared, because that needs the token", is_unknown=True),
        ]
    found = []
    if not user.get("is_admin"):
        found.append(Finding(f"{user.get('username')}, which the stack acts as, is no administrator any more"))
    settings = _ask(state, outputs, "application/settings") or {}
    if settings.get("signup_enabled"):
        text = "sign-up is on: everybody can create an account"
        found.append(Finding(text, repeat=_urns(state, "gitlab-api-token")))
    for name, value in _set_by_the_stack(state).items():
        if (present := settings.get(name)) != value:
            text = f"GitLab's setting {name} is {json.dumps(present)}, and the stack's is {json.dumps(value)}"
            found.append(Finding(text, repeat=_urns(state, "gitlab-api-token")))
    return found


def _set_by_the_stack(state: StackState) -> dict[str, Any]:
    """What the last update has set in GitLab's database, by the names of its API."""
    steps = (one.raw.get("inputs") or {} for one in state.resources if one.name == "gitlab-api-token-rendered")
    return dict(json.loads(next(steps, {}).get("APPLICATION_SETTINGS", "{}")))


def require_gitlab(state: StackState, outputs: Outputs) -> None:
    """Make sure that the name leads to the stack's GitLab, and that it accepts the token.

    Raises:
        CheckError: it does not.
    """
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(outputs.host, 443, proto=socket.IPPROTO_TCP)}
    except OSError as error:
        raise CheckError(
            f"{outputs.host} cannot be resolved ({error}), and Pulumi's provider follows the name"
        ) from error
    if found != {outputs.address}:
        leads = ", ".join(sorted(found))
        raise CheckError(
            f"{outputs.host} leads to {leads} and not to {outputs.address}; Pulumi's provider follows the name, and "
            "would send the token there"
        )
    if _ask(state, outputs, "user") is None:
        raise CheckError(f"{_REVOKED}")


def _urns(state: StackState, name: str) -> tuple[str, ...]:
    return tuple(one.urn for one in state.resources if one.name == name)


def _ask(state: StackState, outputs: Outputs, path: str) -> dict[str, Any] | None:
    """What GitLab answers; None if it does not accept the token.

    Raises:
        CheckError: it does not answer, or with an error.
    """
    url = f"https://{outputs.address}/api/v4/{path}"
    headers = {"PRIVATE-TOKEN": str(outputs.values["gitlab_api_token"]), "Host": outputs.host}
    try:
        with httpx.Client(verify=trust(state.ca_certificate), timeout=_LIMIT_SECONDS) as client:
            answer = client.get(url, headers=headers, extensions={"sni_hostname": outputs.host})
    except httpx.HTTPError as error:
        raise CheckError(f"GitLab at {outputs.address} does not answer ({reason_of(error)})") from error
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return None
    if answer.status_code != httpx.codes.OK:
        raise CheckError(f"GitLab at {outputs.address} answers {answer.status_code} to /api/v4/{path}")
    return dict(answer.json())
