"""REST API of pipelines, jobs and runners, and the protocol that runners speak."""

from __future__ import annotations

from starlette.routing import Route

from . import artifacts, jobs, lint, pipelines, protocol, runners

routes: list[Route] = [
    *protocol.routes,
    *artifacts.routes,
    *runners.routes,
    *pipelines.routes,
    *jobs.routes,
    *lint.routes,
]
