"""Calls hooks as the engine does during an update, and waits for what they have begun as the program does."""

from __future__ import annotations

import asyncio

import pulumi
from pulumi.runtime.settings import SETTINGS


def call(hook: pulumi.ResourceHook, args: pulumi.ResourceHookArgs) -> None:
    """Call a hook, and wait until all of its work is done."""

    async def called() -> None:
        await hook.callback(args)  # type: ignore[misc]
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.gather(*others)

    asyncio.run(called())
    # The next program must not wait for outputs of this loop, which is closed.
    SETTINGS.outputs.clear()
