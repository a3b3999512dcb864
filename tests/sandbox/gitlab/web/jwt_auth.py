"""`/jwt/auth`: where the registry sends its clients for a token.

Only GET: a POST (OAuth2) is answered with 404, and clients then use GET.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import access, auth, db, settings
from .auth import Principal
from .config import Config
from .errors import ApiError
from .registry_client import SERVICE, sign

DENIED_BASIC = (
    "HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect or "
    "you're required to use a token instead of a password. If a token was provided, it was either incorrect, "
    "expired, or improperly scoped."
)


async def jwt_auth(request: Request) -> Response:
    """A token for what was asked and may be had."""
    return await run_in_threadpool(_answer, request)


def _answer(request: Request) -> Response:
    config: Config = request.app.state.config
    if request.query_params.get("service") != SERVICE:
        return Response(status_code=404)
    if config.registry is None:
        return _error(404, "UNAVAILABLE", "registry not enabled")
    with db.connect(config.database) as connection:
        given = basic(request)
        who = credentials(connection, config, *given) if given else None
        if given and who is None:
            return _error(401, "UNAUTHORIZED", DENIED_BASIC)
        asked = [scope for text in request.query_params.getlist("scope") for scope in text.split()]
        granted = [entry for entry in (grant(connection, who, scope) for scope in asked) if entry]
        if who is None and not granted:
            return _error(403, "DENIED", "access forbidden")
        minutes = int(settings.read(connection)["container_registry_token_expire_delay"])
    subject = who.user["username"] if who else ""
    kind = "gitlab_or_ldap" if who is None or who.token is None else "personal_access_token"
    return JSONResponse({"token": sign(config, config.registry, granted, subject, minutes, auth_type=kind)})


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


def credentials(connection: db.Connection, config: Config, login: str, password: str) -> Principal | None:
    """The user of a personal access token (whatever the name), or of a name and a password."""
    try:
        return auth.by_token(connection, config, password)
    except ApiError:
        return auth.by_password(connection, login, password)


def grant(connection: db.Connection, who: Principal | None, scope: str) -> dict[str, Any] | None:
    """What of a scope (`repository:path:pull,push`) is granted. A repository lies in a project that exists."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    if kind != "repository":
        return None
    project = project_of(connection, name)
    if project is None:
        return None
    level = access.project_level(connection, who, project)
    allowed = [action for action in actions.split(",") if _may(who, project, level, action)]
    if not allowed:
        return None
    if "push" in allowed:
        remember(connection, project, name)
    return {"type": kind, "name": name, "actions": allowed, "meta": {"project_path": project["full_path"].lower()}}


def project_of(connection: db.Connection, path: str) -> db.Row | None:
    """The project that a repository lies in: the path itself, or one that it begins with."""
    parts = path.split("/")
    for length in range(len(parts), 1, -1):
        project = db.one(connection, "SELECT * FROM projects WHERE full_path = ?", "/".join(parts[:length]))
        if project is not None:
            return project
    return None


def remember(connection: db.Connection, project: db.Row, path: str) -> None:
    """Make the record of a repository, as GitLab does when a push is allowed."""
    if db.one(connection, "SELECT 1 FROM container_repositories WHERE path = ?", path) is None:
        db.insert(connection, "container_repositories", project_id=project["id"], path=path, created_at=db.now())


def _may(who: Principal | None, project: db.Row, level: int, action: str) -> bool:
    exposure = json.loads(project["options"]).get("container_registry_access_level", "enabled")
    if exposure == "disabled" or (exposure == "private" and level < access.REPORTER):
        return False
    scopes = who.scopes if who else frozenset()
    if action == "pull":
        token_may = who is None or scopes & {"api", "read_registry"}
        return bool(token_may) and (level >= access.REPORTER or access.visible(who, project, 0))
    token_may = scopes & {"api", "write_registry"} if action == "push" else scopes & {"api"}
    return action in ("push", "delete", "*") and bool(token_may) and level >= access.DEVELOPER


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"errors": [{"code": code, "message": message}]}, status)


routes = [Route("/jwt/auth", jwt_auth, methods=["GET"])]
