"""Passwords: hashes, and which ones are too weak."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

ROUNDS = 20_000
MINIMUM_LENGTH = 8
MAXIMUM_LENGTH = 128
#: Words that may not be part of a password; parts of the user's own names come on top.
FORBIDDEN_WORDS = ("gitlab", "devops")
SHORTEST_PART = 4
COMMON = frozenset((Path(__file__).parent / "common_passwords.txt").read_text().split())


def digest(password: str) -> str:
    """PBKDF2 in the form that GitLab uses where bcrypt is not allowed: `$pbkdf2-sha512$rounds$salt$checksum`."""
    salt = secrets.token_bytes(16)
    return f"$pbkdf2-sha512${ROUNDS}${_encode(salt)}${_encode(_derive(password, salt, ROUNDS))}"


def matches(password: str, stored: str) -> bool:
    """Whether this is the password that was digested."""
    _, kind, rounds, salt, checksum = stored.split("$")
    if kind != "pbkdf2-sha512":
        raise ValueError(f"password digest of kind {kind}")
    found = _derive(password, base64.b64decode(salt), int(rounds))
    return hmac.compare_digest(found, base64.b64decode(checksum))


def weakness(password: str, *names: str) -> str | None:
    """Why a password is refused, in GitLab's words; nothing when it is good."""
    if len(password) < MINIMUM_LENGTH:
        return f"is too short (minimum is {MINIMUM_LENGTH} characters)"
    if len(password) > MAXIMUM_LENGTH:
        return f"is too long (maximum is {MAXIMUM_LENGTH} characters)"
    lower = password.lower()
    parts = {
        part for name in names for part in (name.lower(), *name.lower().replace("@", " ").replace(".", " ").split())
    }
    words = {*FORBIDDEN_WORDS, *(part for part in parts if len(part) >= SHORTEST_PART)}
    if lower in COMMON or len(set(lower)) == 1 or any(word in lower for word in words):
        return "must not contain commonly used combinations of words and letters"
    return None


def _derive(password: str, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, 64)


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
