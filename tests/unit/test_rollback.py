"""`python -m tools rollback`: which deployment is repeated, and what the refusals of a wish and of GitLab say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gitlab
import pytest

from tools import rollback as module
from tools.clients import Outputs
from tools.progress import ToolError
from tools.rollback import Wish


class Jobs:
    """Jobs whose number is also that of their pipeline and of their image."""

    refused = False

    def get(self, number: int, lazy: bool = False) -> Any:
        del lazy
        return SimpleNamespace(
            id=number,
            status="success",
            web_url="u",
            retry=self._retry,
            artifact=lambda _: f"x@sha256:{number}".encode(),
        )

    def _retry(self) -> dict[str, int]:
        if self.refused:
            raise gitlab.GitlabJobRetryError("403 Forbidden", 403)
        return {"id": 9}


def deployment(number: int) -> Any:
    job = {"id": number, "pipeline": {"id": number}, "finished_at": "2026-11-28T02:00:00Z"}
    return SimpleNamespace(deployable=job)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """The jobs of `root/hello`, which has deployed 1, 2 and 3 to `production`."""
    made = Jobs()
    listed = {"success": [deployment(number) for number in (3, 2, 1)], "running": []}
    project = SimpleNamespace(
        path_with_namespace="root/hello",
        jobs=made,
        environments=SimpleNamespace(list=lambda **_: [SimpleNamespace(name="production")]),
        deployments=SimpleNamespace(list=lambda status, **_: iter(listed[status])),
    )
    client = SimpleNamespace(projects=SimpleNamespace(get=lambda _: project))
    values = {"gitlab_url": "https://g", "projects": [{"url": "https://g/root/hello"}]}
    monkeypatch.setattr(Outputs, "of_stack", lambda _: Outputs(values))
    monkeypatch.setattr(Outputs, "gitlab", lambda _: client)
    return made


@pytest.mark.usefixtures("jobs")
@pytest.mark.parametrize(("to", "number"), [(None, 2), ("1", 1)])
def test_the_deployment_before_the_present_one_or_the_named_one_is_repeated(
    to: str | None, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module.rollback(None, Wish("hello", "production", to)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"production runs x@sha256:{number} again"


@pytest.mark.usefixtures("jobs")
@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish("other", "production", None), "other is not one of the stack's projects"),
        (Wish("root/hello", "staging", None), "root/hello has no environment staging"),
        (Wish("hello", "production", "3"), "production runs that already"),
        (Wish("hello", "production", "7"), "7 was never deployed to production; .* pipeline 3, .*; pipeline 2"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_one_line(wish: Wish, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        module.rollback(None, wish)


def test_a_refusal_of_gitlab_says_which_setting_allows_it(jobs: Jobs) -> None:
    jobs.refused = True
    with pytest.raises(ToolError, match="Allow job retries for rollback deployments in the project"):
        module.rollback(None, Wish("hello", "production", None))
