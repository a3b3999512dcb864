"""The control panel's answer about a token, which is at another host than the API and in none of its documents.

`doctl auth init` asks for it (`do/oauth.go`, 1.160): `scopes` is a list. Custom scopes are in it by their names;
full access is `read` and `write`, as in the OAuth API.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Route, Router

from tests.sandbox.digitalocean.routes.common import answer, cloud_of

HOST = "cloud.digitalocean.com"


async def show_token(request: Request) -> Response:
    cloud = cloud_of(request)
    token = request.headers["authorization"].partition(" ")[2].strip()
    scopes = cloud.account.tokens.get(token, cloud.account.scopes)
    return answer(
        {
            "resource_owner_id": 1,
            "scopes": ["read", "write"] if scopes is None else scopes,
            "expires_in_seconds": None,
            "application": {"uid": None},
            "created_at": 1_767_225_600,
        }
    )


TOKEN_INFO = Host(HOST, Router([Route("/v1/oauth/token/info", show_token, methods=["GET"])]))
