"""Sign-in by a provider of OpenID Connect, as GitLab does it: with an authorization code and PKCE.

Other kinds of providers in `gitlab.rb` are passed over: their buttons would lead to services that no test has.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import jwt

from .core import accounts, db, users
from .core.config import Config

COOKIE = "_gitlab_sign_in"
#: How long a visitor may take at the provider.
PATIENCE = 600
_ALGORITHM = "HS256"
_TIMEOUT = 15


class SignInError(Exception):
    """Nobody was signed in; the message is the one on GitLab's page."""


@dataclass(frozen=True)
class Provider:
    """One provider of `gitlab.rb`. Its secret is kept out of `repr`."""

    entry: dict[str, Any]

    def __repr__(self) -> str:
        return f"Provider({self.name!r})"

    @property
    def name(self) -> str:
        """Its name, which is a part of its addresses."""
        return str(self.entry["name"])

    @property
    def label(self) -> str:
        """The text of its button."""
        return str(self.entry.get("label") or self.name.replace("_", " ").title())

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of its class."""
        return dict(self.entry["args"])

    @property
    def client(self) -> dict[str, str]:
        """What the provider knows this installation by: `identifier`, `secret` and `redirect_uri`."""
        return dict(self.arguments["client_options"])


def providers(config: Config) -> list[Provider]:
    """Those of OpenID Connect, in the order of the file."""
    if not config.omniauth.get("enabled", True):
        return []
    listed = config.omniauth.get("providers", [])
    return [Provider(one) for one in listed if "issuer" in (one.get("args") or {})]


def begin(config: Config, provider: Provider) -> tuple[str, str]:
    """The address at the provider that the visitor goes to, and the cookie for the way back.

    Raises:
        SignInError: the provider does not answer, or is another one than its issuer says.
    """
    known = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(known["verifier"].encode()).digest()).decode().rstrip("=")
    query = {
        "client_id": provider.client["identifier"],
        "response_type": provider.arguments.get("response_type", "code"),
        "scope": " ".join(provider.arguments.get("scope", ["openid"])),
        "redirect_uri": provider.client["redirect_uri"],
        "state": known["state"],
        "nonce": known["nonce"],
    }
    if provider.arguments.get("pkce"):
        query |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    claims = {**known, "provider": provider.name, "exp": int(time.time()) + PATIENCE}
    address = f"{_document(provider)['authorization_endpoint']}?{urlencode(query)}"
    return address, jwt.encode(claims, _key(config), _ALGORITHM)


def finish(connection: db.Connection, config: Config, provider: Provider, cookie: str, query: dict[str, str]) -> db.Row:
    """The user who comes back from the provider.

    Raises:
        SignInError: the provider, the answer or the settings of this installation say no.
    """
    try:
        known = jwt.decode(cookie, _key(config), [_ALGORITHM], options={"require": ["exp"]})
    except jwt.InvalidTokenError as error:
        raise _failure(provider, "Csrf detected") from error
    if known["provider"] != provider.name or not secrets.compare_digest(known["state"], query.get("state", "")):
        raise _failure(provider, "Csrf detected")
    if "error" in query:
        raise _failure(provider, query.get("error_description") or query["error"])
    return _user(connection, config, provider, _claims(provider, query.get("code", ""), known))


def _claims(provider: Provider, code: str, known: dict[str, str]) -> dict[str, Any]:
    """What the provider says of the visitor, who is checked by its signature."""
    document, client = _document(provider), provider.client
    given = {"grant_type": "authorization_code", "code": code, "redirect_uri": client["redirect_uri"]}
    if provider.arguments.get("pkce"):
        given["code_verifier"] = known["verifier"]
    login = (client["identifier"], client["secret"])
    answer = httpx.post(document["token_endpoint"], data=given, auth=login, timeout=_TIMEOUT)
    if not answer.is_success:
        raise _failure(provider, _reason(answer))
    tokens = answer.json()
    identity = _verified(provider, document, tokens["id_token"])
    if identity.get("nonce") != known["nonce"]:
        raise _failure(provider, "Invalid id token")
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    found = httpx.get(document["userinfo_endpoint"], headers=bearer, timeout=_TIMEOUT)
    if not found.is_success or found.json().get("sub") != identity["sub"]:
        raise _failure(provider, "Invalid id token")
    return {**identity, **found.json()}


def _verified(provider: Provider, document: dict[str, Any], token: str) -> dict[str, Any]:
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        listed = jwt.PyJWKSet.from_dict(httpx.get(document["jwks_uri"], timeout=_TIMEOUT).json())
        key = next(one for one in listed.keys if one.key_id == kid)
        return dict(
            jwt.decode(
                token, key, ["RS256", "ES256"], audience=provider.client["identifier"], issuer=document["issuer"]
            )
        )
    except (jwt.InvalidTokenError, StopIteration) as error:
        raise _failure(provider, "Invalid id token") from error


def _user(connection: db.Connection, config: Config, provider: Provider, claims: dict[str, Any]) -> db.Row:
    uid = str(claims.get(provider.arguments.get("uid_field") or "sub") or claims["sub"])
    query = "SELECT user_id FROM identities WHERE provider = ? AND extern_uid = ?"
    if known := db.one(connection, query, provider.name, uid):
        return _allowed(users.get(connection, known["user_id"]))
    email = str(claims.get("email") or "")
    linked = users.by_login(connection, email) if email and _listed(config, "auto_link_user", provider) else None
    if linked is None and not _listed(config, "allow_single_sign_on", provider):
        host = urlsplit(config.external_url).hostname
        raise SignInError(
            f"Signing in using your {provider.label} account without a pre-existing account in {host} is not allowed."
        )
    user = linked or _created(connection, config, claims, email)
    db.insert(connection, "identities", user_id=user["id"], provider=provider.name, extern_uid=uid)
    return user


def _created(connection: db.Connection, config: Config, claims: dict[str, Any], email: str) -> db.Row:
    if not email or users.by_login(connection, email) is not None:
        reason = "has already been taken" if email else "can't be blank"
        raise SignInError(f"Sign-in failed because Email {reason}.")
    blocked = bool(config.omniauth.get("block_auto_created_users", True))
    return accounts.create(
        connection, str(claims.get("preferred_username") or ""), claims.get("name"), email, blocked=blocked
    )


def _allowed(user: db.Row) -> db.Row:
    """Refuse whom an administrator has blocked; who waits for approval is told so by the page."""
    if user["state"] == "blocked":
        raise SignInError("Your account has been blocked. Please contact your GitLab administrator.")
    return user


def _listed(config: Config, setting: str, provider: Provider) -> bool:
    value = config.omniauth.get(setting)
    return provider.name in value if isinstance(value, list) else bool(value)


def _document(provider: Provider) -> dict[str, Any]:
    issuer = str(provider.arguments["issuer"])
    address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        found: dict[str, Any] = httpx.get(address, timeout=_TIMEOUT).raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise _failure(provider, "Not found") from error
    if found.get("issuer") != issuer:
        raise _failure(provider, "Issuer mismatch")
    return found


def _failure(provider: Provider, reason: str) -> SignInError:
    return SignInError(f'Could not authenticate you from {provider.label} because "{reason}".')


def _reason(answer: httpx.Response) -> str:
    try:
        found = answer.json()
    except ValueError:
        return f"{answer.status_code}"
    return " :: ".join(str(found[key]) for key in ("error", "error_description") if key in found)


def _key(config: Config) -> str:
    return f"sign-in:{config.secret_key_base}"
