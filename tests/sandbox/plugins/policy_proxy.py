"""Stands between the engine and a policy pack, which has to be started with what the engine says only once it runs.

Does what `PolicyProxy` of Pulumi 3.259.0 does (`sdk/policy_proxy.go`): answers the handshake itself, keeps the request
that configures the stack until the pack is there, and hands everything else on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc  # type: ignore[import-untyped]
from typing_extensions import override

from tests.sandbox.plugins.base.process import CHANNEL_OPTIONS
from tests.sandbox.plugins.base.protocol import analyzer_pb2

_SERVICE = "/pulumirpc.Analyzer/"


class PolicyProxy(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves the engine on `port`; `configuration` is what it says about the stack, None if it asks something first."""

    def __init__(self) -> None:
        self._configured: futures.Future[analyzer_pb2.AnalyzerStackConfigureRequest | None] = futures.Future()
        self._pack: futures.Future[grpc.Channel] = futures.Future()
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=CHANNEL_OPTIONS)
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def configuration(self) -> analyzer_pb2.AnalyzerStackConfigureRequest | None:
        """Project, stack and settings; waits for them."""
        return self._configured.result()

    @property
    def attached(self) -> bool:
        """Whether the pack is there, or will never be."""
        return self._pack.done()

    def attach(self, port: int) -> None:
        """Hand on to the pack that serves on `port`."""
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS)
        if self.configuration is not None:
            _call(channel, f"{_SERVICE}ConfigureStack", self.configuration.SerializeToString())
        self._pack.set_result(channel)

    def close(self, reason: str) -> None:
        """End; whoever still waits for the pack is told why."""
        self._configure(None)
        if not self._pack.done():
            self._pack.set_exception(RuntimeError(f"policy pack not started: {reason}"))
        self._server.stop(grace=None)

    @override
    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        """How each method is answered, with messages as they are on the wire."""
        method = handler_call_details.method
        own: dict[str, Callable[[bytes, Any], bytes]] = {
            f"{_SERVICE}Handshake": lambda _request, _context: b"",
            f"{_SERVICE}ConfigureStack": self._configure_stack,
        }
        return grpc.unary_unary_rpc_method_handler(
            own.get(method, lambda request, context: self._hand_on(method, request, context))
        )

    def _configure_stack(self, request: bytes, _context: Any) -> bytes:
        self._configure(analyzer_pb2.AnalyzerStackConfigureRequest.FromString(request))
        return b""

    def _configure(self, configuration: analyzer_pb2.AnalyzerStackConfigureRequest | None) -> None:
        with self._lock:
            if not self._configured.done():
                self._configured.set_result(configuration)

    def _hand_on(self, method: str, request: bytes, context: Any) -> bytes:
        self._configure(None)
        try:
            return _call(self._pack.result(), method, request)
        except RuntimeError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        raise AssertionError("abort raises")


def _call(channel: grpc.Channel, method: str, request: bytes) -> bytes:
    answer: bytes = channel.unary_unary(method)(request)
    return answer
