"""Web pages: projects, pipelines, jobs, runners and images. All of them work without JavaScript."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import httpx
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from . import second_factor_pages, sessions
from .ci import actions, logs, progress, runners, storage, views
from .core import access, db, projects, protection, repositories
from .core.config import Config
from .core.registry_client import RegistryClient
from .page import ABSENT, HERE, SAFE, Page
from .sign_in_pages import by_directory, from_provider, sign_in, sign_up, signed_in, signed_out, to_provider

PAGE_SIZE = 50


class _ProjectPath(Convertor[str]):
    """The path of a project: two parts or more, none of which an address of another kind begins with."""

    regex = r"(?!api/|admin/|users/|assets/|jwt/)[A-Za-z0-9_.][\w.-]*(?:/[A-Za-z0-9_.][\w.-]*)+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Action(_ProjectPath):
    """What a form does."""

    regex = "retry|cancel|play"


register_url_convertor("project", _ProjectPath())
register_url_convertor("action", _Action())


def home(page: Page) -> Response:
    """Projects that the visitor can see; those who are nobody sign in first."""
    if page.session.who is None:
        return RedirectResponse(f"{page.config.external_url}/users/sign_in", 302)
    newest = "SELECT * FROM ci_pipelines WHERE project_id = ? ORDER BY id DESC"
    rows = [
        (row, db.one(page.connection, newest, row["id"]))
        for row, _ in projects.visible(page.connection, page.session.who)
    ]
    return page.render("dashboard.html", rows=rows, live=True)


def project(page: Page) -> Response:
    """What is in a project."""
    row, _ = page.project(access.GUEST)
    branch = row["default_branch"] or "main"
    newest = db.one(page.connection, "SELECT * FROM ci_pipelines WHERE project_id = ? ORDER BY id DESC", row["id"])
    entries = repositories.tree(page.config, row["id"], branch)
    return page.render(
        "project.html",
        project=row,
        here="Project",
        branch=branch,
        commit=repositories.commit(page.config, row["id"], branch),
        entries=sorted(entries, key=lambda entry: (entry.kind != "tree", entry.path)),
        pipeline=views.pipeline(page.connection, page.config, newest) if newest else None,
        live=newest is not None and newest["status"] not in progress.FINISHED,
    )


def pipelines(page: Page) -> Response:
    """Pipelines, newest first."""
    row, _ = page.project()
    found = page.connection.execute(
        "SELECT * FROM ci_pipelines WHERE project_id = ? ORDER BY id DESC LIMIT ?", (row["id"], PAGE_SIZE)
    ).fetchall()
    shown = [_pipeline(page, entry) for entry in found]
    return page.render("pipelines.html", project=row, here="Pipelines", rows=shown, live=True)


def pipeline(page: Page) -> Response:
    """One pipeline: its jobs by stage, and why one finds no runner."""
    row, level = page.project()
    found = page.one("ci_pipelines", "pipeline", row)
    stages: dict[str, list[dict[str, Any]]] = {}
    for job in progress.latest(page.connection, found["id"]):
        stuck = runners.why_stuck(page.connection, job)
        shown = views.job(page.connection, page.config, job)
        shown["duration"] = shown["duration"] if job["started_at"] else None
        shown["confirmation"] = json.loads(job["options"]).get("manual_confirmation")
        stages.setdefault(job["stage"], []).append({"failure_reason": None, **shown, "stuck": stuck})
    return page.render(
        "pipeline.html",
        project=row,
        here="Pipelines",
        pipeline=_pipeline(page, found),
        stages=list(stages.items()),
        may_write=_may_run(page, row, level, found),
        live=found["status"] not in progress.FINISHED,
    )


def jobs(page: Page) -> Response:
    """Jobs, newest first."""
    row, _ = page.project()
    found = page.connection.execute(
        "SELECT * FROM ci_jobs WHERE project_id = ? ORDER BY id DESC LIMIT ?", (row["id"], PAGE_SIZE)
    ).fetchall()
    shown = [{"failure_reason": None, **views.job(page.connection, page.config, entry)} for entry in found]
    return page.render("jobs.html", project=row, here="Jobs", rows=shown, live=True)


def job(page: Page) -> Response:
    """One job with its log."""
    row, level = page.project()
    found = page.one("ci_jobs", "job", row)
    content = storage.log(page.connection, page.config, found["id"])
    return page.render(
        "job.html",
        project=row,
        here="Jobs",
        job={"failure_reason": None, **views.job(page.connection, page.config, found)},
        exit_code=found["exit_code"],
        retried=found["retried"],
        stuck=runners.why_stuck(page.connection, found),
        has_log=bool(content),
        log=logs.render(content),
        confirmation=json.loads(found["options"]).get("manual_confirmation"),
        may_write=_may_run(page, row, level, page.pipeline_of(found)),
        live=found["status"] not in progress.FINISHED,
    )


def raw_log(page: Page) -> Response:
    """The log as the runner sent it."""
    row, _ = page.project()
    found = page.one("ci_jobs", "job", row)
    return PlainTextResponse(
        storage.log(page.connection, page.config, found["id"]).decode(errors="replace"), headers=SAFE
    )


def change_pipeline(page: Page) -> Response:
    """Run a pipeline again, or stop it."""
    row, level = page.project(access.DEVELOPER)
    found, who = page.one("ci_pipelines", "pipeline", row), page.user()
    if not _may_run(page, row, level, found):
        raise page.absent()
    if page.request.path_params["action"] == "retry":
        actions.retry_pipeline(page.connection, found, who.user["id"])
    else:
        actions.cancel_pipeline(page.connection, found)
    return page.back(f"{row['full_path']}/-/pipelines/{found['id']}")


def change_job(page: Page) -> Response:
    """Run a job (again), or stop it."""
    row, level = page.project(access.DEVELOPER)
    found, who = page.one("ci_jobs", "job", row), page.user()
    if not _may_run(page, row, level, page.pipeline_of(found)):
        raise page.absent()
    action, identity = page.request.path_params["action"], found["id"]
    if action == "retry":
        identity = actions.retry_job(page.connection, found, who.user["id"])
    elif action == "play":
        actions.play_job(page.connection, found, who.user["id"])
    else:
        actions.cancel_job(page.connection, found)
    return page.back(f"{row['full_path']}/-/jobs/{identity}")


def project_runners(page: Page) -> Response:
    """Runners that a project can use."""
    row, _ = page.project(access.MAINTAINER)
    everyone = page.connection.execute("SELECT * FROM ci_runners ORDER BY id").fetchall()
    found = [entry for entry in everyone if runners.serves(page.connection, entry, row)]
    return page.render(
        "runners.html",
        project=row,
        here="Runners",
        rows=[views.runner_details(page.connection, page.config, entry) for entry in found],
        shared=projects.options(row)["shared_runners_enabled"],
        live=True,
    )


def all_runners(page: Page) -> Response:
    """All runners, for administrators."""
    if page.session.who is None or not page.session.who.admin:
        raise page.absent()
    rows = page.connection.execute("SELECT * FROM ci_runners ORDER BY id DESC").fetchall()
    shown = [views.runner_details(page.connection, page.config, row) for row in rows]
    return page.render("runners.html", rows=shown, live=True)


def container_registry(page: Page) -> Response:
    """Images of a project, each with the line that pulls it."""
    row, _ = page.project()
    found: list[dict[str, Any]] = []
    problem = None if page.config.registry else "No container registry is set up."
    try:
        found = _repositories(page, row)
    except httpx.HTTPError as error:
        problem = f"The container registry is not responding: {error}"
    return page.render(
        "container_registry.html", project=row, here="Container registry", repositories=found, problem=problem
    )


def _repositories(page: Page, project: db.Row) -> list[dict[str, Any]]:
    registry = page.config.registry
    rows = page.connection.execute(
        "SELECT * FROM container_repositories WHERE project_id = ? ORDER BY path", (project["id"],)
    ).fetchall()
    found = []
    for row in rows if registry else []:
        if registry is None:
            break
        with RegistryClient(page.config, registry, row["path"]) as client:
            tags = [
                {"name": name, "location": f"{registry.host}/{row['path']}:{name}", **(client.details(name) or {})}
                for name in client.tags()
            ]
        found.append({"path": row["path"], "tags": tags})
    return found


def _may_run(page: Page, project: db.Row, level: int, pipeline: db.Row) -> bool:
    who, ref = page.session.who, {"ref": pipeline["ref"], "tag": bool(pipeline["tag"])}
    return who is not None and protection.may_run(page.connection, project, level, who.admin, **ref)


def _pipeline(page: Page, row: db.Row) -> dict[str, Any]:
    commit = views.find_commit(page.config, row["project_id"], row["sha"])
    shown = views.pipeline(page.connection, page.config, row, full=True)
    return shown | {"title": commit.title if commit else ""}


Handler = Callable[[Page], Response]


def endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Serve a page. A form that changes something has to come from a page of the same visitor."""

    async def answer(request: Request) -> Response:
        body = await request.body() if request.method == "POST" else b""
        form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        return await run_in_threadpool(_run, handler, request, form)

    return answer


