"""The log of a job: masked, stored, and sent to the server in pieces while the job runs."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import log
from .coordinator import RANGE_MISMATCH, Coordinator, Reply, UnreachableError
from .payload import Payload

INTERVAL = 3.0
#: Seconds without news after which the server is notified that the job is still running.
KEEP_ALIVE = 30.0
#: The longest log, in bytes, unless the configuration says otherwise.
LIMIT = 4096 * 1024
MASK = b"[MASKED]"
_TOKEN_BODY = rb"[A-Za-z0-9_.=-]{10,}"
#: So much of a token must have been seen before it is known to be one.
_LONGEST_START = 40
GREEN, YELLOW, RED, BOLD, RESET = "\x1b[32;1m", "\x1b[0;33m", "\x1b[31;1m", "\x1b[0K\x1b[36;1m", "\x1b[0;m"


@dataclass
class Masker:
    """Replaces secrets in a stream. Holds back the end of what came in, for it may be the beginning of a secret."""

    secrets: Sequence[str] = field(repr=False)
    prefixes: Sequence[str] = ()
    _held: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        words = [re.escape(secret.encode()) for secret in self.secrets]
        starts = b"|".join(re.escape(prefix.encode()) for prefix in self.prefixes if prefix)
        words += [b"(?P<start>" + starts + b")" + _TOKEN_BODY] if starts else []
        self._pattern = re.compile(b"|".join(words)) if words else None
        self._reach = max([len(secret.encode()) for secret in self.secrets] + [_LONGEST_START] * bool(starts) + [1]) - 1

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """What can be shown by now."""
        text = self._held + data
        # No secret holds a line end, so what stands before the last one is complete.
        safe = len(text) if last else max(text.rfind(b"\n") + 1, len(text) - self._reach)
        if self._pattern is None:
            shown, self._held = text[:safe], text[safe:]
            return shown
        for found in self._pattern.finditer(text):
            # Not through the middle of a secret; and one at the very end may go on.
            if not last and (found.start() < safe < found.end() or found.end() == len(text)):
                safe = min(safe, found.start())
        self._held = text[safe:]
        return self._pattern.sub(_masked, text[:safe])


def _masked(found: re.Match[bytes]) -> bytes:
    return (found.groupdict().get("start") or b"") + MASK


class Trace:
    """The log of one job and the thread that sends it.

    `on_status` is called with every answer's view of the job (`running`, `canceling`, `canceled`, `failed`, …).
    """

    def __init__(
        self,
        coordinator: Coordinator,
        payload: Payload,
        masker: Masker,
        on_status: Callable[[str], None],
        limit: int = LIMIT,
    ) -> None:
        self._coordinator, self._payload, self._masker = coordinator, payload, masker
        self._on_status, self._limit = on_status, limit
        self._content, self._sent = bytearray(), 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._interval, self._told = INTERVAL, time.monotonic()
        self._cut = False
        self._thread = threading.Thread(target=self._send_regularly, name=f"trace-{payload.id}", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Add to the log."""
        with self._lock:
            shown = self._masker.feed(data, last=last)
            room = self._limit - len(self._content)
            self._content += shown[: max(room, 0)]
            if len(shown) > room and not self._cut:
                self._cut = True
                text = (
                    f"\n{YELLOW}Job's log exceeded limit of {self._limit} bytes.\nJob execution will continue but no "
                )
                self._content += (text + f"more output will be collected.{RESET}\n").encode()

    def line(self, text: str, colour: str = "") -> None:
        """Add a line of the runner's own."""
        self.write(f"{colour}{text}{RESET if colour else ''}\n".encode())

    def section(self, name: str, title: str) -> Section:
        """A part of the log with a title; a context."""
        return Section(self, name, title, marked=bool(self._payload.features.get("trace_sections")))

    def finish(self, state: str, *, exit_code: int = 0, reason: str = "") -> None:
        """Send the rest, then say how the job ended; patiently, for both must arrive."""
        self._ended.set()
        self._thread.join()
        self.write(b"", last=True)
        for _ in range(50):
            try:
                if not self._send_rest():
                    return
                content = bytes(self._content)
                reply = self._coordinator.update_job(
                    self._payload.id, self._payload.token, state, content, exit_code=exit_code, reason=reason
                )
            except UnreachableError as error:
                log.warning("Submitting job to coordinator... failed", job=self._payload.id, status=error)
                time.sleep(self._interval)
                continue
            if reply.status == 412:  # the server has not got the log as it is: all of it again
                self._sent = 0
                continue
            if reply.status == 202:  # accepted, the log is still being stored
                time.sleep(reply.interval or 1)
                continue
            write = log.info if reply.status == 200 else log.warning
            write(f"Submitting job to coordinator... {reply.text}", job=self._payload.id, job_status=reply.job_status)
            if reply.status < 500:  # what is refused stays refused
                return
            time.sleep(self._interval)

    def _send_regularly(self) -> None:
        while not self._ended.wait(self._interval):
            try:
                self._send_rest()
                if time.monotonic() - self._told > KEEP_ALIVE:
                    content = bytes(self._content)
                    self._heard(self._coordinator.update_job(self._payload.id, self._payload.token, "running", content))
            except UnreachableError as error:
                log.warning("Appending trace to coordinator... failed", job=self._payload.id, status=error)

    def _send_rest(self) -> bool:
        """Send what has not been sent. False when the server no longer wants it."""
        while True:
            with self._lock:
                piece, start = bytes(self._content[self._sent : self._sent + 2**20]), self._sent
            if not piece:
                return True
            reply = self._coordinator.append_trace(self._payload.id, self._payload.token, piece, start)
            if reply.status == RANGE_MISMATCH:
                self._sent = int(reply.headers.get("Range", "0-0").rpartition("-")[2] or 0)
                continue
            if reply.status == 202:  # accepted
                self._sent = start + len(piece)
                self._heard(reply)
                continue
            log.warning(f"Appending trace to coordinator... {reply.text}", job=self._payload.id)
            self._heard(reply)
            return reply.status >= 500  # the server may be back soon

    def _heard(self, reply: Reply) -> None:
        self._told = time.monotonic()
        self._interval = reply.interval or self._interval
        status = reply.job_status or ("failed" if reply.status in (403, 404) else "")
        if status:
            self._on_status(status)


class Section:
    """A part of the log between two marks that a page can fold."""

    def __init__(self, trace: Trace, name: str, title: str, *, marked: bool) -> None:
        self._trace, self._name, self._title, self._marked = trace, name, title, marked

    def __enter__(self) -> Section:
        if self._marked:
            self._trace.write(f"section_start:{int(time.time())}:{self._name}\r\x1b[0K".encode())
        self._trace.line(self._title, BOLD)
        return self

    def __exit__(self, *_: object) -> None:
        if self._marked:
            self._trace.write(f"section_end:{int(time.time())}:{self._name}\r\x1b[0K".encode())
