"""Second factors: codes of an authenticator (RFC 6238), and who needs one.

The rules are those of GitLab's `Gitlab::Auth::TwoFactorAuthVerifier` and `Profiles::TwoFactorAuthsController`: a user
is asked for one at the first page, may put it off until the grace period ends, and sees no other page afterwards.
Recovery codes and hardware keys are left out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
import time
from datetime import datetime, timedelta

from . import db, settings
from .config import Config
from .sealing import seal, unseal

#: Seconds that a code lasts, and codes before and after the present one that are taken as well.
STEP, DRIFT = 30, 1
_DIGITS = 6


def code(secret: str, step: int) -> str:
    """The code of a secret at one step of time."""
    key = base64.b32decode(secret)
    digest = hmac.digest(key, struct.pack(">Q", step), hashlib.sha1)
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return str(number % 10**_DIGITS).zfill(_DIGITS)


def now() -> int:
    """The present step of time."""
    return int(time.time()) // STEP


def is_required(connection: db.Connection, user: db.Row) -> bool:
    """Whether a user still has to set one up."""
    return bool(settings.read(connection)["require_two_factor_authentication"]) and not user["otp_required_for_login"]


def deadline(connection: db.Connection, user: db.Row) -> datetime | None:
    """When the grace period of a user ends; it starts when the user is asked first."""
    started = user["otp_grace_period_started_at"]
    hours = int(settings.read(connection)["two_factor_grace_period"])
    return datetime.fromisoformat(started) + timedelta(hours=hours) if started else None


def is_late(connection: db.Connection, user: db.Row) -> bool:
    """Whether the grace period of a user is over."""
    end = deadline(connection, user)
    return end is not None and end.timestamp() < time.time()


def is_enforced(connection: db.Connection, user: db.Row) -> bool:
    """Whether neither git nor Docker take the password any more."""
    return is_required(connection, user) and is_late(connection, user)


def ask(connection: db.Connection, config: Config, user: db.Row) -> str:
    """The secret that a user may set up; the grace period starts with the first one."""
    sealed = user["otp_secret"] or seal(config, base64.b32encode(secrets.token_bytes(20)).decode())
    query = (
        "UPDATE users SET otp_secret = ?, otp_grace_period_started_at = COALESCE(otp_grace_period_started_at, ?) "
        "WHERE id = ?"
    )
    connection.execute(query, (sealed, db.now(), user["id"]))
    return unseal(config, sealed)


def accept(connection: db.Connection, config: Config, user: db.Row, given: str) -> bool:
    """Whether this is a code of the user's. None is taken twice."""
    if not user["otp_secret"]:
        return False
    secret, last = unseal(config, user["otp_secret"]), user["consumed_timestep"] or 0
    for step in range(now() - DRIFT, now() + DRIFT + 1):
        if step > last and hmac.compare_digest(code(secret, step).encode(), given.strip().encode()):
            connection.execute("UPDATE users SET consumed_timestep = ? WHERE id = ?", (step, user["id"]))
            return True
    return False


def turn_on(connection: db.Connection, user: db.Row) -> None:
    """From now on the user signs in with it."""
    connection.execute("UPDATE users SET otp_required_for_login = 1 WHERE id = ?", (user["id"],))