#: Signing out, and what sets one up.
_WITHOUT_A_SECOND_FACTOR = (
    *(signed_in, signed_out, from_provider, to_provider, by_directory),
    *(second_factor_pages.set_up, second_factor_pages.turn_on, second_factor_pages.skip),
)


def _run(handler: Handler, request: Request, form: dict[str, str]) -> Response:
    config: Config = request.app.state.config
    with db.connect(config.database) as connection:
        session = sessions.read(connection, config, request)
        open_to_all = handler in {signed_in, to_provider, by_directory}
        if request.method == "POST" and not open_to_all and not session.check(form.get("authenticity_token", "")):
            raise HTTPException(422)
        page = Page(request, config, connection, session, form)
        if handler not in _WITHOUT_A_SECOND_FACTOR and second_factor_pages.is_due(page):
            return RedirectResponse(f"{config.external_url}/{second_factor_pages.PATH}", 302)
        try:
            return handler(page)
        except HTTPException as refusal:
            if refusal.status_code != ABSENT:
                raise
            return page.render("absent.html", ABSENT)


def pages(path: str, **handlers: Handler) -> list[Route]:
    """Routes of one path; the names of the handlers are the methods."""
    return [Route(path, endpoint(handler), methods=[method]) for method, handler in handlers.items()]


