"""Who may do what: the tokens that GitLab signs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography import x509
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .config import Token
from .errors import error

#: Of the patterns that a token may carry, and of each.
_MOST_PATTERNS, _LONGEST_PATTERN = 5, 100


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

    def denied(self, name: str, action: str) -> list[str]:
        """Patterns of tags in a repository that may not be pushed or deleted; of several entries, those of the last."""
        found: list[str] = []
        for entry in self.entries:
            patterns = (entry.get("meta") or {}).get("tag_deny_access_patterns")
            if entry.get("name") == name and patterns is not None:
                found = list(patterns.get(action) or [])
        return found


def protected(access: Access | None, name: str, action: str, reference: str) -> Response | None:
    """The answer to a push or deletion that the token's patterns deny, or None. A digest has to be free of any."""
    patterns = access.denied(name, action) if access else []
    if reference.startswith("sha256:"):
        # Deleting a manifest deletes its tags; pushing one by its digest gives it none.
        return error("PROTECTED_MANIFEST") if patterns and action == "delete" else None
    if len(patterns) > _MOST_PATTERNS:
        return error("TAG_PATTERN_COUNT", f"tag pattern count exceeds {_MOST_PATTERNS}")
    for pattern in patterns:
        if len(pattern) > _LONGEST_PATTERN:
            words = f'pattern "{pattern}" exceeds length limit of {_LONGEST_PATTERN}'
            return error("INVALID_TAG_PROTECTION_PATTERN", words)
        if re.search(pattern, reference):
            return error("PROTECTED_TAG", f'tag "{reference}" is protected')
    return None


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
