"""An orderly shutdown of a droplet that is about to be resized, or to be kept as an image.

To resize a droplet, the provider cuts its power, under a running database. It skips that for a droplet that is off
already. A snapshot of one that runs lacks what it has not written yet. The provider has no way to shut one down first,
so this module asks the API itself, from a resource hook: hooks run only when the engine is about to do either.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import pulumi

from components.api import request

_LIMIT_SECONDS: Final = 600
_POLL_SECONDS: Final = 3


async def shut_down_before_resize(args: pulumi.ResourceHookArgs) -> None:
    """Shut the droplet down if this update changes its size: a hook for `before_update`.

    Raises:
        RuntimeError: the droplet is still running after ten minutes, or the API refuses. The droplet keeps its size.
    """
    before, after = args.old_inputs or {}, args.new_inputs or {}
    if before.get("size") != after.get("size"):
        await asyncio.to_thread(shut_down, args.id)


async def shut_down_before_snapshot(args: pulumi.ResourceHookArgs) -> None:
    """Shut down the droplet that a snapshot is made of: a hook for `before_create`.

    Raises:
        RuntimeError: the droplet is still running after ten minutes, or the API refuses. There is no snapshot.
    """
    consequence = "a snapshot would lack what it has not written yet, so there is none"
    droplet = str((args.new_inputs or {})["dropletId"])
    await asyncio.to_thread(shut_down, droplet, purpose="its snapshot", consequence=consequence)


def shut_down(
    droplet_id: str,
    limit_seconds: float = _LIMIT_SECONDS,
    poll_seconds: float = _POLL_SECONDS,
    *,
    purpose: str = "it is resized",
    consequence: str = "without power, GitLab's database could be damaged, so it keeps its size",
) -> None:
    """Shut a droplet down, and wait until it is off. `purpose` and `consequence` are for people.

    Raises:
        RuntimeError: it is still running after `limit_seconds`, or the API refuses.
    """
    path, deadline, asked = f"/v2/droplets/{droplet_id}", time.monotonic() + limit_seconds, False
    while request(path)["droplet"]["status"] != "off":
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"droplet {droplet_id} has not shut down within {limit_seconds:g} s; {consequence}. Shut it down over "
                "SSH, then run pulumi up again"
            )
        if not asked:
            pulumi.log.info(f"droplet {droplet_id}: shutting down in order before {purpose}")
            asked = _start_shutdown(path)
        time.sleep(poll_seconds)


def _start_shutdown(path: str) -> bool:
    """Whether the shutdown has started; a droplet that is busy refuses it for now."""
    try:
        request(f"{path}/actions", {"type": "shutdown"})
    except RuntimeError as error:
        if "pending event" in str(error):
            return False
        raise
    return True