ASSETS = StaticFiles(directory=HERE / "assets")


async def asset(request: Request) -> Response:
    """Style and script of the pages."""
    return await ASSETS.get_response(request.path_params["name"], request.scope)


routes = [
    *pages("/", GET=home),
    *pages("/users/sign_in", GET=sign_in, POST=signed_in),
    *pages("/users/sign_up", GET=sign_up),
    *pages("/users/auth/{provider}", POST=to_provider),
    *pages("/users/auth/{provider}/callback", GET=from_provider, POST=by_directory),
    *pages("/users/sign_out", POST=signed_out),
    *pages(f"/{second_factor_pages.PATH}", GET=second_factor_pages.set_up, POST=second_factor_pages.turn_on),
    *pages(f"/{second_factor_pages.PATH}/skip", POST=second_factor_pages.skip),
    Route("/assets/{name}", asset, methods=["GET"]),
    *pages("/admin/runners", GET=all_runners),
    *pages("/{project:project}/-/pipelines", GET=pipelines),
    *pages("/{project:project}/-/pipelines/{pipeline:int}", GET=pipeline),
    *pages("/{project:project}/-/pipelines/{pipeline:int}/{action:action}", POST=change_pipeline),
    *pages("/{project:project}/-/jobs", GET=jobs),
    *pages("/{project:project}/-/jobs/{job:int}", GET=job),
    *pages("/{project:project}/-/jobs/{job:int}/raw", GET=raw_log),
    *pages("/{project:project}/-/jobs/{job:int}/{action:action}", POST=change_job),
    *pages("/{project:project}/-/settings/ci_cd", GET=project_runners),
    *pages("/{project:project}/container_registry", GET=container_registry),
    *pages("/{project:project}", GET=project),
]
