"""The log of a job, line by line, as it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gitlab.v4.objects import Project

from tools.pipelines import ENDED

#: Colours, the marks with which GitLab folds a log, and whatever else would steer a terminal.
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|section_(?:start|end):\d+:[^\r]*\r|\r(?!\n)|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def printable(text: str) -> str:
    """A line of a log without what would steer a terminal; others decide what is in a log."""
    return _CONTROL.sub("", text)


@dataclass
class JobLog:
    """The log of one job; `printed` bytes of it have been read."""

    project: Project
    job_id: int
    printed: int = 0

    def new_lines(self, status: str) -> list[str]:
        """The lines that were written since the last call, without empty ones; `status` is that of the job."""
        trace = self.project.jobs.get(self.job_id, lazy=True).trace()
        # The last line may be incomplete; it is returned next time.
        whole = trace if status in ENDED else trace[: trace.rfind(b"\n") + 1]
        new = whole[self.printed :].decode(errors="replace")
        self.printed = max(self.printed, len(whole))
        lines = (printable(line).rstrip() for line in new.split("\n"))
        return [line for line in lines if line]
