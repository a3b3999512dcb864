"""Authentication of API requests, and the scopes of the token."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection, Request

from . import db, job_tokens, passwords, second_factor, tokens, users
from .config import Config
from .errors import ApiError, forbidden, insufficient_scope, invalid_token, unauthorized
from .job_tokens import JobToken

READING = ("GET", "HEAD")
EXPIRED = "Token is expired. You can either do re-authorization or token refresh."
REVOKED = "Token was revoked. You have to re-authorize from the user."


def client_address(request: Request) -> str:
    """The address that nginx saw; of a caller on loopback that did not come through nginx, its own."""
    own = request.client.host if request.client else "127.0.0.1"
    return request.headers.get("x-real-ip", own)


@dataclass(frozen=True)
class Principal:
    """A user, with the token that they came with when it was one."""

    user: db.Row
    scopes: frozenset[str]
    token: db.Row | None = field(default=None, repr=False)

    @property
    def admin(self) -> bool:
        """Whether this user may do anything."""
        return bool(self.user["admin"])


def by_token(connection: db.Connection, config: Config, value: str) -> Principal:
    """The owner of a personal access token. Refuses expired and revoked ones, each in its own words."""
    row = db.one(
        connection,
        "SELECT * FROM personal_access_tokens WHERE token_digest = ?",
        tokens.digest(value, config.db_key_base),
    )
    if row is None:
        raise unauthorized()
    if tokens.expired(row):
        raise invalid_token(EXPIRED)
    if row["revoked"]:
        raise invalid_token(REVOKED)
    user = users.get(connection, row["user_id"])
    if user["state"] != "active":
        raise forbidden("Your account has been blocked.")
    connection.execute("UPDATE personal_access_tokens SET last_used_at = ? WHERE id = ?", (db.now(), row["id"]))
    return Principal(user, frozenset(json.loads(row["scopes"])), row)


def by_password(connection: db.Connection, login: str, password: str) -> Principal | None:
    """A user by name and password, for git and Docker: they cannot ask for a second factor.

    So it is nobody who has one, or should have one by now (`Gitlab::Auth.user_with_password_for_git`).
    """
    user = known_user(connection, login, password)
    if user is None or user["otp_required_for_login"] or second_factor.is_enforced(connection, user):
        return None
    return Principal(user, frozenset({"api"}))


def known_user(connection: db.Connection, login: str, password: str) -> db.Row | None:
    """The active user of this name and password."""
    user = users.by_login(connection, login)
    if user is None or user["state"] != "active" or not passwords.matches(password, user["password_digest"]):
        return None
    return user


def token_of(request: HTTPConnection) -> str | None:
    """The token that a request carries, wherever it does."""
    header = request.headers.get("private-token")
    if header:
        return header
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return request.query_params.get("private_token") or request.query_params.get("access_token")


def identify(connection: db.Connection, config: Config, request: HTTPConnection) -> Principal | None:
    """Who asks; nobody when there is no token. A token that is no good is refused."""
    value = token_of(request)
    if value is None:
        return None
    principal = by_token(connection, config, value)
    return _sudo(connection, request, principal)


def job_of(connection: db.Connection, config: Config, request: Request) -> JobToken | None:
    """The running job whose token a request carries. Only few calls look for one; to all others it is nobody's."""
    value = request.headers.get("job-token") or request.query_params.get("job_token")
    if not value:
        return None
    job = job_tokens.find(connection, config, value)
    if job is None:
        raise unauthorized()
    return job


def require(principal: Principal | None, request: Request, *also: str) -> Principal:
    """Refuse without a user, and a token without `api` (`read_api` for reading) or one of the scopes in `also`."""
    if principal is None:
        raise unauthorized()
    allowed = ["api", *(["read_api"] if request.method in READING else []), *also]
    if not principal.scopes.intersection(allowed):
        raise insufficient_scope(allowed)
    return principal


def require_admin(principal: Principal) -> None:
    """Refuse everybody but administrators."""
    if not principal.admin:
        raise forbidden()


def _sudo(connection: db.Connection, request: HTTPConnection, principal: Principal) -> Principal:
    login = request.headers.get("sudo") or request.query_params.get("sudo")
    if not login:
        return principal
    if not principal.admin:
        raise forbidden("Must be admin to use sudo")
    if "sudo" not in principal.scopes:
        raise insufficient_scope(["sudo"])
    number = int(login) if login.isascii() and login.isdecimal() else None
    user = db.one(connection, "SELECT * FROM users WHERE username = ? OR id = ?", login, number)
    if user is None:
        raise ApiError(404, {"message": f"404 User with ID or username '{login}' Not Found"})
    return Principal(user, principal.scopes, principal.token)
