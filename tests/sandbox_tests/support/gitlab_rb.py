"""What the stand-in's package makes of the program's own `gitlab.rb`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from components.gitlab import gitlab_rb
from components.settings import Settings
from tests.sandbox.gitlab.build import PACKAGE
from tests.sandbox_tests import gitlab

COOKBOOKS = PACKAGE / "opt/gitlab/embedded/cookbooks"
PROGRAM = Path(gitlab.__path__[0]) / "handed_on.rb"


def handed_on(folder: Path, sign_in: dict[str, Any], part: str) -> subprocess.CompletedProcess[str]:
    """What the application gets of the section `signIn` of a stack file; `part` is the name of a cookbook."""
    settings = Settings.model_validate({"domain": "example.com", "adminCidrs": ["203.0.113.7/32"], "signIn": sign_in})
    text = gitlab_rb("gitlab.example.com", settings)
    for name, content in (("registry.rb", ""), ("slipway-secrets.json", json.dumps(settings.sign_in.secrets))):
        (folder / name).write_text(content)
        text = text.replace(f"/etc/gitlab/{name}", str(folder / name))
    assert not any(secret in text for secret in settings.sign_in.secrets.values())
    (folder / "gitlab.rb").write_text(text.replace("/etc/gitlab/ssl", str(folder)))
    return evaluated(folder, part)


def evaluated(folder: Path, part: str) -> subprocess.CompletedProcess[str]:
    """What the application gets of the gitlab.rb in a folder."""
    command: list[str | Path] = ["ruby", PROGRAM, COOKBOOKS, folder / "gitlab.rb", part]
    return subprocess.run(command, capture_output=True, text=True, check=False)
