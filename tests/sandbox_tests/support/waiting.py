"""Waiting for what happens elsewhere, for so long and no longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

T = TypeVar("T")


def eventually(probe: Callable[[], T | None], within_s: float = 20) -> T:
    """Return what `probe` finds as soon as it finds something (a true value).

    Raises:
        AssertionError: it finds nothing within `within_s` seconds.
    """
    asking = Retrying(
        retry=retry_if_result(lambda found: not found), stop=stop_after_delay(within_s), wait=wait_fixed(0.01)
    )
    try:
        found = asking(probe)
    except RetryError:
        raise AssertionError(f"it did not happen within {within_s:g} s") from None
    assert found is not None
    return found
