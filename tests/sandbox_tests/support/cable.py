"""A page's end of GitLab's `/-/cable`, over an independent client of WebSockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import websocket

#: What Rails' own client offers.
PROTOCOLS = ["actioncable-v1-json", "actioncable-unsupported"]
STATUS = "subscription Status($id: CiPipelineID!) { ciPipelineStatusUpdated(pipelineId: $id) { id status } }"


@dataclass(frozen=True)
class Cable:
    """A connection, and what it says, without the signs of life."""

    socket: websocket.WebSocket

    def next(self) -> dict[str, Any]:
        """The next message.

        Raises:
            AssertionError: there is none for half a minute.
        """
        for _ in range(10):
            found: dict[str, Any] = json.loads(self.socket.recv())
            if found.get("type") != "ping":
                return found
        raise AssertionError("nothing but signs of life")

    def subscribe(self, query: str, **more: Any) -> str:
        """Ask over the channel; returns the name that answers have."""
        identifier = json.dumps({"channel": "GraphqlChannel", "query": query, **more})
        self.socket.send(json.dumps({"command": "subscribe", "identifier": identifier}))
        return identifier

    def watch_status(self, pipeline: int) -> str:
        """Ask for news of a pipeline."""
        return self.subscribe(STATUS, variables={"id": f"gid://gitlab/Ci::Pipeline/{pipeline}"}, operationName="Status")


@contextmanager
def opened(address: str, **more: Any) -> Iterator[Cable]:
    """A connection under an address such as a browser has it; the page that opens it is of the same address."""
    options = {"origin": address, "subprotocols": PROTOCOLS, "timeout": 20, **more}
    socket = websocket.create_connection(f"{address.replace('http', 'ws', 1)}/-/cable", **options)
    try:
        yield Cable(socket)
    finally:
        end(socket)


def end(socket: websocket.WebSocket) -> None:
    """Close a connection, also one that the other side has closed: the client leaves its socket open then."""
    socket.close()
    socket.shutdown()  # type: ignore[no-untyped-call]


def refused(address: str, **more: Any) -> tuple[int, str]:
    """The status and the text of an answer to a handshake that fails."""
    with pytest.raises(websocket.WebSocketBadStatusException) as caught, opened(address, **more):
        pass
    return caught.value.status_code, bytes(caught.value.resp_body or b"").decode()
