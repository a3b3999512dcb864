"""Pages for people."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from .config import Config

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(), trim_blocks=True
)


async def root(request: Request) -> Response:
    """Nobody is signed in: to the page where one would sign in."""
    config: Config = request.app.state.config
    return RedirectResponse(f"{config.external_url}/users/sign_in", 302)


async def sign_in(request: Request) -> Response:
    """Says what this is."""
    config: Config = request.app.state.config
    return HTMLResponse(TEMPLATES.get_template("sign_in.html").render(config=config))


routes = [
    Route("/", root, methods=["GET"]),
    Route("/users/sign_in", sign_in, methods=["GET"]),
]
