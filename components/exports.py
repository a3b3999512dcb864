"""Outputs of the stack that survive an update that fails."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pulumi


def export(outputs: Mapping[str, Any]) -> None:
    """Export all outputs of the stack, or none if the update fails before each of them is known.

    The engine keeps the former value of an output that a failed update does not report. With `pulumi.export` alone,
    one value that cannot be determined keeps the SDK from reporting anything, and the update prints every output as
    removed.
    """
    if pulumi.runtime.is_dry_run():
        for name, value in outputs.items():
            pulumi.export(name, value)
        return
    resolved = pulumi.Output.unsecret(pulumi.Output.from_input(dict(outputs)))
    known = resolved.apply(lambda _: True).recover(lambda _: False)
    for name, value in outputs.items():
        # The SDK leaves out what is None. Secrets inside a value stay the only secret parts of it.
        pulumi.export(name, known.apply(partial(_if_known, value)))


def _if_known(value: Any, known: bool) -> Any:
    return value if known else None
