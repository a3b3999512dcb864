"""Questions to the account: asked side by side, and reported in the order in which they were asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pulumi
import pytest
from pulumi.runtime.sync_await import _sync_await

from components.survey import Survey

#: How long a question waits for the others. Nothing waits this long unless a test is to fail.
_PATIENCE_SECONDS = 10


def surveyed(start: Callable[[Survey], None]) -> Survey:
    """A survey after it has waited for what was started, in a loop such as that of a program."""

    async def program() -> Survey:
        survey = Survey(pulumi.InvokeOptions())
        start(survey)
        survey.wait()
        return survey

    return asyncio.run(program())


class Meeting:
    """Questions that are answered once all of them have been asked, and in any order."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self._all = asyncio.Event()

    def ask(self, _: object) -> int:
        """Wait as a function of the SDK does."""
        self._missing -= 1
        if not self._missing:
            self._all.set()
        _sync_await(asyncio.wait_for(self._all.wait(), _PATIENCE_SECONDS))
        return 1


def test_questions_to_the_provider_wait_for_their_answers_together() -> None:
    def start(survey: Survey) -> None:
        meeting = Meeting(5)

        def asked(what: str, part: Survey) -> list[str]:
            return [f"{what}: {part.ask(what, 'x:read', meeting.ask)}"]

        for what in "abcde":
            survey.check(partial(asked, what))

    assert surveyed(start).errors == [f"{what}: 1" for what in "abcde"]


def test_what_does_not_need_the_provider_runs_beside_its_questions() -> None:
    def start(survey: Survey) -> None:
        loop, reached = asyncio.get_running_loop(), asyncio.Event()
        entered = threading.Barrier(2)

        def beside(_: Survey) -> list[str]:
            entered.wait(_PATIENCE_SECONDS)
            loop.call_soon_threadsafe(reached.set)
            return ["beside"]

        def ask(_: object) -> None:
            _sync_await(asyncio.wait_for(reached.wait(), _PATIENCE_SECONDS))

        survey.check(lambda part: [f"asked: {part.ask('a thing', 'x:read', ask)}"])
        survey.check(lambda part: ["one", *beside(part)], beside=True)
        survey.check(lambda part: ["other", *beside(part)], beside=True)

    assert surveyed(start).errors == ["asked: None", "one", "beside", "other"]


def test_errors_are_in_the_order_of_the_questions_and_each_is_there_once() -> None:
    def refused(_: object) -> None:
        _sync_await(asyncio.sleep(0))
        raise RuntimeError("GET https://api.digitalocean.com/v2/sizes: 403 forbidden")

    def findings(survey: Survey) -> Iterator[str]:
        yield "first"
        survey.ask("the sizes", "sizes:read", refused)
        yield "last"

    def start(survey: Survey) -> None:
        survey.check(findings)
        survey.check(lambda part: [*findings(part), "another"])

    first, refusal, last, another = surveyed(start).errors
    assert (first, last, another) == ("first", "last", "another")
    assert "may not read the sizes (403)" in refusal


def test_an_answer_is_there_once_the_survey_has_waited() -> None:
    answers = []

    async def program() -> None:
        survey = Survey(pulumi.InvokeOptions())
        one, other = survey.start(lambda _: 1), survey.start(lambda _: "b", beside=True)
        survey.wait()
        answers.extend([one.answer, other.answer])

    asyncio.run(program())
    assert answers == [1, "b"]


@pytest.mark.parametrize("beside", [False, True])
def test_a_bug_in_a_check_is_raised_and_not_reported_as_an_error_of_the_user(*, beside: bool) -> None:
    def broken(_: Survey) -> list[str]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        surveyed(lambda survey: survey.check(broken, beside=beside))


def test_a_rejected_token_is_known_whoever_asked() -> None:
    def refused(_: object) -> None:
        raise RuntimeError("GET https://api.digitalocean.com/v2/account: 401 unable to authenticate you")

    survey = surveyed(lambda survey: survey.check(lambda part: part.ask("the account", "account:read", refused) or []))
    assert survey.rejected
    assert len(survey.errors) == 1
