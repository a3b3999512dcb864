"""What is known of a stack's drift without a comparison, which takes a minute: `make drift` notes what it has found."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Final

from tools.answers import Answer, Health, Question, age
from tools.environment import ROOT
from tools.findings import Finding
from tools.state import StackState

#: Where the last comparison of each stack is noted.
FOLDER: Final = ROOT / ".cache" / "drift"


def drift_is_known(question: Question) -> Answer:
    """What is known without a comparison: what the state says, and what `make drift` found last on this machine."""
    state = question.state
    marked = [one.name for one in state.resources if one.raw.get("taint")]
    values: dict[str, Any] = {"pending_operations": len(state.pending), "marked": marked, "findings": None}
    if state.pending:
        text = f"an update was interrupted; {len(state.pending)} operations have an unknown end: make repair"
        return Answer(Health.FAILING, text, values)
    if marked:
        return Answer(Health.FAILING, f"the next update repeats {', '.join(marked)}: make up", values)
    noted = last_comparison(state)
    if noted is None:
        return Answer(Health.HEALTHY, "not compared since the last update: make drift", values)
    values |= {"findings": noted["findings"], "compared": noted["time"]}
    ago = age(time.time() - noted["time"])
    if noted["findings"]:
        first, *more = noted["findings"]
        rest = f", and {len(more)} more" if more else ""
        return Answer(Health.FAILING, f"{first}{rest}; compared {ago} ago, make up puts it right", values)
    if noted["unknown"]:
        return Answer(
            Health.NOTICE, f"none was found {ago} ago, but not everything could be compared: make drift", values
        )
    return Answer(Health.HEALTHY, f"none, compared {ago} ago", values)


def note_comparison(state: StackState, findings: Sequence[Finding]) -> None:
    """Keep what a comparison has found, for `make status`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    noted = {"time": time.time(), "written": _written(state), "findings": [], "unknown": 0}
    noted |= {
        "findings": [one.text for one in findings if not one.is_unknown],
        "unknown": len([one for one in findings if one.is_unknown]),
    }
    (FOLDER / f"{_name(state)}.json").write_text(json.dumps(noted), encoding="utf-8")


def last_comparison(state: StackState) -> dict[str, Any] | None:
    """The last comparison with this very state; None if there is none, or the state was written since."""
    try:
        noted = json.loads((FOLDER / f"{_name(state)}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return dict(noted) if noted["written"] == _written(state) else None


def _written(state: StackState) -> str:
    return str((state.raw.get("deployment") or {}).get("manifest", {}).get("time", ""))


def _name(state: StackState) -> str:
    """The name of the stack, from the URNs in its state."""
    return next((one.urn.split(":")[2] for one in state.resources), state.stack or "none")
