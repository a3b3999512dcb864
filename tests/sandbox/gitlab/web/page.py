"""A request for a web page: who looks, at what, and how the answer is rendered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from . import sessions
from .ci import pipelines as pipelining
from .core import access, auth, db, projects
from .core.config import Config
from .formats import ago, size, span

HERE = Path(__file__).parent
ABSENT = 404
SAFE = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; form-action 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {"ago": ago, "span": span, "size": size, "local": lambda url: urlsplit(url).path}


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
