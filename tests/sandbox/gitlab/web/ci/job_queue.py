"""What tells a runner whether it is worth asking for a job again: the value that `X-GitLab-Last-Update` hands out.

GitLab keeps one for each runner in Redis, for an hour, and changes it when a job begins to wait that the runner may
have, and when the runner itself is changed. Here a new job changes those of all runners: some ask once in vain.
"""

from __future__ import annotations

import hashlib
import time

from ..core import db

#: `Ci::Runner::RUNNER_QUEUE_EXPIRY_TIME`, in seconds.
EXPIRY_S = 3600


def state(connection: db.Connection) -> str:
    """What all values are made of now."""
    jobs = connection.execute("SELECT MAX(queued_at) AS newest, COUNT(queued_at) AS number FROM ci_jobs").fetchone()
    runners = connection.execute(
        "SELECT id, paused, locked, run_untagged, tags, access_level, maximum_timeout FROM ci_runners ORDER BY id"
    ).fetchall()
    parts = (int(time.time()) // EXPIRY_S, jobs["newest"], jobs["number"], [tuple(row) for row in runners])
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def value(state_now: str, token: str) -> str:
    """The value of the runner that has this token."""
    return hashlib.sha256(f"{state_now}/{token}".encode()).hexdigest()[:32]
