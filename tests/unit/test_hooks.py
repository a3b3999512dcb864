"""Work after a creation: the engine does not wait for it, the program does, and its error is one of the update."""

from __future__ import annotations

import asyncio

import pulumi
import pytest

from components.hooks import Work, afterwards
from tests.unit.engine import run_program

ARGS = pulumi.ResourceHookArgs(urn="urn", id="1", name="key", type="type")


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the update reports as errors."""
    found: list[str] = []
    monkeypatch.setattr(pulumi.log, "error", found.append)
    return found


def run_with(work: Work, said: list[str]) -> None:
    """A program during which the engine calls a hook for that work."""

    def program() -> None:
        hook = afterwards("key-after-create", work)

        async def called() -> str:
            await hook.callback(ARGS)  # type: ignore[misc]
            said.append("the engine goes on")
            return ""

        answer: pulumi.Input[str] = called()
        pulumi.Output.from_input(answer)

    run_program(program=program)
    said.append("the program ends")


def test_the_engine_goes_on_and_the_program_ends_only_after_the_work(errors: list[str]) -> None:
    said: list[str] = []

    async def work(args: pulumi.ResourceHookArgs) -> None:
        await asyncio.sleep(0.05)
        said.append(f"the work for {args.name} is done")

    run_with(work, said)
    assert said == ["the engine goes on", "the work for key is done", "the program ends"]
    assert errors == []


def test_an_error_of_the_work_is_one_of_the_update_in_its_own_words(errors: list[str]) -> None:
    async def work(_: pulumi.ResourceHookArgs) -> None:
        raise RuntimeError("the API refuses: 403")

    run_with(work, [])
    assert errors == ["key-after-create: the API refuses: 403"]
