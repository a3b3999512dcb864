"""Each fault of each kind of call: the update goes on, or the next one does, or says how; nothing is left behind."""

from __future__ import annotations

import pytest

from tests.sandbox_tests.support.fault_matrix import FAULTS, Kind, Outcome, run
from tests.sandbox_tests.support.whole_program import World

LOST = "answer lost after"
#: What the providers ask again for, whichever service it is.
PASSING = ("429, Retry-After", "500", "503, Retry-After", "slow")
#: What leaves something that is in no state and in no list of strays. On a server, the step `deploy-tokens` hands the
#: value of such a token on and deletes it; here are no machines.
UNKNOWN = {"gitlab: POST /api/v4/projects/*/deploy_tokens"}


def test_every_service_is_asked(kinds: list[Kind]) -> None:
    assert {kind.service for kind in kinds} == {"api", "spaces", "gitlab"}
    assert len([kind for kind in kinds if kind.writes]) > 15


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != LOST])
def test_an_update_goes_on_after_a_fault_of_every_call(
    services: World, kinds: list[Kind], outcomes: list[Outcome], fault: str
) -> None:
    outcome = run(services, fault, kinds)
    outcomes.append(outcome)
    assert outcome.converged, "\n".join(outcome.messages)
    assert outcome.left_behind == []
    if fault in PASSING:
        assert outcome.updates == 1, outcome.messages
        assert outcome.hit == len(kinds)
    else:
        # What only follows the first creation is not asked for again by the update that completes it.
        assert outcome.hit > len(kinds) * 0.9


def test_what_was_made_is_known_or_named_after_each_lost_answer(
    services: World, kinds: list[Kind], outcomes: list[Outcome]
) -> None:
    runs = [run(services, LOST, [kind]) for kind in kinds if kind.writes]
    outcomes.extend(runs)
    assert [str(one.kinds[0]) for one in runs if not one.converged] == []
    left = {str(one.kinds[0]): one.left_behind for one in runs if one.left_behind}
    assert left.keys() == UNKNOWN, left
