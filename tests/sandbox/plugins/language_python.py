"""Language host for Python: runs the program in this process, with the interpreter that it was installed with.

The engine asks a language host which plugins a program needs, then to run it. This one reports none, so the engine
looks for a plugin only when a resource needs it, among the installed ones.
"""

from __future__ import annotations

import importlib.metadata
import os
import runpy
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pulumi
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2
from typing_extensions import override

from tests.sandbox.plugins.base.process import engine_address, serve

_ROOT = str(Path(__file__).resolve().parents[3])


class LanguageHost(LanguageServer):
    """The SDK's own server for inline programs, taught to run a program from a folder."""

    def __init__(self, engine: str) -> None:
        super().__init__(self._run_program)
        self._engine = engine
        self._program = Path()

    @override
    def Handshake(self, request: Any, context: grpc.ServicerContext) -> language_pb2.LanguageHandshakeResponse:
        """The engine's address."""
        del context
        self._engine = request.engine_address or self._engine
        return language_pb2.LanguageHandshakeResponse()

    @override
    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        """The version: that of the SDK."""
        del request, context
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    @override
    def InstallDependencies(
        self, request: Any, context: grpc.ServicerContext
    ) -> Iterator[language_pb2.InstallDependenciesResponse]:
        """Nothing: the program's packages are installed together with the plugin."""
        del request, context
        return iter(())

    @override
    def GetProgramDependencies(
        self, request: Any, context: grpc.ServicerContext
    ) -> language_pb2.GetProgramDependenciesResponse:
        """None that it knows of."""
        del request, context
        return language_pb2.GetProgramDependenciesResponse()

    @override
    def Run(self, request: Any, context: grpc.ServicerContext) -> language_pb2.RunResponse:
        """Run the program. The log already has the error, so the engine learns only that there was one."""
        info = request.info
        entry = Path(info.program_directory) / (info.entry_point or ".")
        self._program = entry / "__main__.py" if entry.is_dir() else entry
        del request.args[:]
        request.args.append(self._engine)
        # For the whole run: callbacks of outputs run, and may import, after the program's last line.
        with _program_environment(self._program):
            response: language_pb2.RunResponse = super().Run(request, context)  # type: ignore[no-untyped-call]
        return language_pb2.RunResponse(bail=True) if response.error else response

    def _run_program(self) -> None:
        try:
            runpy.run_path(str(self._program), run_name="__main__")
        except pulumi.RunError:
            raise
        except Exception as error:  # the boundary to the user's program
            raise pulumi.RunError(f"Program failed with an unhandled exception:\n{_traceback(error)}") from error


def _traceback(error: Exception) -> str:
    """The traceback from the program's first line on."""
    frames = traceback.TracebackException.from_exception(error)
    ours = (__file__, runpy.__file__)
    inner = [place for place, frame in enumerate(frames.stack) if frame.filename not in (*ours, "<frozen runpy>")]
    del frames.stack[: inner[0] if inner else 0]
    return "".join(frames.format()).rstrip()


@contextmanager
def _program_environment(program: Path) -> Iterator[None]:
    """What a program sees when its own interpreter runs it: its folder first, nothing of this checkout's path."""
    folder = str(program.parent)
    before_path, before_argv = list(sys.path), list(sys.argv)
    sys.path[:] = [folder, *(entry for entry in sys.path if entry != _ROOT)]
    sys.argv[:] = [str(program)]
    try:
        yield
    finally:
        sys.path[:], sys.argv[:] = before_path, before_argv


def _forget_own_path() -> None:
    """Take this checkout, which the launcher put first, out of what child processes inherit."""
    rest = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != _ROOT]
    os.environ.pop("PYTHONPATH", None)
    if rest:
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)


if __name__ == "__main__":
    _forget_own_path()
    host = LanguageHost(engine_address() or "")
    serve(lambda server: language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server))
