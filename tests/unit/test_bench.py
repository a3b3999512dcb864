"""`make bench`: what it compares."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from tools.bench import recreation


def test_a_recreated_stack_is_compared_with_a_new_one() -> None:
    text = StringIO()
    Console(file=text, width=80).print(recreation(new=200.0, destroyed=30.0, again=110.0))
    lines = [line.split("│")[1:-1] for line in text.getvalue().splitlines() if "│" in line]
    ratios = {title.strip(): ratio.strip() for title, _, ratio in lines}
    assert ratios == {
        "new": "1.00",
        "destroy, data stays": "0.15",
        "again, on that data": "0.55",
        "both: make recreate": "0.70",
    }
