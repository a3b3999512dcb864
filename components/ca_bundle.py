"""The file of trusted certificates that the `gitlab` provider reads on the machine that runs Pulumi."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Final

from components.trust import bundle

#: Relative, because it is recorded in the state: another checkout has the file at the same place once the program ran
#: there. Providers run in the project's folder, as the program does.
_FOLDER: Final = Path(".cache", "ca")


def ca_bundle(ca_certificate: str | None) -> str | None:
    """Write the certificates that GitLab's may descend from to a file, and return its path; None if no file is needed.

    The provider trusts nothing but its `cacert_file` if it has one, so this machine's own roots are part of it: the
    private authority of the settings may have issued something else than GitLab's certificate. The name depends on
    `ca_certificate` alone. `refresh` and `destroy` do not run the program: in a new checkout, `preview` writes it.
    """
    if not ca_certificate:
        return None
    file = _FOLDER / f"{hashlib.sha256(ca_certificate.encode()).hexdigest()[:12]}.pem"
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as new:
        new.write(bundle(ca_certificate))
    Path(new.name).replace(file)
    return file.as_posix()
