"""The process of a plugin: how the engine starts, finds and stops it."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures

import grpc  # type: ignore[import-untyped]

CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
#: More than the engine asks for at once (its --parallel is 16 or four a core, whichever is more). Made when needed.
_THREADS = 128


def engine_address() -> str | None:
    """Address of the engine: the last argument, which only old engines leave out."""
    return sys.argv[-1] if len(sys.argv) > 1 and not sys.argv[-1].startswith("-") else None


def serve(add: Callable[[grpc.Server], None], end: Callable[[], None] = lambda: None) -> None:
    """Serve on a free loopback port, print it on standard output, and exit quietly on a signal, after `end`."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=_THREADS), options=CHANNEL_OPTIONS)
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def leave(*_: object) -> None:
        # At once, without a traceback: the engine shows whatever is printed now as a diagnostic.
        end()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    threading.Thread(target=_await_end, args=(os.getppid(), leave), daemon=True).start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    server.wait_for_termination()


def _await_end(parent: int, leave: Callable[[], None]) -> None:
    """An engine that was killed cannot end its plugins."""
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        leave()
        return
    select.select([descriptor], [], [])
    leave()
