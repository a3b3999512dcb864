"""Work that follows a creation, beside the rest of the update.

While a hook of the engine (Pulumi 3.259) runs after a creation, the lock of the new resource is held, and the engine
needs it to save its state: whatever else ends meanwhile waits for the hook.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pulumi

Work = Callable[[pulumi.ResourceHookArgs], Awaitable[None]]


def afterwards(name: str, work: Work) -> pulumi.ResourceHook:
    """Return a hook for `after_create` that only begins its `work`. The program does not end before the work does.

    A `RuntimeError` of the work becomes an error of the update, in its own words.
    """

    async def begin(args: pulumi.ResourceHookArgs) -> None:
        is_done: pulumi.Input[bool] = _reported(name, work(args))
        # A program waits for all of its outputs, and for nothing else that it has begun.
        pulumi.Output.from_input(is_done)

    return pulumi.ResourceHook(name, begin)


async def _reported(name: str, work: Awaitable[None]) -> bool:
    """Whether the work is done."""
    try:
        await work
    except RuntimeError as error:
        pulumi.log.error(f"{name}: {error}")
        return False
    return True
