"""Web pages: projects, pipelines, jobs, runners and images. All of them work without JavaScript."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from . import sessions, single_sign_on
from .ci import actions, logs, progress, runners, storage, views
from .ci import pipelines as pipelining
from .core import access, auth, db, projects, protection, repositories, settings
from .core.config import Config
from .core.registry_client import RegistryClient
from .formats import ago, size, span

HERE = Path(__file__).parent
PAGE_SIZE = 50
ABSENT = 404
#: GitLab's words for a user whom an administrator has not approved yet.
PENDING = (
    "Your account is pending approval from your GitLab administrator and hence blocked. Please contact your GitLab "
    "administrator if you think this is an error."
)
SAFE = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; form-action 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


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


@dataclass(frozen=True)
class Page:
    """One request for a page: who looks, and what the form says if there is one."""

    request: Request
    config: Config
    connection: db.Connection
    session: sessions.Session
    form: dict[str, str]

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page. `live` ones are fetched again as long as they are."""
        word = Markup('<input type="hidden" name="authenticity_token" value="{}">').format(self.session.form_word)
        text = TEMPLATES.get_template(template).render(
            config=self.config, session=self.session, form_word=lambda: word, **values
        )
        return HTMLResponse(text, status, headers=SAFE)

    def project(self, least: int = access.REPORTER) -> tuple[db.Row, int]:
        """The project of the address; refuses as if there were none."""
        row = projects.find(self.connection, unquote(self.request.path_params["project"]))
        level = access.project_level(self.connection, self.session.who, row) if row else 0
        if row is None or not access.visible(self.session.who, row, level):
            raise self.absent()
        if level < least and not (least <= access.REPORTER and row["visibility"] != "private"):
            raise self.absent()
        return row, level

    def one(self, table: str, name: str, project: db.Row) -> db.Row:
        """A row of a project, by the number in the address."""
        row = db.one(
            self.connection,
            f"SELECT * FROM {table} WHERE id = ? AND project_id = ?",  # noqa: S608 - of the program's own
            self.request.path_params[name],
            project["id"],
        )
        if row is None:
            raise self.absent()
        return row

    def pipeline_of(self, job: db.Row) -> db.Row:
        """The pipeline of a job."""
        return pipelining.find(self.connection, job["pipeline_id"])

    def user(self) -> auth.Principal:
        """Who has signed in; refuses everybody else."""
        if self.session.who is None:
            raise self.absent()
        return self.session.who

    def back(self, path: str) -> Response:
        """To a page, after a form."""
        return RedirectResponse(f"{self.config.external_url}/{path}", 303)

    def absent(self) -> HTTPException:
        """Not there, or not for this visitor; who has not signed in may try that first."""
        if self.session.who is None:
            return HTTPException(302, headers={"Location": f"{self.config.external_url}/users/sign_in"})
        return HTTPException(ABSENT)


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


def sign_in(page: Page) -> Response:
    """Says what this is, and asks who comes."""
    return _sign_in_page(page)


def _sign_in_page(page: Page, status: int = 200, **values: Any) -> Response:
    found = single_sign_on.providers(page.config)
    answer = page.render("sign_in.html", status, providers=found, **values)
    if found:
        # A browser applies `form-action` to what a form is redirected to as well.
        answer.headers["Content-Security-Policy"] = SAFE["Content-Security-Policy"].partition("; form-action")[0]
    return answer


def to_provider(page: Page) -> Response:
    """Send the visitor to a provider of sign-in."""
    provider = _provider(page)
    try:
        address, cookie = single_sign_on.begin(page.config, provider)
    except single_sign_on.SignInError as refusal:
        return _sign_in_page(page, 422, refusal=str(refusal))
    answer = RedirectResponse(address, 302)
    secure = page.config.external_url.startswith("https:")
    answer.set_cookie(
        single_sign_on.COOKIE,
        cookie,
        max_age=single_sign_on.PATIENCE,
        path="/users/auth",
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return answer


def from_provider(page: Page) -> Response:
    """Sign in whom the provider names."""
    provider, cookie = _provider(page), page.request.cookies.get(single_sign_on.COOKIE, "")
    query = dict(page.request.query_params)
    try:
        user = single_sign_on.finish(page.connection, page.config, provider, cookie, query)
    except single_sign_on.SignInError as refusal:
        return _sign_in_page(page, 422, refusal=str(refusal))
    if user["state"] != "active":
        return _sign_in_page(page, 403, refusal=PENDING)
    answer = RedirectResponse(f"{page.config.external_url}/", 302)
    sessions.set_cookie(page.connection, answer, page.config, sessions.cookie_of(page.connection, page.config, user))
    answer.delete_cookie(single_sign_on.COOKIE, path="/users/auth")
    return answer


def _provider(page: Page) -> single_sign_on.Provider:
    name = page.request.path_params["provider"]
    for one in single_sign_on.providers(page.config):
        if one.name == name:
            return one
    raise HTTPException(ABSENT)


def sign_up(page: Page) -> Response:
    """For those who have no account, for as long as they may make one."""
    if not settings.read(page.connection)["signup_enabled"]:
        return RedirectResponse(f"{page.config.external_url}/users/sign_in", 302)
    return page.render("sign_up.html")


def signed_in(page: Page) -> Response:
    """Take name and password."""
    login, password = page.form.get("login", ""), page.form.get("password", "")
    cookie = sessions.sign_in(page.connection, page.config, login, password)
    if cookie is None:
        return _sign_in_page(page, 422, wrong=True)
    answer = RedirectResponse(f"{page.config.external_url}/", 303)
    sessions.set_cookie(page.connection, answer, page.config, cookie)
    return answer


def signed_out(page: Page) -> Response:
    """Forget who came."""
    answer = RedirectResponse(f"{page.config.external_url}/users/sign_in", 303)
    sessions.set_cookie(page.connection, answer, page.config, "")
    return answer


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
    content = storage.log(page.config, found["id"])
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
    return PlainTextResponse(storage.log(page.config, found["id"]).decode(errors="replace"), headers=SAFE)


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


TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {"ago": ago, "span": span, "size": size, "local": lambda url: urlsplit(url).path}

Handler = Callable[[Page], Response]


def endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Serve a page. A form that changes something has to come from a page of the same visitor."""

    async def answer(request: Request) -> Response:
        body = await request.body() if request.method == "POST" else b""
        form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        return await run_in_threadpool(_run, handler, request, form)

    return answer


def _run(handler: Handler, request: Request, form: dict[str, str]) -> Response:
    config: Config = request.app.state.config
    with db.connect(config.database) as connection:
        session = sessions.read(connection, config, request)
        open_to_all = handler in {signed_in, to_provider}
        if request.method == "POST" and not open_to_all and not session.check(form.get("authenticity_token", "")):
            raise HTTPException(422)
        page = Page(request, config, connection, session, form)
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
    *pages("/users/auth/{provider}/callback", GET=from_provider),
    *pages("/users/sign_out", POST=signed_out),
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
