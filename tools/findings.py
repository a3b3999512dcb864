"""One thing that differs between a stack and reality."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What differs, in words, and what the next update needs to put it right.

    `refresh` is the URN of a resource whose state has to be read again. `repeat` are those of resources whose steps
    have to run, or whose values have to be created, again. If it `is_unknown`, it says what could not be compared.
    """

    text: str
    refresh: str = ""
    repeat: tuple[str, ...] = ()
    is_unknown: bool = False
