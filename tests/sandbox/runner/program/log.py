"""Log lines: a level, a message, then fields as `key=value`."""

from __future__ import annotations

import sys
import threading

_WIDTH = 50
_lock = threading.Lock()


class Fatal(SystemExit):
    """The command ends here, with exit code 1; the reason has been logged."""

    def __init__(self) -> None:
        super().__init__(1)


def info(message: str, **fields: object) -> None:
    """Log something that goes as it should."""
    _write("", message, fields)


def warning(message: str, **fields: object) -> None:
    """Log something that somebody should look at."""
    _write("WARNING: ", message, fields)


def error(message: str, **fields: object) -> None:
    """Log something that failed."""
    _write("ERROR: ", message, fields)


def fatal(message: str, **fields: object) -> Fatal:
    """Log why the command ends; for `raise`."""
    _write("FATAL: ", message, fields)
    return Fatal()


def panic(message: str, **fields: object) -> Fatal:
    """Log why the command ends; for `raise`. The level that `register` uses."""
    _write("PANIC: ", message, fields)
    return Fatal()


def _write(level: str, message: str, fields: dict[str, object]) -> None:
    text = level + message
    about = " ".join(f"{name.replace('_', '-')}={value}" for name, value in fields.items())
    with _lock:
        print(f"{text:<{_WIDTH}}  {about}" if about else text, file=sys.stderr, flush=True)
