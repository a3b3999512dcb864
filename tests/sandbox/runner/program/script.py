"""The scripts that job containers run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

#: What the real program does as well: the best shell that the image has reads the script.
DETECT_SHELL = (
    "for shell in /usr/local/bin/bash /usr/bin/bash /bin/bash /usr/local/bin/sh /usr/bin/sh /bin/sh /busybox/sh; do "
    'if [ -x "$shell" ]; then exec "$shell" "$0"; fi; done; echo shell not found; exit 1'
)
_HEAD = """if set -o | grep pipefail > /dev/null; then set -o pipefail; fi; set -o errexit
set +o noclobber
"""


def script(project: str, commands: Sequence[str], *, before: str = "", after: str = "") -> str:
    """A script that shows every command, then runs it, and ends at the first one that fails."""
    lines = [_HEAD, f"cd {shlex.quote(project)}", before]
    for command in commands:
        lines += [f"printf '%s\\n' {shlex.quote(_shown(command))}", command]
    return "\n".join([*lines, after, "exit 0", ""])


def _shown(command: str) -> str:
    first, _, rest = command.strip("\n").partition("\n")
    more = " # collapsed multi-line command" if rest.strip() else ""
    return f"\x1b[32;1m$ {first}{more}\x1b[0;m"
