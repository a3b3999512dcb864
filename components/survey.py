"""Questions to the account, asked side by side: each takes a round trip to the API, and none changes anything."""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import pulumi

_T = TypeVar("_T")

#: How the official client ends the message of a failed request: method, URL, status.
_REFUSAL: Final = re.compile(r"\b[A-Z]+ \S*/v2/\S+?: (\d{3})\b")
#: As many as there are lists that the first preview of a stack reads.
_MOST_AT_ONCE: Final = 8


@dataclass
class Survey:
    """The questions of one run, and what is wrong so far; `rejected` says that the token is not accepted at all.

    Owns when questions are asked and in which order their errors are reported: that of the questions, not of the
    answers. Refuses to know what they mean.
    """

    options: pulumi.InvokeOptions
    errors: list[str] = field(default_factory=list)
    rejected: bool = False
    _started: list[Started[Any]] = field(default_factory=list)

    def ask(self, what: str, scope: str, function: Callable[[pulumi.InvokeOptions], _T], absent: str = "") -> _T | None:
        """The answer of the API; None if there is none, which is an error unless its status or message is `absent`."""
        try:
            return function(self.options)
        # The SDK raises plain exceptions for whatever a provider reports.
        except Exception as error:
            message = str(error)
        found = _REFUSAL.search(message)
        status = found[1] if found else ""
        if absent and (status == absent if absent.isdigit() else absent in message):
            return None
        self.rejected |= status == "401"
        self.note([_refusal(status, what, scope, message)])
        return None

    def note(self, errors: Iterable[str]) -> None:
        """Add errors, each once."""
        for line in errors:
            if line not in self.errors:
                self.errors.append(line)

    def start(self, function: Callable[[Survey], _T], *, beside: bool = False) -> Started[_T]:
        """Have a function called by the next `wait`, with a survey of its own; its answer is there afterwards.

        Its first question is asked together with those of the others. Only a function that asks nothing of the provider
        can run `beside` it, in a thread.
        """
        started = Started(function, Survey(self.options), beside)
        self._started.append(started)
        return started

    def check(self, function: Callable[[Survey], Iterable[str]], *, beside: bool = False) -> None:
        """As `start`, for a function that returns errors."""
        self.start(lambda survey: survey.note(function(survey)), beside=beside)

    def wait(self) -> None:
        """Call everything that was started, and take over its errors.

        A function of the SDK that waits lets the event loop go on, and what it finds there are the other functions:
        each is called while those before it wait.
        """
        started, self._started = self._started, []
        with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
            # The SDK keeps the stack's name in the context.
            for one in started:
                if one.beside:
                    pool.submit(contextvars.copy_context().run, one.call)
            mine = [one for one in started if not one.beside]
            for one in mine[1:]:
                asyncio.get_running_loop().call_soon(one.call)
            for one in mine:
                one.call()
        for one in started:
            # Raises its error, if there was one.
            _ = one.answer
            self.rejected |= one.survey.rejected
            self.note(one.survey.errors)


@dataclass
class Started(Generic[_T]):
    """A function of a survey that is called once. Its `answer` is there after `wait`."""

    function: Callable[[Survey], _T]
    survey: Survey
    beside: bool
    _outcome: Future[_T] = field(default_factory=Future)

    @property
    def answer(self) -> _T:
        """What the function has returned."""
        return self._outcome.result(timeout=0)

    def call(self) -> None:
        """Call the function, unless it was called already. Its error is kept: here, nobody would see it."""
        if self._outcome.running() or self._outcome.done():
            return
        self._outcome.set_running_or_notify_cancel()
        try:
            self._outcome.set_result(self.function(self.survey))
        except Exception as error:
            self._outcome.set_exception(error)


def _refusal(status: str, what: str, scope: str, message: str) -> str:
    if status == "401":
        return (
            "DIGITALOCEAN_TOKEN: was rejected by DigitalOcean (401); nothing could be created. It has expired, was "
            "deleted or is incomplete: create a new one under API in the control panel, and export it"
        )
    if status == "403":
        return (
            f"DIGITALOCEAN_TOKEN: may not read {what} (403); the update would fail later. "
            f"Give the token the scope {scope}, or use one with full access"
        )
    reason = " ".join(message.split())
    return (
        f"DigitalOcean: could not read {what}; it is not known whether the update would succeed. Try again once the "
        f"API responds. It reported: {reason}"
    )
