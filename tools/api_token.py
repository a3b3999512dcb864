"""Replace the API token of a stack if GitLab does not accept it any more.

`pulumi refresh` and `pulumi destroy` do not run the program: they use the token that the last update stored. It expires
some months after that update, and an administrator can revoke it; then only an update creates another one.
"""

from __future__ import annotations

import os

import httpx

from components.trust import trust
from tools import processes
from tools.answers import reason_of
from tools.clients import CheckError, run
from tools.progress import ToolError, say
from tools.state import StackState

#: What the new token needs updated, and nothing else: its random part, the step that registers it, the number of that
#: step's attempt, and the provider.
TARGETS = (
    "random:index/randomPassword:RandomPassword::gitlab-api-token-digits",
    "random:index/randomId:RandomId::gitlab-api-token-attempt",
    "command:remote:Command::gitlab-api-token",
    "pulumi:providers:gitlab::gitlab",
)


def renew(stack: str | None) -> None:
    """Ask GitLab whether it accepts the stack's token, and replace it if not.

    Does nothing if the stack has none, or if GitLab does not respond: it may be stopped or deleted already, and then
    the command that follows needs no token.

    Raises:
        ToolError: the token could not be replaced.
    """
    which = ["--stack", stack] if stack else []
    state = StackState.of_stack(stack)
    known = [one for one in state.resources if not one.is_pending]
    provider = next((one for one in known if one.urn.endswith(TARGETS[-1])), None)
    if provider is None:
        return
    answer = _accepts(str(provider.values["baseUrl"]), _token(which), state.ca_certificate)
    if answer != "401":
        say(f"the API token: {'GitLab accepts it' if answer == '200' else f'GitLab cannot be asked ({answer})'}")
        return
    say("the API token: GitLab does not accept it any more; creating another one")
    urns = [one.urn for one in known if one.urn.endswith(TARGETS)]
    digits = next(urn for urn in urns if urn.endswith(TARGETS[0]))
    targets = [option for urn in urns for option in ("--target", urn)]
    command = ["pulumi", "up", *which, "--yes", "--skip-preview", "--target-replace", digits, *targets]
    if processes.run_attached(command, os.environ) != 0:
        raise ToolError(
            "GitLab does not accept the stack's API token, and another one could not be created (see above). "
            "Run pulumi up first"
        )


def _token(which: list[str]) -> str:
    try:
        return run("pulumi", "stack", "output", "gitlab_api_token", "--show-secrets", *which).strip()
    except CheckError:
        # The first update has not come far enough.
        return ""


def _accepts(url: str, token: str, ca_certificate: str | None) -> str:
    """The status of a request with the token, or why there is none."""
    headers = {"PRIVATE-TOKEN": token}
    try:
        answer = httpx.get(f"{url}user", headers=headers, timeout=20, verify=trust(ca_certificate))
    except httpx.HTTPError as error:
        return reason_of(error)
    return str(answer.status_code)
