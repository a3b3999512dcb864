"""REST API v4, one module for each kind of thing."""

from __future__ import annotations

from starlette.routing import Route

from . import (
    access_tokens,
    deploy_tokens,
    files,
    groups,
    instance,
    members,
    projects,
    protected,
    registry,
    repository,
    tokens,
    users,
    variables,
)

routes: list[Route] = [
    *instance.routes,
    *users.routes,
    *tokens.routes,
    *groups.routes,
    *projects.routes,
    *members.routes,
    *access_tokens.routes,
    *deploy_tokens.routes,
    *variables.routes,
    *protected.routes,
    *files.routes,
    *repository.routes,
    *registry.routes,
]
