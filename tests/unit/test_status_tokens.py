"""What `make status` says of tokens that run out."""

from __future__ import annotations

from typing import Any

import pytest

from components import api
from tests.unit.status_world import World, asked, in_days, world
from tests.unit.test_down import resource
from tools.answers import Health

__all__ = ["world"]

DEPLOY, ACCESS = "/projects/root%2Fhello/deploy_tokens", "/projects/root%2Fhello/access_tokens"
OURS = resource("gitlab:index/projectDeployToken:ProjectDeployToken", "delivery-hello-deploy-token", "4:5")


def token(number: int, name: str, days: float, **more: Any) -> dict[str, Any]:
    return {"id": number, "name": name, "expires_at": in_days(days), "revoked": False, **more}


@pytest.mark.parametrize(
    ("days", "health", "words"),
    [
        (14, Health.HEALTHY, "the stack's API token 14 days left"),
        (13, Health.FAILING, "the stack's API token 13 days left: make up renews it"),
        (-1, Health.FAILING, "the stack's API token has expired: make up renews it"),
    ],
)
def test_the_stacks_own_token_fails_when_its_end_is_near(days: int, health: Health, words: str, world: World) -> None:
    world.api["/personal_access_tokens/self"] = {"expires_at": in_days(days)}
    found = asked("Tokens")
    assert (found.health, found.text) == (health, words)
    assert found.values == {"the stack's API token": {"days": days}}


def test_a_token_of_digitalocean_that_runs_out_is_named_and_one_that_never_does_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    assert "DigitalOcean" not in asked("Tokens").text
    monkeypatch.setattr(api, "token_seconds", lambda: 86400 * 30.5)
    assert (asked("Tokens").health, "the DigitalOcean token 30 days left" in asked("Tokens").text) == (
        Health.HEALTHY,
        True,
    )
    monkeypatch.setattr(api, "token_seconds", lambda: 86400 * 2.5)
    found = asked("Tokens")
    assert found.health is Health.FAILING
    assert "the DigitalOcean token 2 days left: create another one under API in the control panel" in found.text


def test_a_deploy_token_of_the_stack_fails_near_its_end_and_one_of_somebody_else_is_a_notice(world: World) -> None:
    world.api[DEPLOY] = [token(6, "theirs", 3), token(7, "revoked", 3, revoked=True)]
    found = asked("Tokens", OURS)
    assert (found.health, found.text.split("; ")[1:]) == (
        Health.NOTICE,
        ["deploy token theirs of root/hello 3 days left: whoever uses it needs another one"],
    )
    world.api[DEPLOY].append(token(5, "pull", 3))
    found = asked("Tokens", OURS)
    assert found.health is Health.FAILING
    assert "deploy token pull of root/hello 3 days left: pulumi up --replace" in found.text


def test_the_token_of_the_notes_of_a_pipeline_says_what_renews_it(world: World) -> None:
    world.api[ACCESS] = [token(8, "slipway", 5)]
    found = asked("Tokens")
    assert (found.health, "access token slipway of root/hello 5 days left: make pipeline" in found.text) == (
        Health.NOTICE,
        True,
    )


def test_runners_whose_tokens_run_out_are_worth_a_look(world: World) -> None:
    world.api["/application/settings"] = {"project_runner_token_expiration_interval": 86400}
    found = asked("Tokens")
    assert (found.health, "GitLab lets the tokens of runners expire" in found.text) == (Health.NOTICE, True)


def test_a_project_that_does_not_answer_hides_no_token_of_another(world: World) -> None:
    world.api[DEPLOY] = 500
    found = asked("Tokens")
    assert found.health is Health.UNKNOWN
    assert "the stack's API token 100 days left" in found.text
    assert "root/hello: cannot be asked" in found.text
