"""Logs and artifacts of jobs. The log of a running job is a file beside the database; once the job has ended it is
archived, as an artifact."""

from __future__ import annotations

import gzip
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from starlette.responses import Response

from ..core import db, projects
from ..core.config import Config

#: Names of files of reports.
REPORTS = {
    "dotenv": ".env",
    "junit": "junit.xml",
    "codequality": "gl-code-quality-report.json",
    "metrics": "metrics.txt",
    "terraform": "tfplan.json",
    "accessibility": "gl-accessibility.json",
    "annotations": "gl-annotations.json",
    "cyclonedx": "gl-sbom.cdx.json",
}
#: Reports that are sent as they are; others are compressed.
RAW = (
    "accessibility", "codequality", "terraform", "performance", "browser_performance", "load_performance", "sast",
    "dast", "dependency_scanning", "container_scanning", "cluster_image_scanning", "secret_detection", "requirements",
    "requirements_v2", "license_scanning", "coverage_fuzzing", "api_fuzzing",
)  # fmt: skip
DOTENV_LIMIT = 50


#: The kind of artifact that an archived log is.
TRACE = "trace"


def live_log(config: Config, job_id: int) -> Path:
    """The log of a running job, which may not be there."""
    return config.data / "jobs" / str(job_id // 1000) / f"{job_id}.log"


def log(connection: db.Connection, config: Config, job_id: int) -> bytes:
    """The log of a job so far."""
    row = artifact(connection, job_id, TRACE)
    if row is not None:
        return content(config, row)
    path = live_log(config, job_id)
    return path.read_bytes() if path.is_file() else b""


def live_size(config: Config, job_id: int) -> int:
    """Length of the log of a running job so far, in bytes."""
    path = live_log(config, job_id)
    return path.stat().st_size if path.is_file() else 0


def append_log(config: Config, job_id: int, content: bytes) -> int:
    """Put more at the end of a log; answer its length."""
    path = live_log(config, job_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(content)
    return path.stat().st_size


def archive_log(connection: db.Connection, config: Config, job_id: int) -> None:
    """Turn the log of a job that has ended into an artifact."""
    path = live_log(config, job_id)
    if path.is_file():
        keep(
            connection,
            config,
            job_id,
            kind=TRACE,
            form="raw",
            filename="job.log",
            content=path.read_bytes(),
            seconds=None,
        )
        path.unlink()


def remove(connection: db.Connection, config: Config, job_id: int, *, also_log: bool = True) -> None:
    """Remove all artifacts of a job, and its log unless that stays."""
    for row in connection.execute("SELECT * FROM ci_artifacts WHERE job_id = ?", (job_id,)).fetchall():
        if also_log or row["file_type"] != TRACE:
            config.artifacts.delete(row["file_store"], row["path"])
            connection.execute("DELETE FROM ci_artifacts WHERE id = ?", (row["id"],))
    if also_log:
        live_log(config, job_id).unlink(missing_ok=True)


def artifact(connection: db.Connection, job_id: int, kind: str) -> db.Row | None:
    """What a job left of one kind, as long as it is kept."""
    row = db.one(connection, "SELECT * FROM ci_artifacts WHERE job_id = ? AND file_type = ?", job_id, kind)
    expired = row is not None and row["expire_at"] and datetime.fromisoformat(row["expire_at"]) < datetime.now(UTC)
    return row if not expired or _locked(connection, job_id) else None


def _locked(connection: db.Connection, job_id: int) -> bool:
    """Whether what a job left stays beyond its time: until a newer pipeline of its ref has gone well.

    For projects with `keep_latest_artifact`, which is the default.
    """
    job = db.one(connection, "SELECT * FROM ci_jobs WHERE id = ?", job_id)
    project = job and projects.find(connection, str(job["project_id"]))
    if not job or not project or not projects.options(project)["keep_latest_artifact"]:
        return False
    query = (
        "SELECT 1 FROM ci_pipelines AS own JOIN ci_pipelines AS newer ON newer.project_id = own.project_id AND "
        "newer.ref = own.ref AND newer.tag = own.tag AND newer.id > own.id AND newer.status = 'success' "
        "WHERE own.id = ?"
    )
    return db.one(connection, query, job["pipeline_id"]) is None


def content(config: Config, row: db.Row) -> bytes:
    """What is in an artifact."""
    return config.artifacts.read(row["file_store"], row["path"])


def response(config: Config, row: db.Row) -> Response:
    """The download of an artifact."""
    return config.artifacts.response(row["file_store"], row["path"], row["filename"])


def keep(
    connection: db.Connection,
    config: Config,
    job_id: int,
    *,
    kind: str,
    form: str,
    filename: str,
    content: bytes,
    seconds: int | None,
) -> db.Row:
    """Keep an artifact, in the place of one of the same kind."""
    before = db.one(connection, "SELECT * FROM ci_artifacts WHERE job_id = ? AND file_type = ?", job_id, kind)
    if before is not None:
        config.artifacts.delete(before["file_store"], before["path"])
        connection.execute("DELETE FROM ci_artifacts WHERE id = ?", (before["id"],))
    expire = datetime.now(UTC) + timedelta(seconds=seconds) if seconds else None
    identity = db.insert(
        connection,
        "ci_artifacts",
        job_id=job_id,
        file_type=kind,
        file_format=form,
        filename=filename,
        size=len(content),
        expire_at=db.written(expire) if expire else None,
        created_at=db.now(),
    )
    path = _path(connection, job_id, identity, filename)
    store = config.artifacts.write(path, content)
    connection.execute("UPDATE ci_artifacts SET file_store = ?, path = ? WHERE id = ?", (store, path, identity))
    row = db.one(connection, "SELECT * FROM ci_artifacts WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"artifact {identity}")
    return row


def _path(connection: db.Connection, job_id: int, identity: int, filename: str) -> str:
    """The name of an artifact's file: that of `JobArtifactUploader` in its hashed layout."""
    job = db.one(connection, "SELECT project_id FROM ci_jobs WHERE id = ?", job_id)
    digest = hashlib.sha256(str(job["project_id"] if job else "").encode()).hexdigest()
    return f"{digest[:2]}/{digest[2:4]}/{digest}/{datetime.now(UTC):%Y_%m_%d}/{job_id}/{identity}/{filename}"


def dotenv(content: bytes) -> list[tuple[str, str]]:
    """Variables of a report of kind `dotenv`, compressed as the runner sends it. Raises `ValueError`."""
    try:
        text = gzip.decompress(content).decode()
    except (OSError, EOFError, UnicodeDecodeError):
        raise ValueError("Invalid Format") from None
    found = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip().replace("_", "").isalnum():
            raise ValueError("Invalid Format")
        found.append((key.strip(), value.strip().strip("\"'")))
    if len(found) > DOTENV_LIMIT:
        raise ValueError(f"Dotenv files cannot have more than {DOTENV_LIMIT} variables")
    return found
