"""A runner for tests: it speaks the protocol, and does with a job whatever the test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

FEATURES = {"variables": True, "image": True, "services": True, "artifacts": True, "cache": True, "cancelable": True}


@dataclass(frozen=True)
class Job:
    """A job that was handed out."""

    url: str
    payload: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.payload["job_info"]["name"])

    @property
    def token(self) -> str:
        return str(self.payload["token"])

    @property
    def variables(self) -> dict[str, str]:
        return {entry["key"]: entry["value"] for entry in self.payload["variables"]}

    def log(self, text: str, start: int = 0) -> httpx.Response:
        content = text.encode()
        headers = {"JOB-TOKEN": self.token, "Content-Range": f"{start}-{start + len(content) - 1}"}
        return httpx.patch(self._path("/trace?debug_trace=false"), content=content, headers=headers)

    def update(self, state: str, **more: Any) -> httpx.Response:
        return httpx.put(self._path(""), json={"token": self.token, "state": state, **more})

    def succeed(self) -> None:
        assert self.update("success", exit_code=0).status_code == 200

    def fail(self, exit_code: int = 1, reason: str = "script_failure") -> None:
        assert self.update("failed", exit_code=exit_code, failure_reason=reason).status_code == 200

    def upload(self, content: bytes, kind: str = "archive", form: str = "zip", **query: str) -> httpx.Response:
        return httpx.post(
            self._path("/artifacts"),
            params={"artifact_type": kind, "artifact_format": form, **query},
            files={"file": ("artifacts.zip", content)},
            headers={"JOB-TOKEN": self.token},
        )

    def download(self, dependency: dict[str, Any]) -> httpx.Response:
        path = f"{self.url}/api/v4/jobs/{dependency['id']}/artifacts"
        return httpx.get(path, headers={"JOB-TOKEN": dependency["token"]})

    def _path(self, rest: str) -> str:
        return f"{self.url}/api/v4/jobs/{self.payload['id']}{rest}"


@dataclass(frozen=True)
class Runner:
    """Somebody with the token of a runner."""

    url: str
    token: str = field(repr=False)
    system_id: str = "s_0123456789ab"
    graceful: bool = True

    def post(self, path: str) -> httpx.Response:
        features = FEATURES | {"cancel_gracefully": self.graceful}
        info = {"name": "gitlab-runner", "version": "19.3.0", "platform": "linux", "architecture": "amd64"}
        body = {"token": self.token, "system_id": self.system_id, "info": info | {"features": features}}
        return httpx.post(f"{self.url}/api/v4/{path}", json=body)

    def verify(self) -> httpx.Response:
        return self.post("runners/verify")

    def request(self) -> Job | None:
        answer = self.post("jobs/request")
        assert answer.status_code in (201, 204), answer.text
        return Job(self.url, answer.json()) if answer.status_code == 201 else None

    def take(self) -> Job:
        """The next job, which has to be there."""
        job = self.request()
        assert job is not None
        return job

    def drain(self) -> list[str]:
        """Do all that there is to do, well; answer the names of the jobs."""
        names = []
        while (job := self.request()) is not None:
            names.append(job.name)
            job.succeed()
        return names
