"""`/-/health`, `/-/liveness`, `/-/readiness`: 404 for addresses that are not on the allow-list."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .core import db, shared_state
from .core.auth import client_address
from .core.config import Config


async def health(request: Request) -> Response:
    """The process answers."""
    return PlainTextResponse("GitLab OK") if _allowed(request) else _hidden()


async def liveness(request: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"}) if _allowed(request) else _hidden()


async def readiness(request: Request) -> Response:
    """The application works; with `all=1` also its database."""
    if not _allowed(request):
        return _hidden()
    body: dict[str, object] = {"status": "ok", "master_check": [{"status": "ok"}]}
    if "all" not in request.query_params:
        return JSONResponse(body)
    config: Config = request.app.state.config
    try:
        await run_in_threadpool(_ask_database, config)
    except db.errors() as error:
        failed = {"status": "failed", "message": str(error)}
        return JSONResponse(body | {"status": "failed", "db_check": [failed]}, 503)
    checks: dict[str, object] = {"db_check": [{"status": "ok"}]}
    if config.redis is not None:
        try:
            await run_in_threadpool(shared_state.ask, config.redis)
        except shared_state.errors() as error:
            failures = {
                f"{store}_check": [{"status": "failed", "message": str(error)}] for store in shared_state.STORES
            }
            return JSONResponse(body | {"status": "failed"} | checks | failures, 503)
        checks |= {f"{store}_check": [{"status": "ok"}] for store in shared_state.STORES}
    return JSONResponse(body | checks)


def _ask_database(config: Config) -> None:
    with db.connect(config.database) as connection:
        connection.execute("SELECT 1 FROM users LIMIT 1")


def _allowed(request: Request) -> bool:
    config: Config = request.app.state.config
    return config.monitors(client_address(request))


def _hidden() -> Response:
    return PlainTextResponse("Not Found", 404)


routes = [
    Route("/-/health", health, methods=["GET"]),
    Route("/-/liveness", liveness, methods=["GET"]),
    Route("/-/readiness", readiness, methods=["GET"]),
]
