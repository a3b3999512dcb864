"""Questions that are asked side by side, each within a limit of time, and what is said of those without an answer."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import gitlab

from tools.clients import Outputs
from tools.state import StackState

#: Longer reasons are pages of HTML, or lists.
_LONGEST: Final = 200
#: Ages from here on are in hours, or in days.
_MINUTES, _HOURS = 100 * 60, 72 * 3600


class Health(StrEnum):
    """How a part is. A `notice` is worth reading, and no reason to act at once; `unknown` could not be asked."""

    HEALTHY = "healthy"
    NOTICE = "notice"
    UNKNOWN = "unknown"
    FAILING = "failing"


@dataclass(frozen=True)
class Answer:
    """What is known of a part: in words, and as values for programs."""

    health: Health
    text: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What a part is asked with: the stack, and the seconds that are left for an answer."""

    state: StackState
    outputs: Outputs
    seconds: float

    def client(self) -> gitlab.Gitlab:
        """A client of GitLab's API that does not wait longer."""
        return self.outputs.gitlab(timeout=self.seconds)


def worst(answers: Iterable[Answer]) -> Health:
    """The worst health of several parts; healthy if there is none."""
    return max((answer.health for answer in answers), key=list(Health).index, default=Health.HEALTHY)


def side_by_side(questions: Mapping[str, Callable[[], Answer]], seconds: float) -> dict[str, Answer]:
    """Ask all questions at once. One that fails, or has no answer within the limit, is unknown, and hides no other.

    A question that still waits is left behind: its thread does not keep the program from ending.
    """
    answers: dict[str, Answer] = {}

    def ask(name: str, question: Callable[[], Answer]) -> None:
        try:
            answers[name] = question()
        except subprocess.TimeoutExpired:
            # Its message is the command line, with folders that are gone by now.
            answers[name] = Answer(Health.UNKNOWN, "no answer in time")
        except Exception as error:  # whatever it is, it must not hide the other parts
            answers[name] = Answer(Health.UNKNOWN, f"cannot be asked: {reason_of(error)}")

    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in questions.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = Answer(Health.UNKNOWN, f"no answer within {seconds:.0f} s")
    given = dict(answers)
    return {name: given.get(name, late) for name in questions}


def together(questions: Mapping[str, Callable[[], Answer]], seconds: float) -> Answer:
    """Ask about parts of one kind side by side, and say it in one answer, which is as the worst of them is."""
    answers = side_by_side(questions, seconds)
    text = "; ".join(f"{name}: {answer.text}" for name, answer in answers.items())
    return Answer(worst(answers.values()), text, {name: answer.values for name, answer in answers.items()})


def reason_of(error: BaseException) -> str:
    """Why something failed, on one line. Errors of a connection are wrapped several times; the first one says why."""
    is_connection = isinstance(error, OSError)
    while is_connection and (first := error.__cause__ or error.__context__):
        error = first
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def age(seconds: float) -> str:
    """An age, for people."""
    if seconds < _MINUTES:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < _HOURS else f"{seconds / 86400:.0f} days"


def size(count: float) -> str:
    """An amount of bytes, for people."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while count >= 1024 and power < len(units) - 1:  # noqa: PLR2004 - what a unit is of the one before
        count, power = count / 1024, power + 1
    return f"{count:.1f} {units[power]}" if power else f"{count:.0f} B"
