"""A coordinator for runners, for tests: hands out the jobs that it is given, and keeps what runners report."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class JobLog:
    """What a runner reported about one job."""

    trace: bytes = b""
    states: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[bytes] = field(default_factory=list)

    @property
    def log(self) -> str:
        """The job's log."""
        return self.trace.decode(errors="replace")


class Coordinator:
    """Its state and its application. `status` is the job's status in every answer, such as `canceling`."""

    def __init__(self, token: str = "glrt-t1_0123456789abcdefghij") -> None:  # noqa: S107 - of tests only
        self.token = token
        self.waiting: list[dict[str, Any]] = []
        self.jobs: dict[int, JobLog] = {}
        self.requests: list[dict[str, Any]] = []
        self.managers: list[str] = []
        self.status = "running"
        self._numbers = itertools.count(1)

    def add(self, script: list[str], **more: Any) -> int:
        """Queue a job; returns its ID."""
        number = next(self._numbers)
        job = {
            "id": number,
            "token": f"glcbt-64_{number:020d}",
            "allow_git_fetch": True,
            "job_info": {"name": f"job{number}", "stage": "test", "project_id": 7, "project_full_path": "root/hello"},
            "git_info": {"repo_url": "", "ref": "main", "sha": "0" * 40, "refspecs": [], "depth": 20},
            "runner_info": {"timeout": 3600},
            "variables": [{"key": "GIT_STRATEGY", "value": "none", "public": True}],
            "steps": [{"name": "script", "script": script, "timeout": 3600, "when": "on_success"}],
            "features": {"trace_sections": True, "token_mask_prefixes": ["glpat-"]},
        }
        job["variables"] = [*job["variables"], *more.pop("variables", [])]  # type: ignore[misc]
        job["steps"] = [*job["steps"], *more.pop("steps", [])]  # type: ignore[misc]
        self.waiting.append(job | more)
        self.jobs[number] = JobLog()
        return number

    @property
    def app(self) -> Starlette:
        """The application."""
        routes = [
            Route("/api/v4/runners/verify", self._verify, methods=["POST"]),
            Route("/api/v4/runners/managers", self._unregister, methods=["DELETE"]),
            Route("/api/v4/jobs/request", self._request, methods=["POST"]),
            Route("/api/v4/jobs/{number:int}", self._update, methods=["PUT"]),
            Route("/api/v4/jobs/{number:int}/trace", self._append, methods=["PATCH"]),
            Route("/api/v4/jobs/{number:int}/artifacts", self._artifacts, methods=["POST", "GET"]),
        ]
        return Starlette(routes=routes)

    async def _verify(self, request: Request) -> Response:
        body = await request.json()
        if body["token"] != self.token:
            return JSONResponse({"message": "403 Forbidden"}, 403)
        self.managers.append(body["system_id"])
        return JSONResponse({"id": 3, "token": self.token, "token_expires_at": None})

    async def _unregister(self, request: Request) -> Response:
        body = await request.json()
        if body["token"] != self.token:
            return JSONResponse({"message": "403 Forbidden"}, 403)
        self.managers.remove(body["system_id"])
        return Response(status_code=204)

    async def _request(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        if body["token"] != self.token:
            return JSONResponse({"message": "403 Forbidden"}, 403)
        if not self.waiting:
            return Response(status_code=204)
        return JSONResponse(self.waiting.pop(0), 201)

    async def _append(self, request: Request) -> Response:
        job_log = self.jobs[request.path_params["number"]]
        start = int(request.headers["content-range"].partition("-")[0])
        if start != len(job_log.trace):
            return Response(status_code=416, headers={"Range": f"0-{len(job_log.trace)}"})
        job_log.trace += await request.body()
        headers = {"Range": f"0-{len(job_log.trace)}", "Job-Status": self.status, "X-GitLab-Trace-Update-Interval": "1"}
        return Response(status_code=202, headers=headers)

    async def _update(self, request: Request) -> Response:
        self.jobs[request.path_params["number"]].states.append(await request.json())
        return Response(status_code=200, headers={"Job-Status": self.status})

    async def _artifacts(self, request: Request) -> Response:
        job_log = self.jobs[request.path_params["number"]]
        if request.method == "GET":
            return Response(job_log.artifacts[-1]) if job_log.artifacts else Response(status_code=404)
        # One part: what stands between its headers and the last boundary.
        _, _, rest = (await request.body()).partition(b"\r\n\r\n")
        job_log.artifacts.append(rest.rpartition(b"\r\n--")[0])
        return JSONResponse({}, 201)
