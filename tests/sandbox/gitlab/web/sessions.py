"""Sessions of the web pages: a signed cookie, and a CSRF token in every form."""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass

import jwt
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from .core import auth, db, settings, shared_state
from .core.auth import Principal
from .core.config import Config

COOKIE = "_gitlab_session"
#: Between password and code.
HALF_WAY = "_gitlab_half_way"
ALGORITHM = "HS256"
MINUTE = 60
CODE_PATIENCE = 5 * MINUTE


@dataclass(frozen=True)
class Session:
    """A signed-in user, or nobody."""

    who: Principal | None = None
    form_word: str = ""
    #: Until when the visitor has put off a second factor.
    skips_until: float = 0

    def check(self, word: str) -> bool:
        """Whether a form came from one of the visitor's own pages."""
        return bool(self.form_word) and hmac.compare_digest(self.form_word, word)


def read(connection: db.Connection, config: Config, request: HTTPConnection) -> Session:
    """The session of a request. A cookie that is none of ours, or too old, is as good as no cookie."""
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        return Session()
    try:
        claims = jwt.decode(cookie, _key(config), [ALGORITHM], options={"require": ["exp", "sub"]})
    except jwt.InvalidTokenError:
        return Session()
    row = db.one(connection, "SELECT * FROM users WHERE id = ?", claims["sub"])
    if row is None or row["state"] != "active":
        return Session()
    if config.redis is not None and not shared_state.knows(config.redis, cookie):
        return Session()
    return Session(Principal(row, frozenset({"api"})), str(claims["word"]), float(claims.get("skips_until", 0)))


def by_password(connection: db.Connection, login: str, password: str) -> db.Row | None:
    """The user of a name and a password, if pages take passwords. A second factor is still to be asked for."""
    if not settings.read(connection)["password_authentication_enabled_for_web"]:
        return None
    return auth.known_user(connection, login, password)


def cookie_of(connection: db.Connection, config: Config, user: db.Row, skips_until: float = 0) -> str:
    """The cookie of a user whose word is good."""
    delay = int(settings.read(connection)["session_expire_delay"]) * MINUTE
    claims = {
        "sub": str(user["id"]),
        "exp": int(time.time()) + delay,
        "word": secrets.token_urlsafe(24),
        "skips_until": skips_until,
    }
    return jwt.encode(claims, _key(config), ALGORITHM)


def half_way(config: Config, user: db.Row) -> str:
    """The cookie of a user who has still to give a code."""
    claims = {"sub": str(user["id"]), "exp": int(time.time()) + CODE_PATIENCE}
    return jwt.encode(claims, _half_way_key(config), ALGORITHM)


def who_is_half_way(connection: db.Connection, config: Config, request: Request) -> db.Row | None:
    """The user who has still to give a code."""
    try:
        claims = jwt.decode(request.cookies.get(HALF_WAY, ""), _half_way_key(config), [ALGORITHM])
    except jwt.InvalidTokenError:
        return None
    return db.one(connection, "SELECT * FROM users WHERE id = ? AND state = 'active'", claims["sub"])


def set_cookie(connection: db.Connection, response: Response, config: Config, value: str) -> None:
    """Give a cookie to a browser, for as long as a session lasts; an empty one takes it away."""
    secure = config.external_url.startswith("https:")
    if value:
        age = int(settings.read(connection)["session_expire_delay"]) * MINUTE
        if config.redis is not None:
            shared_state.remember(config.redis, value, age)
        response.set_cookie(COOKIE, value, max_age=age, path="/", secure=secure, httponly=True, samesite="lax")
    else:
        response.delete_cookie(COOKIE, path="/", secure=secure, httponly=True, samesite="lax")


def _key(config: Config) -> str:
    return f"session:{config.secret_key_base}"


def _half_way_key(config: Config) -> str:
    return f"half-way:{config.secret_key_base}"
