"""`gitlab-runner-helper`: handles a job's files inside its pod, where the runner itself cannot reach them.

Standard input begins with as many bytes of JSON as the first argument says: the job, and what to do. Its output is the
job's log. Exit code 1 says that the last line is the reason; it is then not a line of the log.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .archives import ArchiveError
from .coordinator import Coordinator, UnreachableError
from .files import HostFiles, Work
from .payload import Payload
from .remote_caches import fetch, send
from .sources import SourcesError

#: Output that only the runner reads.
REASON = "\x00reason:"


def main() -> None:
    """Do one thing."""
    asked = json.loads(sys.stdin.buffer.read(int(sys.argv[1])))
    with tempfile.TemporaryDirectory() as scratch:
        runner = dict(asked["runner"])
        if asked["certificate"]:
            file = Path(scratch) / "authority.crt"
            file.write_text(asked["certificate"])
            runner["tls-ca-file"] = str(file)
        payload, builds = Payload(asked["payload"]), str(asked["builds"])
        variables = payload.variables(runner, int(asked["slot"]), builds, asked["certificate"])
        coordinator = Coordinator(runner, str(asked["system_id"]), Path(scratch))
        caches, urls = Path(scratch) / "caches", asked["caches"]
        files = HostFiles(Work(runner, coordinator, payload, variables, _say), Path(builds), caches)
        success = bool(asked["success"])

        def restore() -> None:
            fetch(caches, payload, urls)
            files.restore_caches()

        def save() -> None:
            files.save_caches(success=success)
            send(caches, payload, urls)

        actions: dict[str, Callable[[], None]] = {
            "get_sources": files.get_sources,
            "restore_caches": restore,
            "save_caches": save,
            "download_artifacts": files.download_artifacts,
            "upload_artifacts": lambda: files.upload_artifacts(success=success),
            "clean_up": files.clean_up,
        }
        try:
            actions[asked["action"]]()
        except (SourcesError, ArchiveError, UnreachableError, OSError) as error:
            print(f"{REASON}{error}", flush=True)
            raise SystemExit(1) from None


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
