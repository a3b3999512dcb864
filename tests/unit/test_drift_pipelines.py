"""What drift says of a pipeline that the stack has committed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gitlab
import pytest

from tools.clients import Outputs
from tools.drift_pipelines import pipelines
from tools.state import StackState

URN = "urn:pulumi:test::slipway::x$command:remote:Command::delivery-hello-pipeline"
SHOWN = "urn:pulumi:test::slipway::x$slipway:index:RenderedStep::delivery-hello-pipeline-rendered"
GIVEN = {"PROJECT_ID": "12", "FILE": ".gitlab-ci.yml", "BRANCH": "main", "PIPELINE": "stages: []\n"}


@pytest.mark.parametrize(
    ("status", "content", "texts"),
    [
        (200, "stages: []\n", []),
        (200, "stages: [mine]\n", ["file .gitlab-ci.yml: content was changed"]),
        (404, "", ["file .gitlab-ci.yml is gone"]),
    ],
)
def test_a_pipeline_that_was_changed_or_deleted_is_named_with_the_step_that_commits_it(
    status: int, content: str, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, status, content)
    found = list(pipelines(state(), Outputs({})))
    assert [one.text for one in found] == texts
    assert all(one.repeat == (URN,) for one in found)


def test_a_gitlab_that_refuses_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 502, "")
    with pytest.raises(gitlab.GitlabGetError):
        list(pipelines(state(), Outputs({})))


def state() -> StackState:
    """A stack with the pipeline's step, and one that has nothing to do with it."""
    other = {"urn": URN.replace("pipeline", "sample"), "type": "command:remote:Command"}
    step = {"urn": URN, "type": "command:remote:Command"}
    shown = {"urn": SHOWN, "type": "slipway:index:RenderedStep", "inputs": GIVEN}
    return StackState(None, {"deployment": {"resources": [other, step, shown]}})


def answer(monkeypatch: pytest.MonkeyPatch, status: int, content: str) -> None:
    """What GitLab has of the file."""

    def get(path: str, ref: str) -> Any:
        assert (path, ref) == (".gitlab-ci.yml", "main")
        if status != 200:
            raise gitlab.GitlabGetError("no", response_code=status)
        return SimpleNamespace(decode=content.encode)

    project = SimpleNamespace(files=SimpleNamespace(get=get))
    client = SimpleNamespace(projects=SimpleNamespace(get=lambda number, lazy: number == "12" and lazy and project))
    monkeypatch.setattr(Outputs, "gitlab", lambda _: client)
