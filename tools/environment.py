"""Where the tools of this checkout are, and the environment in which a command finds them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
VENV: Final = ROOT / ".cache" / "venv"
#: What a preview checks beside the settings.
POLICIES: Final = ROOT / "policies"
#: Pulumi and its plugins. Kept apart from plugins that other programs use.
TOOLS: Final = ROOT / ".cache" / "tools"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def tool_environment(folder: Path = TOOLS) -> dict[str, str]:
    """Variables to add to a user's own environment: the tools in `folder` on PATH, the user's Pulumi login kept."""
    login = os.environ.get("PULUMI_HOME", str(Path.home() / ".pulumi"))
    return {
        "PULUMI_HOME": str(folder / "pulumi-home"),
        "PULUMI_CREDENTIALS_PATH": os.environ.get("PULUMI_CREDENTIALS_PATH", login),
        "PATH": os.pathsep.join([str(folder / "bin"), str(VENV / "bin"), os.environ.get("PATH", _SYSTEM_PATH)]),
        "VIRTUAL_ENV": str(VENV),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
