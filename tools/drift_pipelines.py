"""The pipelines that a step has committed, compared with what the branch has now."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import gitlab

from tools.clients import Outputs
from tools.findings import Finding
from tools.state import StackState

#: The component that shows what the step was given, beside the step.
_SHOWN = "-rendered"


def pipelines(state: StackState, outputs: Outputs) -> Iterator[Finding]:
    """Each file that somebody has changed or deleted.

    Raises:
        gitlab.GitlabError: GitLab does not answer.
    """
    urns = {one.name: one.urn for one in state.resources if one.noun == "Command"}
    for shown in state.resources:
        given = shown.raw.get("inputs") or {}
        step = urns.get(shown.name.removesuffix(_SHOWN))
        if shown.noun != "RenderedStep" or step is None or "PIPELINE" not in given:
            continue
        project = outputs.gitlab().projects.get(given["PROJECT_ID"], lazy=True)
        try:
            found = project.files.get(given["FILE"], ref=given["BRANCH"]).decode()
        except gitlab.GitlabGetError as error:
            if error.response_code != HTTPStatus.NOT_FOUND:
                raise
            yield Finding(f"file {given['FILE']} is gone", repeat=(step,))
            continue
        if found != given["PIPELINE"].encode():
            yield Finding(f"file {given['FILE']}: content was changed", repeat=(step,))
