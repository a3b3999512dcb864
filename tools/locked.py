"""Becomes a command while holding a lock: `python locked.py FILE COMMAND …`. Needs nothing but Python.

Of two that name the same file, the second one waits. The kernel releases the lock when the command, and what it
started, have ended.
"""

import fcntl
import os
import sys


def main() -> None:
    """Lock the file, then run the command in this process."""
    file, *command = sys.argv[1:]
    lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("[  env ] waiting for another process that does the same", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.set_inheritable(lock, True)
    os.execv(command[0], command)  # noqa: S606 - a shell would add nothing


if __name__ == "__main__":
    main()
