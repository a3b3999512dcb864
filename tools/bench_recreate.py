"""How long it takes to destroy a stack, except for its data, and to create it again, with and without golden images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import yaml
from rich.table import Table

from components.api import delete, every
from tools.bench_figures import Comparison
from tools.golden_image import SERVER, make_image
from tools.stack import Stack

#: The steps of a comparison that are recorded, and what their ratios are called.
_RECORDED: Final = {
    "both: make recreate": "recreate ÷ new",
    "both, from golden images": "recreate from golden images ÷ new",
}


def recreation(new: float, destroyed: float, again: float, from_images: tuple[float, float]) -> Comparison:
    """The seconds of updates: of a new stack, of its destruction, and of the stack that goes on with its data.

    `from_images` are the last two once more, with machines that start from golden images.
    """
    table = Table("Update", "Seconds", "÷ new")
    ratios = {}
    for title, seconds in (
        ("new", new),
        ("destroy, data stays", destroyed),
        ("again, on that data", again),
        ("both: make recreate", destroyed + again),
        ("again, from golden images", from_images[1]),
        ("both, from golden images", sum(from_images)),
    ):
        table.add_row(title, f"{seconds:.1f}", f"{seconds / new:.2f}")
        if title in _RECORDED:
            ratios[_RECORDED[title]] = seconds / new
    return Comparison(table, ratios)


@contextmanager
def golden_images(stack: Stack) -> Iterator[dict[str, Any]]:
    """The settings of a stack with images for its server and its runners, which are deleted at the end of the block.

    The runners have one distribution, so one image is for all of them.
    """
    config: Mapping[str, Any] = yaml.safe_load(stack.file.read_text())["config"]
    server, runners = config.get("slipway:server", {}), config["slipway:runners"]
    made: list[str] = []
    try:
        for which in (SERVER, runners[0]["name"]):
            made.append(make_image(stack.name, which, stack.file))
        for_server, for_runners = made
        yield {
            "server": {**server, "snapshot": for_server},
            "runners": [{**one, "snapshot": for_runners} for one in runners],
        }
    finally:
        for one in every("/v2/snapshots?resource_type=droplet", "snapshots"):
            if one["name"] in made:
                delete(f"/v2/snapshots/{one['id']}")
