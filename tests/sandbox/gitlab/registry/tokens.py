"""Who may do what: the tokens that GitLab signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jwt
from cryptography import x509
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .config import Token


@dataclass(frozen=True)
class Access:
    """The rights that a token grants."""

    entries: tuple[dict[str, Any], ...]

    def allows(self, name: str, *actions: str) -> bool:
        """Whether all of the actions on a repository are granted."""
        granted = {
            action
            for entry in self.entries
            if entry.get("type") == "repository" and entry.get("name") == name
            for action in entry.get("actions") or []
        }
        return all(action in granted or "*" in granted for action in actions)


class Tokens:
    """Reads and checks the tokens of requests."""

    def __init__(self, token: Token) -> None:
        self._token = token
        certificate = x509.load_pem_x509_certificate(token.certificate.read_bytes())
        self._key: Any = certificate.public_key()

    def access(self, request: Request) -> Access | None:
        """The rights of a request; None without a good token."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        try:
            found = jwt.decode(
                token, self._key, algorithms=["RS256"], audience=self._token.service, issuer=self._token.issuer
            )
        except jwt.InvalidTokenError:
            return None
        return Access(tuple(found.get("access") or ()))

    def refusal(self, request: Request, name: str = "", *actions: str) -> Response | None:
        """The answer to a request that may not do this, or None if it may."""
        access = self.access(request)
        if access is not None and (not name or access.allows(name, *actions)):
            return None
        challenge = f'Bearer realm="{self._token.realm}",service="{self._token.service}"'
        detail = [{"Type": "repository", "Class": "", "Name": name, "Action": action} for action in actions]
        if name:
            challenge += f',scope="repository:{name}:{",".join(actions)}"'
            challenge += ',error="insufficient_scope"' if access else ""
        error = {"code": "UNAUTHORIZED", "message": "authentication required", "detail": detail or None}
        return JSONResponse({"errors": [error]}, 401, headers={"www-authenticate": challenge})
