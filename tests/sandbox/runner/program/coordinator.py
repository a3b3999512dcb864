"""Client for GitLab's runner API: `/api/v4/runners` and `/api/v4/jobs`."""

from __future__ import annotations

import platform
import ssl
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import httpx

from . import log, version
from .configuration import Table, short_token

#: The server holds a request for jobs up to 50 seconds when it has none.
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
UPLOAD_TIMEOUT = httpx.Timeout(600.0, connect=10.0)
CREATED, NO_CONTENT, FORBIDDEN, RANGE_MISMATCH = 201, 204, 403, 416
FEATURES = (
    *("variables", "image", "services", "artifacts", "cache", "fallback_cache_keys", "shared", "refspecs", "masking"),
    *("upload_multiple_artifacts", "upload_raw_artifacts", "artifacts_exclude", "raw_variables", "multi_build_steps"),
    *("trace_reset", "trace_checksum", "trace_size", "cancelable", "cancel_gracefully", "return_exit_code"),
    *("service_variables", "service_multiple_aliases", "image_executor_opts", "service_executor_opts"),
)


class UnreachableError(Exception):
    """GitLab could not be asked; the message says why."""


@dataclass(frozen=True)
class Reply:
    """An answer. `status` and `job_status` say how the server sees the job; `interval` how often to send its log."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def job_status(self) -> str:
        """`running`, `canceling`, `canceled`, `failed`, … or nothing."""
        return self.headers.get("Job-Status", "")

    @property
    def interval(self) -> float:
        """Seconds until the log should be sent again; 0 when the server does not say."""
        try:
            return float(self.headers.get("X-GitLab-Trace-Update-Interval", 0))
        except ValueError:
            return 0.0

    @property
    def text(self) -> str:
        """Status with the server's own words."""
        said = self.body.get("message") or self.body.get("error") if isinstance(self.body, dict) else ""
        return f"{self.status}: {said}" if said else str(self.status)


