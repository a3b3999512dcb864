"""The part of an operation that ends when the user stops the engine, or when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.sandbox.plugins.base.framework import Call, PluginError

_T = TypeVar("_T")


async def until_cancelled(call: Call, operation: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, or until one of the two happens.

    Raises:
        PluginError: it was cancelled, or its time is over; in the words of Go's contexts.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(operation)

    def cancel() -> None:
        loop.call_soon_threadsafe(task.cancel)

    call.on_cancel.append(cancel)
    if call.cancelled.is_set():
        task.cancel()
    try:
        async with asyncio.timeout(call.timeout or None):
            return await task
    except asyncio.CancelledError as error:
        raise PluginError("context canceled") from error
    except TimeoutError as error:
        raise PluginError("context deadline exceeded") from error
    finally:
        call.on_cancel.remove(cancel)
