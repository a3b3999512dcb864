"""Serves the package archives over HTTP, under the names of the real ones."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from tests.sandbox.cloud.archive import mirror
from tests.sandbox.layout import GITLAB_PACKAGES_HOST, MIRROR_HOST

#: Where the vendor publishes the key of its packages; the first is the one that its instructions name.
GITLAB_KEYS = ("/gitlab/gitlab-ce/gpgkey", "/runner/gitlab-runner/gpgkey", "/gpgkey/gpg.key")


def create_packages_app(cache: Path) -> ASGIApp:
    """Serve the Debian mirror and GitLab's archives, each under its own host name; any other name is not found."""

    async def key(_: Request) -> Response:
        return FileResponse(mirror.gitlab_key(cache), media_type="text/plain")

    debian, gitlab, runner = (mirror.folder(cache) / name for name in ("debian", "gitlab", "gitlab-runner"))
    vendor = Router(
        [
            *(Route(path, key) for path in GITLAB_KEYS),
            Mount("/gitlab/gitlab-ce/debian", StaticFiles(directory=gitlab, check_dir=False)),
            # One root for all suites, where GitLab's own packages have one for each.
            Mount("/runner/gitlab-runner/debian", StaticFiles(directory=runner, check_dir=False)),
        ]
    )
    distribution = Router([Mount("/debian", StaticFiles(directory=debian, check_dir=False))])
    return Starlette(routes=[Host(MIRROR_HOST, app=distribution), Host(GITLAB_PACKAGES_HOST, app=vendor)])
