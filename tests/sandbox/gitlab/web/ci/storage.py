"""Logs and artifacts of jobs, stored as files beside the database."""

from __future__ import annotations

import gzip
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

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


def directory(config: Config, job_id: int) -> Path:
    """Where the files of a job are."""
    return config.database.with_name("jobs") / str(job_id // 1000) / str(job_id)


def log_path(config: Config, job_id: int) -> Path:
    """The log of a job, which may not be there."""
    return directory(config, job_id) / "job.log"


def log(config: Config, job_id: int, offset: int = 0) -> bytes:
    """The log of a job, from an offset on."""
    path = log_path(config, job_id)
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read()


def log_size(config: Config, job_id: int) -> int:
    """Length of the log so far, in bytes."""
    path = log_path(config, job_id)
    return path.stat().st_size if path.is_file() else 0


def append_log(config: Config, job_id: int, content: bytes) -> int:
    """Put more at the end of a log; answer its length."""
    path = log_path(config, job_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(content)
    return path.stat().st_size


def remove(config: Config, job_id: int) -> None:
    """Remove all files of a job."""
    shutil.rmtree(directory(config, job_id), ignore_errors=True)


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


def artifact_path(config: Config, row: db.Row) -> Path:
    """Where an artifact is."""
    return directory(config, row["job_id"]) / f"artifact-{row['id']}"


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
    connection.execute("DELETE FROM ci_artifacts WHERE job_id = ? AND file_type = ?", (job_id, kind))
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
    row = db.one(connection, "SELECT * FROM ci_artifacts WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"artifact {identity}")
    path = artifact_path(config, row)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return row


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
