"""Running a command on this terminal, as if it had been typed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence


def run_attached(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `command` on this terminal and return its exit code; 128+n if signal n ended it, 127 if it did not start.

    The terminal sends a key like Ctrl-C to the whole foreground group, so the command has it already; only a signal
    sent to this process alone is passed on. Otherwise one Ctrl-C would count as two, which some programs take as
    "do not even clean up".
    """
    passed = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, passed | {signal.SIGCHLD})
    try:
        return _run(command, environment, passed)
    finally:
        # What is still pending was meant for the command, which has ended.
        while signal.sigtimedwait(passed, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(command: Sequence[str], environment: Mapping[str, str], passed: set[signal.Signals]) -> int:
    unblock: Callable[[], object] = lambda: signal.pthread_sigmask(signal.SIG_SETMASK, ())  # noqa: E731
    try:
        process = subprocess.Popen(list(command), env=dict(environment), preexec_fn=unblock)  # noqa: PLW1509
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    while process.poll() is None:
        received = signal.sigwaitinfo(passed | {signal.SIGCHLD})
        if received.si_signo != signal.SIGCHLD and received.si_code <= 0:
            process.send_signal(received.si_signo)
    code: int = process.returncode
    return code if code >= 0 else 128 - code
