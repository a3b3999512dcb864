"""What Prometheus on the server says of the parts of GitLab that it asks."""

from __future__ import annotations

import json
import shlex
import subprocess

from tools.clients import CheckError, Outputs, try_run

#: Prometheus answers at once, but asks its targets only every 15 seconds.
_SECONDS = 60


def metrics_are_collected(outputs: Outputs) -> str:
    """Prometheus answers on the server's own address, and has reached its targets; those that it has not are named.

    Raises:
        CheckError: it does not answer, or has reached none.
    """
    command = shlex.join(
        ["curl", "-fsS", "--retry", "5", "--retry-all-errors", f"{outputs.metrics}/api/v1/query?query=up"]
    )
    with outputs.ssh_files() as options:
        login = (*options, f"{outputs.ssh_user}@{outputs.address}")
        try:
            done = try_run("ssh", *login, command, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise CheckError(f"Prometheus gave no answer within {_SECONDS} s") from None
    if done.returncode != 0:
        raise CheckError(
            f"Prometheus does not answer: {(done.stderr.strip().splitlines() or ['no reason was given'])[-1]}"
        )
    found = {one["metric"]["job"]: one["value"][1] == "1" for one in json.loads(done.stdout)["data"]["result"]}
    down = sorted(job for job, is_up in found.items() if not is_up)
    if len(down) == len(found):
        raise CheckError("Prometheus has reached none of its targets")
    said = f"Prometheus has reached {len(found) - len(down)} of {len(found)} targets"
    return f"{said}; not {', '.join(down)}" if down else said
