"""The command line of the `gitlab-runner` stand-in, run from the sources."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.moments import clock_variables
from tests.sandbox.layout import current

COMMAND = "import sys; sys.argv[0] = 'gitlab-runner'; from tests.sandbox.runner.program.cli import main; main()"


def gitlab_runner(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end. `environment` is all that it has, beside PATH and the test's clock."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, words)],
        cwd=current().root,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **clock_variables(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