class Coordinator:
    """The server of one runner, asked with that runner's token."""

    def __init__(self, runner: Table, system_id: str, certificates: Path) -> None:
        self.runner, self.system_id = runner, system_id
        self.url = str(runner.get("url", "")).rstrip("/")
        self.token = str(runner.get("token", ""))
        self.tls_ca_file = _authority(runner, certificates)
        self._last_update = ""
        self._client = httpx.Client(base_url=f"{self.url}/api/v4/", verify=self._trust(), timeout=TIMEOUT)

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def verify(self) -> dict[str, Any] | None:
        """Say that this host is there. What the server knows of the runner; None when it knows no such token."""
        body = {"info": self.information(), "token": self.token, "system_id": self.system_id}
        created = self.token.startswith("glrt-")
        with self._telling("Verifying runner...") as tell:
            reply = self._send("POST", "runners/verify", json=body)
            if reply.status == FORBIDDEN:
                if created:
                    tell(log.info, "is not valid")
                else:
                    tell(log.error, "is removed", status=reply.text)
                return None
            if reply.status not in (200, CREATED):
                tell(log.error, "failed", status=reply.text)
                return {}
            tell(log.info, "is valid" if created else "is alive")
            return reply.body if isinstance(reply.body, dict) else {}
        return {}

    def register(self, parameters: dict[str, Any]) -> dict[str, Any] | None:
        """Register with a registration token, where the server still takes one."""
        with self._telling("Registering runner...") as tell:
            reply = self._send("POST", "runners", json={**parameters, "info": self.information(), "token": self.token})
            if reply.status == CREATED:
                tell(log.info, "succeeded")
                return dict(reply.body)
            tell(
                log.error,
                "forbidden (check registration token)" if reply.status == FORBIDDEN else "failed",
                status=reply.text,
            )
        return None

    def unregister(self) -> bool:
        """Remove this host from the runner (token made on the server), or else the runner itself."""
        manager = self.token.startswith("glrt-")
        what = "Unregistering runner manager from GitLab" if manager else "Unregistering runner from GitLab"
        path, body = "runners", {"token": self.token}
        if manager:
            path, body = "runners/managers", body | {"system_id": self.system_id}
        with self._telling(what) as tell:
            reply = self._send("DELETE", path, json=body)
            if reply.status == NO_CONTENT:
                tell(log.info, "succeeded")
                return True
            tell(log.error, "forbidden" if reply.status == FORBIDDEN else "failed", status=reply.text)
        return False

    def request_job(self) -> Reply:
        """Ask for a job: 201 with one, 204 with none. `UnreachableError` when GitLab does not answer."""
        body = {"info": self.information(), "token": self.token, "system_id": self.system_id}
        if self._last_update:
            body["last_update"] = self._last_update
        reply = self._send("POST", "jobs/request", json=body)
        self._last_update = reply.headers.get("X-GitLab-Last-Update", self._last_update)
        return reply

    def append_trace(self, job: int, token: str, content: bytes, start: int) -> Reply:
        """Send a piece of a job's log that starts at byte `start`."""
        headers = {
            "JOB-TOKEN": token,
            "Content-Type": "text/plain",
            "Content-Range": f"{start}-{start + len(content) - 1}",
        }
        return self._send("PATCH", f"jobs/{job}/trace?debug_trace=false", content=content, headers=headers)

    def update_job(
        self, job: int, token: str, state: str, output: bytes, *, exit_code: int = 0, reason: str = ""
    ) -> Reply:
        """Say how a job is: `running`, `success` or `failed`."""
        body: dict[str, Any] = {
            "info": self.information(),
            "token": token,
            "state": state,
            "output": {"checksum": f"crc32:{zlib.crc32(output):08x}", "bytesize": len(output)},
        }
        body |= {"exit_code": exit_code} if exit_code else {}
        body |= {"failure_reason": reason} if reason else {}
        return self._send("PUT", f"jobs/{job}", json=body, headers={"JOB-TOKEN": token})

    def upload_artifacts(self, job: int, token: str, name: str, file: IO[bytes], about: Mapping[str, str]) -> Reply:
        """Store an archive of a job."""
        return self._send(
            "POST",
            f"jobs/{job}/artifacts",
            params=dict(about),
            files={"file": (name, file, "application/octet-stream")},
            headers={"JOB-TOKEN": token},
            timeout=UPLOAD_TIMEOUT,
        )

    def download_artifacts(self, job: int, token: str, target: IO[bytes]) -> int:
        """Fetch the archive of an earlier job into `target`; answers the status."""
        try:
            with self._client.stream(
                "GET",
                f"jobs/{job}/artifacts",
                headers={"JOB-TOKEN": token},
                follow_redirects=True,
                timeout=UPLOAD_TIMEOUT,
            ) as answer:
                if answer.status_code == httpx.codes.OK:
                    for piece in answer.iter_bytes():
                        target.write(piece)
                return answer.status_code
        except httpx.HTTPError as error:
            raise UnreachableError(_reason(error)) from None

    def information(self) -> dict[str, Any]:
        """What a runner says of itself."""
        return {
            "name": "gitlab-runner",
            "version": version(),
            "revision": "standin",
            "platform": "linux",
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "executor": str(self.runner.get("executor", "")),
            "shell": str(self.runner.get("shell", "") or "bash"),
            "features": dict.fromkeys(FEATURES, True),
            "config": {"gpus": ""},
        }

    def _send(self, method: str, path: str, **arguments: Any) -> Reply:
        try:
            answer = self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            where = f"{self.url}/api/v4/{path.partition('?')[0]}"
            raise UnreachableError(f"couldn't execute {method} against {where}: {_reason(error)}") from None
        try:
            body = answer.json() if answer.content else None
        except ValueError:
            body = None
        return Reply(answer.status_code, body, answer.headers)

    @contextmanager
    def _telling(self, what: str) -> Iterator[Any]:
        def tell(write: Any, outcome: str, **fields: object) -> None:
            write(f"{what} {outcome}", runner=short_token(self.token), **fields)

        try:
            yield tell
        except UnreachableError as error:
            tell(log.error, "failed", status=error)

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.tls_ca_file:
            try:
                context.load_verify_locations(cafile=self.tls_ca_file)
            except (OSError, ssl.SSLError) as error:
                raise log.fatal(f"tls-ca-file {self.tls_ca_file}: {error}") from None
        return context


def _authority(runner: Table, certificates: Path) -> str:
    """The file of the server's authority: as set, else by the server's name beside the configuration."""
    if named := str(runner.get("tls-ca-file", "")):
        return named
    host = urlsplit(str(runner.get("url", ""))).hostname or ""
    own = certificates / f"{host}.crt"
    return str(own) if host and own.exists() else ""


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
