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
from tests.sandbox.layout import GITLAB_PACKAGES_HOST, INSIGHTS_HOST, MIRROR_HOST

#: Where the vendor publishes the key of its packages; the first is the one that its instructions name.
GITLAB_KEYS = ("/gitlab/gitlab-ce/gpgkey", "/runner/gitlab-runner/gpgkey", "/gpgkey/gpg.key")


def create_packages_app(cache: Path) -> ASGIApp:
    """Serve the archives of Debian, GitLab and the metrics agent, each under its own host name, and no other one."""

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

    async def agent_key(_: Request) -> Response:
        return FileResponse(mirror.agent_key(cache), media_type="text/plain")

    agent = StaticFiles(directory=mirror.folder(cache) / "do-agent", check_dir=False)
    insights = Router([Route("/sonar-agent.asc", agent_key), Mount("/apt/do-agent", agent)])
    distribution = Router([Mount("/debian", StaticFiles(directory=debian, check_dir=False))])
    hosts = {MIRROR_HOST: distribution, GITLAB_PACKAGES_HOST: vendor, INSIGHTS_HOST: insights}
    return Starlette(routes=[Host(host, app=app) for host, app in hosts.items()])
