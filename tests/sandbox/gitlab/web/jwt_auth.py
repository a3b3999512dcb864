"""`/jwt/auth`: issues the tokens that the registry asks its clients for.

GET only: a POST (OAuth2) gets 404, and clients then use GET.
"""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .core import container_protection, db, settings
from .core.config import Config
from .core.credentials import DELETE, DENIED, IMAGES, Credential, basic, credential_of, rights
from .core.registry_client import SERVICE, sign

#: What the registry calls a right to do everything.
_NEEDS = {"*": DELETE}


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
        credential = credential_of(connection, config, basic(request))
        if credential is None:
            return _error(401, "UNAUTHORIZED", DENIED)
        asked = [scope for text in request.query_params.getlist("scope") for scope in text.split()]
        granted = [entry for entry in (grant(connection, credential, scope) for scope in asked) if entry]
        if not (credential.abilities & IMAGES) or not (credential.known or granted):
            return _error(403, "DENIED", "access forbidden")
        if any(_push_forbidden(connection, credential, entry) for entry in granted):
            return _error(403, "DENIED", "Pushing to protected repository path forbidden")
        minutes = int(settings.read(connection)["container_registry_token_expire_delay"])
    return JSONResponse(
        {"token": sign(config, config.registry, granted, credential.name, minutes, auth_type=credential.kind)}
    )


def grant(connection: db.Connection, credential: Credential, scope: str) -> dict[str, Any] | None:
    """What of a scope (`repository:path:pull,push`) is granted. A repository lies in a project that exists."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    if kind != "repository":
        return None
    project = project_of(connection, name)
    if project is None:
        return None
    may = rights(connection, credential, project)
    allowed = [action for action in actions.split(",") if _NEEDS.get(action, action) in may]
    if not allowed:
        return None
    if "push" in allowed:
        remember(connection, project, name)
    meta: dict[str, Any] = {"project_path": project["full_path"].lower()}
    denied = container_protection.denied_tags(connection, project, credential.who, allowed)
    if denied is not None:
        meta["tag_deny_access_patterns"] = denied
    return {"type": kind, "name": name, "actions": allowed, "meta": meta}


def _push_forbidden(connection: db.Connection, credential: Credential, entry: dict[str, Any]) -> bool:
    project = project_of(connection, entry["name"])
    if project is None or not {"push", "*"} & set(entry["actions"]):
        return False
    return container_protection.push_forbidden(connection, project, credential.who, entry["name"])


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
    # Clients ask for several tokens at once; the first one makes the record.
    connection.execute(
        "INSERT INTO container_repositories (project_id, path, created_at) VALUES (?, ?, ?)"
        " ON CONFLICT (path) DO NOTHING",
        (project["id"], path, db.now()),
    )


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"errors": [{"code": code, "message": message}]}, status)


async def no_oauth(request: Request) -> Response:
    """The refusal that makes clients use GET. Before the request has ended, the proxy would answer with 502."""
    await request.body()
    return Response(status_code=404)


routes = [Route("/jwt/auth", jwt_auth, methods=["GET"]), Route("/jwt/auth", no_oauth, methods=["POST"])]
