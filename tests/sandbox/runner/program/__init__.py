"""GitLab Runner's command line, configuration, protocol, and its executors docker and kubernetes."""

from __future__ import annotations

from pathlib import Path


def version() -> str:
    """The version that the package was built as, such as `19.3.0`."""
    file = Path(__file__).with_name("VERSION")
    return file.read_text().strip() if file.exists() else "19.3.0"
