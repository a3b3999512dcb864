"""Credentials for git and the registry: a name and a password, and what they allow.

The password is a user's, or a personal access token, project access token, deploy token or job token.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field

from starlette.requests import Request

from . import access, auth, db, deploy_tokens, directory, job_tokens, projects, second_factor, settings, users
from .auth import Principal
from .config import Config
from .directory import Directory
from .errors import ApiError
from .job_tokens import JobToken

READ_CODE, WRITE_CODE, PULL, PUSH, DELETE = "read_code", "write_code", "pull", "push", "delete"
CODE, IMAGES = frozenset({READ_CODE, WRITE_CODE}), frozenset({PULL, PUSH, DELETE})
#: What a scope of a token is good for.
BY_SCOPE = {
    "api": CODE | IMAGES,
    "read_api": frozenset[str](),
    "read_repository": frozenset({READ_CODE}),
    "write_repository": CODE,
    "read_registry": frozenset({PULL}),
    "write_registry": frozenset({PUSH}),
}
DENIED = (
    "HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect or "
    "you're required to use a token instead of a password. If a token was provided, it was either incorrect, "
    "expired, or improperly scoped."
)


@dataclass(frozen=True)
class Credential:
    """A user, a deploy token or a running job; anonymous if all three are missing."""

    who: Principal | None = None
    deploy_token: db.Row | None = field(default=None, repr=False)
    job: JobToken | None = None

    @property
    def name(self) -> str:
        """The name in the tokens for the registry."""
        if self.deploy_token is not None:
            return str(self.deploy_token["username"])
        return str(self.who.user["username"]) if self.who else ""

    @property
    def kind(self) -> str:
        """The kind of credential, in GitLab's words."""
        if self.deploy_token is not None:
            return "deploy_token"
        if self.job is not None:
            return "build"
        if self.who is not None and self.who.token is not None:
            return "personal_access_token"
        return "gitlab_or_ldap" if self.who is not None else "none"

    @property
    def known(self) -> bool:
        """Whether it is not anonymous."""
        return self.who is not None or self.deploy_token is not None

    @property
    def abilities(self) -> frozenset[str]:
        """What this kind of credential allows in any project."""
        if self.deploy_token is not None:
            return _of_scopes(json.loads(self.deploy_token["scopes"]))
        if self.job is not None:
            return CODE | IMAGES
        if self.who is None:
            return frozenset({READ_CODE, PULL})
        return _of_scopes(self.who.scopes)


def basic(request: Request) -> tuple[str, str] | None:
    """Name and password of a request."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        login, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return login, password


def credential_of(connection: db.Connection, config: Config, given: tuple[str, str] | None) -> Credential | None:
    """The credential for a name and a password, None if they are wrong. Without them, it is anonymous."""
    if given is None:
        return Credential()
    login, password = given
    if login == job_tokens.USERNAME:
        job = job_tokens.find(connection, config, password)
        return Credential(Principal(job.user, frozenset({"api"})), job=job) if job else None
    if (deploy := deploy_tokens.find(connection, config, login, password)) is not None:
        return Credential(deploy_token=deploy)
    try:
        return Credential(auth.by_token(connection, config, password))
    except ApiError:
        who = auth.by_password(connection, login, password) or _of_directory(connection, config, login, password)
        return Credential(who) if who else None


def _of_directory(connection: db.Connection, config: Config, login: str, password: str) -> Principal | None:
    """Whom the directory lets in (`Gitlab::Auth.find_with_user_password`): somebody of it, or nobody known yet."""
    found, user = directory.directory(config), users.by_login(connection, login)
    if found is None or (user is not None and not _is_of(connection, user, found)):
        return None
    try:
        user = directory.authenticate(connection, found, login, password)
    except directory.DirectoryError:
        return None
    has_second_factor = user["otp_required_for_login"] or second_factor.is_enforced(connection, user)
    return None if user["state"] != "active" or has_second_factor else Principal(user, frozenset({"api"}))


def _is_of(connection: db.Connection, user: db.Row, found: Directory) -> bool:
    query = "SELECT 1 FROM identities WHERE user_id = ? AND provider = ?"
    return db.one(connection, query, user["id"], found.name) is not None


def rights(connection: db.Connection, credential: Credential, project: db.Row) -> frozenset[str]:
    """What a credential allows with the code and the images of a project."""
    if credential.deploy_token is not None:
        reached = deploy_tokens.reaches(connection, credential.deploy_token, project)
        of_project = _open_to(project, member=True) if reached else _public(project)
        return of_project & credential.abilities
    level = access.project_level(connection, credential.who, project)
    if credential.job is not None:
        return _of_job(credential.job, project, level)
    return _of_level(credential.who, project, level) & credential.abilities


def git_by_password(connection: db.Connection) -> bool:
    """Whether git may be used with the password of a user."""
    return bool(settings.read(connection)["password_authentication_enabled_for_git"])


def _of_job(job: JobToken, project: db.Row, level: int) -> frozenset[str]:
    if job.project["id"] != project["id"]:
        return _public(project)
    allowed = _open_to(project, member=level >= access.REPORTER)
    if level < access.DEVELOPER:
        allowed -= {PUSH, DELETE}
    if level < access.DEVELOPER or not projects.options(project)["ci_push_repository_for_job_token_allowed"]:
        allowed -= {WRITE_CODE}
    return allowed


def _of_level(who: Principal | None, project: db.Row, level: int) -> frozenset[str]:
    if not access.visible(who, project, level):
        return frozenset()
    allowed = _open_to(project, member=level >= access.REPORTER)
    if level < access.DEVELOPER:
        allowed -= {WRITE_CODE, PUSH, DELETE}
    if level < access.REPORTER and project["visibility"] == "private":
        allowed = frozenset()
    return allowed


def _public(project: db.Row) -> frozenset[str]:
    return _of_level(None, project, 0)


def _open_to(project: db.Row, member: bool) -> frozenset[str]:
    """What the project has turned on, for members or for everybody."""
    options = projects.options(project)
    allowed: frozenset[str] = frozenset()
    code = CODE - {WRITE_CODE} if project["archived"] else CODE
    for name, what in (("repository_access_level", code), ("container_registry_access_level", IMAGES)):
        if options[name] == "enabled" or (options[name] == "private" and member):
            allowed |= what
    return allowed


def _of_scopes(scopes: frozenset[str] | list[str]) -> frozenset[str]:
    return frozenset().union(*(BY_SCOPE.get(scope, frozenset()) for scope in scopes))
