"""Sign-in through an LDAP directory. GitLab CE uses the first one of `gitlab.rb`, and calls it `ldapmain`."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import accounts, db, users
from .config import Config

_PROGRAM = Path(__file__).with_name("directory.rb")
_LIMIT_SECONDS = 30


class DirectoryError(Exception):
    """Nobody was signed in; the message is the one on GitLab's page."""


@dataclass(frozen=True)
class Directory:
    """One of `gitlab_rails['ldap_servers']`. Its password is kept out of `repr`."""

    name: str
    server: dict[str, Any]

    def __repr__(self) -> str:
        return f"Directory({self.name!r})"

    @property
    def label(self) -> str:
        """The title of its form."""
        return str(self.server["label"])


def directory(config: Config) -> Directory | None:
    """The first one of the file, the only one of this edition."""
    for name, server in config.ldap.get("servers", {}).items():
        return Directory(f"ldap{name}", server)
    return None


def authenticate(connection: db.Connection, found: Directory, username: str, password: str) -> db.Row:
    """The user whom the directory lets in; an account is created at the first time.

    The words are those of `OmniAuth::Strategies::LDAP` in the frame of `OmniauthCallbacksController#failure`: nobody
    learns whether a name, a password or the filter was wrong.

    Raises:
        DirectoryError: it lets nobody in, or does not answer.
    """
    if not username or not password:
        raise _failure(found, "missing_credentials")
    asked = json.dumps({"server": found.server, "username": username, "password": password})
    done = subprocess.run(
        ["/usr/bin/ruby", _PROGRAM], input=asked, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS
    )
    if done.returncode:
        raise _failure(found, (done.stderr.strip().splitlines() or ["ldap_error"])[-1])
    person: dict[str, Any] | None = json.loads(done.stdout)
    if person is None:
        raise _failure(found, f"Invalid credentials for {username}")
    user = _user(connection, found, person)
    if person["disabled"]:
        connection.execute("UPDATE users SET state = 'ldap_blocked' WHERE id = ?", (user["id"],))
        raise DirectoryError("Access denied for your LDAP account.")
    if user["state"] == "ldap_blocked":
        connection.execute("UPDATE users SET state = 'active' WHERE id = ?", (user["id"],))
    return users.get(connection, user["id"])


def _user(connection: db.Connection, found: Directory, person: dict[str, Any]) -> db.Row:
    """By its entry, then by its address: GitLab trusts a directory with addresses (`Gitlab::Auth::Ldap::User`)."""
    query = "SELECT user_id FROM identities WHERE provider = ? AND extern_uid = ?"
    if known := db.one(connection, query, found.name, person["dn"]):
        return users.get(connection, known["user_id"])
    email = person["email"] or f"temp-email-for-oauth-{person['username']}@gitlab.localhost"
    user = users.by_login(connection, email)
    if user is None:
        blocked = bool(found.server["block_auto_created_users"])
        user = accounts.create(connection, person["username"] or "", person["name"], email, blocked=blocked)
    db.insert(connection, "identities", user_id=user["id"], provider=found.name, extern_uid=person["dn"])
    return user


def _failure(found: Directory, reason: str) -> DirectoryError:
    kind = "".join(part.capitalize() for part in found.name.split("_"))
    return DirectoryError(f'Could not authenticate you from {kind} because "{humanized(reason)}".')


def humanized(text: str) -> str:
    """As `String#humanize` has it, which GitLab applies to whatever a library says."""
    words = text.replace("_", " ").lower()
    return words[:1].upper() + words[1:]
