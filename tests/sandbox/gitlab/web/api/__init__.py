"""REST API v4, one module per kind of resource, and the protocol of runners."""

from __future__ import annotations

from starlette.routing import Route

from . import (
    access_tokens,
    artifacts,
    deploy_tokens,
    files,
    groups,
    instance,
    jobs,
    lint,
    members,
    pipelines,
    projects,
    protected,
    protocol,
    registry,
    repository,
    runners,
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
    *protocol.routes,
    *artifacts.routes,
    *runners.routes,
    *pipelines.routes,
    *jobs.routes,
    *lint.routes,
]
