"""The online garbage collector: reviews what an event has put into its queues, once the delay is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from . import metadata
from .config import Collection
from .images import take_off_shelf
from .storage import Storage, blob_folder

_FACTOR = 1.5


def review_manifest(database: metadata.Database) -> bool:
    """Review the manifest that has waited longest; one that nothing refers to is deleted. Whether there was one."""
    query = "SELECT manifest_id FROM gc_manifest_review_queue WHERE review_after < ? ORDER BY review_after LIMIT 1"
    with metadata.connect(database) as connection:
        task = metadata.one(connection, query, time.time())
        if task is None:
            return False
        identity = task["manifest_id"]
        connection.execute("DELETE FROM gc_manifest_review_queue WHERE manifest_id = ?", (identity,))
        used = metadata.one(
            connection,
            "SELECT 1 FROM tags WHERE manifest_id = ? UNION ALL SELECT 1 FROM manifest_references WHERE child_id = ? "
            "UNION ALL SELECT 1 FROM manifests WHERE subject_id = ?",
            *(identity, identity, identity),
        )
        if not used:
            connection.execute("DELETE FROM manifests WHERE id = ?", (identity,))
    return True


def review_blob(database: metadata.Database, storage: Storage) -> bool:
    """Review the content that has waited longest; what no manifest refers to is deleted, in the storage as well."""
    query = "SELECT digest FROM gc_blob_review_queue WHERE review_after < ? ORDER BY review_after LIMIT 1"
    with metadata.connect(database) as connection:
        task = metadata.one(connection, query, time.time())
        if task is None:
            return False
        digest = task["digest"]
        used = metadata.one(
            connection,
            "SELECT 1 FROM layers WHERE digest = ? UNION ALL SELECT 1 FROM manifests WHERE config_digest = ?",
            *(digest, digest),
        )
        if not used:
            take_off_shelf(storage, digest)
            storage.remove(blob_folder(digest))
            connection.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
        connection.execute("DELETE FROM gc_blob_review_queue WHERE digest = ?", (digest,))
    return True


class Collector:
    """Two workers in the background, one for manifests and one for content."""

    def __init__(self, database: metadata.Database, storage: Storage, settings: Collection) -> None:
        self._settings = settings
        self._stopped = threading.Event()
        self._threads = [
            self._worker(settings.manifest_interval, lambda: review_manifest(database)),
            self._worker(settings.blob_interval, lambda: review_blob(database, storage)),
        ]

    def start(self) -> None:
        """Begin, unless it is disabled."""
        for thread in [] if self._settings.disabled else self._threads:
            thread.start()

    def stop(self) -> None:
        """End after what is being reviewed."""
        self._stopped.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(30)

    def _worker(self, interval: timedelta, review: Callable[[], bool]) -> threading.Thread:
        return threading.Thread(target=self._work, args=(interval.total_seconds(), review), daemon=True)

    def _work(self, interval: float, review: Callable[[], bool]) -> None:
        pause = interval
        while not self._stopped.wait(pause):
            try:
                found, failed = review(), False
            except Exception as trouble:
                print(f"level=error component=registry.gc error={str(trouble)!r}", flush=True)
                found, failed = False, True
            idle = not found and not self._settings.no_idle_backoff
            if failed or idle:
                pause = min(max(pause, 0.001) * _FACTOR, self._settings.max_backoff.total_seconds())
            else:
                pause = interval
