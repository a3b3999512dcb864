"""REST API v4, one module for each kind of thing."""

from __future__ import annotations

from starlette.routing import Route

from . import groups, instance, projects, registry, tokens, users

routes: list[Route] = [
    *instance.routes,
    *users.routes,
    *tokens.routes,
    *groups.routes,
    *projects.routes,
    *registry.routes,
]
