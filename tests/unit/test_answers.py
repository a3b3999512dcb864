"""What is said of an answer: ages, amounts and reasons, as people read them."""

from __future__ import annotations

import pytest

from tools import answers
from tools.clients import CheckError


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 min"), (5999, "100 min"), (6000, "2 h"), (3600 * 71, "71 h"), (3600 * 72, "3 days")]
)
def test_ages_are_in_the_unit_that_people_would_use(seconds: float, words: str) -> None:
    assert answers.age(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**42, "4.0 TiB"), (2**52, "4096.0 TiB")]
)
def test_sizes_are_in_the_unit_that_people_would_use(count: int, words: str) -> None:
    assert answers.size(count) == words


def test_a_long_reason_is_cut_and_on_one_line() -> None:
    assert answers.reason_of(CheckError("a\n  b")) == "a b"
    assert len(answers.reason_of(CheckError("<html>" * 200))) == 201
    assert answers.reason_of(TimeoutError()) == "TimeoutError"
