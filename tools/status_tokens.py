"""What `make status` asks of tokens: which of them run out, and when.

Keys for Spaces do not expire. A token for DigitalOcean may, which only its control panel says, as for the scopes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import gitlab

from components import api
from tools.answers import Answer, Health, Question, side_by_side, worst

#: Days, as for the certificate: enough to act in, and no more than a token of a few weeks has for most of its life.
_NEAR: Final = 14
#: The settings of GitLab that give runners' tokens an end. Runners renew theirs by themselves, and the stack's state
#: then has one that is no longer valid.
_INTERVALS: Final = ("runner_token_expiration_interval", "project_runner_token_expiration_interval")
_DAY: Final = 86400


@dataclass(frozen=True)
class _Token:
    """A token that runs out: the seconds that it has left, and what renews it. What is a person's is no fault here."""

    name: str
    left: float
    renewal: str
    is_ours: bool = True

    @property
    def answer(self) -> Answer:
        """How it is, with the days that are left."""
        days = int(self.left // _DAY)
        if self.left <= 0:
            text = f"{self.name} has expired: {self.renewal}"
        else:
            text = f"{self.name} {days} days left" + (f": {self.renewal}" if days < _NEAR else "")
        near = Health.FAILING if self.is_ours else Health.NOTICE
        return Answer(near if days < _NEAR else Health.HEALTHY, text, {self.name: {"days": days}})


def tokens_last(question: Question) -> Answer:
    """The days that are left of each token that runs out, and which are near their end."""
    paths = [one["url"].removeprefix(f"{question.outputs.url}/") for one in question.outputs.projects]
    asked: dict[str, Callable[[], Answer]] = {
        "API token": partial(_api_token, question),
        "DigitalOcean": _cloud_token,
        "runners": partial(_runner_tokens, question),
        **{path: partial(_project_tokens, question, path) for path in paths},
    }
    answers = side_by_side(asked, question.seconds)
    unknown = [f"{name}: {one.text}" for name, one in answers.items() if one.health is Health.UNKNOWN]
    texts = [one.text for one in answers.values() if one.text and one.health is not Health.UNKNOWN]
    values = {name: value for one in answers.values() for name, value in one.values.items()}
    return Answer(worst(answers.values()), "; ".join([*texts, *unknown]) or "none runs out", values)


def _joined(tokens: Iterator[_Token]) -> Answer:
    found = [one.answer for one in tokens]
    values = {name: value for one in found for name, value in one.values.items()}
    return Answer(worst(found), "; ".join(one.text for one in found), values)


def _api_token(question: Question) -> Answer:
    """GitLab itself is asked: an administrator may have given the token another date than the stack."""
    own = question.client().http_get("/personal_access_tokens/self")
    expires = own.get("expires_at") if isinstance(own, dict) else None
    return _joined(iter([_Token("the stack's API token", _left(expires), "make up renews it")] if expires else []))


def _cloud_token() -> Answer:
    left = api.token_seconds()
    renewal = "create another one under API in the control panel, and export it or set digitalocean:token"
    return _joined(iter([_Token("the DigitalOcean token", left, renewal)] if left is not None else []))


def _runner_tokens(question: Question) -> Answer:
    settings = question.client().http_get("/application/settings")
    asked = [name for name in _INTERVALS if isinstance(settings, dict) and settings.get(name)]
    if not asked:
        return Answer(Health.HEALTHY, "")
    text = "GitLab lets the tokens of runners expire, so the next update would register them again: turn it off under "
    return Answer(Health.NOTICE, f"{text}Admin > Settings > CI/CD > Continuous Integration and Deployment")


def _project_tokens(question: Question, path: str) -> Answer:
    project = question.client().projects.get(path, lazy=True)
    ours = {one.id.rpartition(":")[2] for one in question.state.resources if one.noun == "ProjectDeployToken"}
    return _joined(
        token
        for kind, found in (
            ("deploy token", _listed(project.deploytokens)),
            ("access token", _listed(project.access_tokens)),
        )
        for token in _expiring(kind, path, found, ours if kind == "deploy token" else set())
    )


def _listed(manager: Any) -> list[Any]:
    try:
        return list(manager.list(get_all=True))
    except gitlab.GitlabError as error:
        if error.response_code == HTTPStatus.NOT_FOUND:
            return []
        raise


def _expiring(kind: str, path: str, found: list[Any], ours: set[str]) -> Iterator[_Token]:
    """Those with a date that still are valid, or have just run out. Without a date, a token never runs out."""
    for one in found:
        expires = one.attributes.get("expires_at")
        if not expires or one.attributes.get("revoked"):
            continue
        is_ours = str(one.id) in ours
        renewal = "pulumi up --replace URN of it" if is_ours else "whoever uses it needs another one"
        if kind == "access token" and one.name == "slipway":
            renewal = "make pipeline"
        yield _Token(f"{kind} {one.name} of {path}", _left(expires), renewal, is_ours)


def _left(expires: str) -> float:
    """Seconds until a date, or a moment, in UTC; a date is the last day before it."""
    moment = datetime.fromisoformat(expires)
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return aware.timestamp() - time.time()
