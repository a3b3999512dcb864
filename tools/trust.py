"""A file of trusted authorities, for libraries that accept no context: GitLab's client, and `boto3`."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

from components.trust import bundle
from tools.environment import ROOT

_FOLDER: Final = ROOT / ".cache/ca"


def trusted_file(ca_certificate: str | None, *variables: str) -> str:
    """Return the path of a file with this machine's authorities and, beside them, `ca_certificate`, which is PEM.

    Without one, a file that the user has named for the library is used instead, in one of the environment variables
    `variables`: the first that is set.

    Raises:
        OSError: the file cannot be written.
    """
    named = next(filter(None, map(os.environ.get, variables)), None)
    if named and not ca_certificate:
        return named
    text = bundle(ca_certificate)
    file = _FOLDER / f"trusted-{hashlib.sha256(text.encode()).hexdigest()[:12]}.pem"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as new:
            new.write(text)
        Path(new.name).replace(file)
    return str(file)
