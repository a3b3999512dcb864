"""The package of this project, as it is, without machines: see `without_machines.py`."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

repository = Path(json.loads(os.environ["WHOLE_PROGRAM"])["repository"])
sys.path.insert(0, str(repository))

import tests.sandbox_tests.support.programs.without_machines  # noqa: E402, F401 - a program finds its own folder only

runpy.run_path(str(repository / "package/__main__.py"), run_name="__main__")
