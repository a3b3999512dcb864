"""Language host for Python: prepares the program's environment, says which plugins it needs, and runs it there.

Answers the engine as the official host of Pulumi 3.259.0 does (`sdk/python/cmd/pulumi-language-python`), with the tool
chain `pip` only. What an engine asks while it deploys a program is here; the rest, such as generating code, is not.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import json_format
from typing_extensions import override

from tests.sandbox.plugins.base.process import engine_address, serve
from tests.sandbox.plugins.base.protocol import language_pb2, language_pb2_grpc, plugin_pb2
from tests.sandbox.plugins.policy_proxy import PolicyProxy
from tests.sandbox.plugins.toolchain import Pip, ToolchainError

_ROOT = str(Path(__file__).resolve().parents[3])
_EXEC = Path(__file__).with_name("language_python_exec.py")
#: Exit code of a program whose error has been shown completely.
_REPORTED = 32


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Serves one engine; each program runs in a process of its own."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._running: set[subprocess.Popen[bytes]] = set()

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
        """`pulumi install`: the virtual environment, and `requirements.txt` in it."""
        with _reported(context):
            toolchain = _toolchain(request.info)
            yield language_pb2.InstallDependenciesResponse(stdout=b"Installing dependencies...\n\n")
            for part in toolchain.install(Path(request.info.program_directory)):
                yield language_pb2.InstallDependenciesResponse(stdout=part)
            yield language_pb2.InstallDependenciesResponse(stdout=b"Finished installing dependencies\n\n")

    @override
    def GetRequiredPackages(
        self, request: Any, context: grpc.ServicerContext
    ) -> language_pb2.GetRequiredPackagesResponse:
        """The provider of each SDK in the environment, which is made first if it is missing."""
        with _reported(context):
            toolchain = _toolchain(request.info)
            for _ in toolchain.ensure(Path(request.info.program_directory)):
                pass
            found = (_dependency(one) for one in toolchain.packages())
            return language_pb2.GetRequiredPackagesResponse(packages=[one for one in found if one])

    @override
    def GetProgramDependencies(
        self, request: Any, context: grpc.ServicerContext
    ) -> language_pb2.GetProgramDependenciesResponse:
        """All packages of the environment."""
        with _reported(context):
            listed = _toolchain(request.info).packages()
        found = [language_pb2.DependencyInfo(name=one["name"], version=one["version"]) for one in listed]
        return language_pb2.GetProgramDependenciesResponse(dependencies=found)

    @override
    def Run(self, request: Any, context: grpc.ServicerContext) -> language_pb2.RunResponse:
        """Run the program in its environment, and wait for its end."""
        with _reported(context):
            toolchain = _toolchain(request.info)
            toolchain.validate()
        environment = toolchain.environment() | {
            "PULUMI_CONFIG": json.dumps(dict(request.config)),
            "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
        }
        # -P: nothing that is beside the script can be imported by the program.
        command = [toolchain.python, "-P", str(_EXEC), *_arguments(request, self._engine)]
        process = subprocess.Popen(command, env=environment)
        self._running.add(process)
        code = process.wait()
        self._running.discard(process)
        if code == _REPORTED:
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse(error=f"program exited with non-zero exit code: {code}" if code else "")

    @override
    def RunPlugin(self, request: Any, context: grpc.ServicerContext) -> Iterator[language_pb2.RunPluginResponse]:
        """Run a policy pack or a package of components in its environment, and pass on what it prints until it ends."""
        if request.kind not in ("analyzer", "resource"):
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the sandbox runs no {request.kind} plugins from source")
        with _reported(context):
            toolchain = _toolchain(request.info)
            toolchain.validate()
        if request.kind == "resource":
            environment = toolchain.environment() | dict(one.split("=", 1) for one in request.env)
            command = [toolchain.python, "-u", request.info.program_directory, *request.args]
            with self._started(command, request.pwd, environment, context) as process:
                assert process.stdout is not None
                yield from (language_pb2.RunPluginResponse(stdout=line) for line in process.stdout)
                yield language_pb2.RunPluginResponse(exitcode=process.wait())
            return
        proxy = PolicyProxy()
        context.add_callback(lambda: proxy.close("the engine has ended"))
        yield language_pb2.RunPluginResponse(stdout=f"{proxy.port}\n".encode())
        environment = toolchain.environment() | _stack_environment(proxy.configuration)
        environment |= dict(one.split("=", 1) for one in request.env)
        program = request.info.program_directory
        command = [toolchain.python, "-u", "-m", "pulumi.policy", *request.args, program]
        with self._started(command, program, environment, context) as process:
            yield from _output_of(process, proxy)
            yield language_pb2.RunPluginResponse(exitcode=process.wait())

    @contextmanager
    def _started(
        self, command: list[str], folder: str, environment: dict[str, str], context: grpc.ServicerContext
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A plugin, which is terminated when the engine hangs up."""
        process = subprocess.Popen(command, cwd=folder or None, env=environment, stdout=subprocess.PIPE)
        context.add_callback(process.terminate)
        self._running.add(process)
        try:
            yield process
        finally:
            self._running.discard(process)

    def end(self) -> None:
        """End what is running."""
        for process in [*self._running]:
            process.terminate()


@contextmanager
def _reported(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except ToolchainError as error:
        context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _toolchain(info: Any) -> Pip:
    return Pip.of(info.root_directory, json_format.MessageToDict(info.options))


def _arguments(request: Any, engine: str) -> Iterator[str]:
    values = {
        "monitor": request.monitor_address,
        "engine": engine,
        "project": request.project,
        "root_directory": request.info.root_directory,
        "stack": request.stack,
        "pwd": request.pwd,
        "dry_run": str(request.dryRun).lower(),
        "parallel": str(request.parallel),
        "organization": request.organization,
    }
    for name, value in values.items():
        if value:
            yield from (f"--{name}", value)
    yield from (request.info.entry_point, *request.args)


def _stack_environment(configuration: Any) -> dict[str, str]:
    """What a policy pack learns of its stack from its environment."""
    if configuration is None:
        return {}
    named = {
        "PULUMI_ORGANIZATION": configuration.organization,
        "PULUMI_PROJECT": configuration.project,
        "PULUMI_STACK": configuration.stack,
        "PULUMI_DRY_RUN": str(configuration.dry_run).lower(),
        "PULUMI_CONFIG": json.dumps(dict(configuration.config)),
    }
    return {name: value for name, value in named.items() if value}


def _output_of(process: subprocess.Popen[bytes], proxy: PolicyProxy) -> Iterator[language_pb2.RunPluginResponse]:
    """What a policy pack prints. The number of its port comes first, unless it fails."""
    assert process.stdout is not None
    for line in process.stdout:
        if not proxy.attached and line.strip().isdigit():
            proxy.attach(int(line))
        else:
            yield language_pb2.RunPluginResponse(stdout=line)
    proxy.close("it has ended (see above)")


def _dependency(package: dict[str, str]) -> plugin_pb2.PackageDependency | None:
    """The plugin of a provider's SDK. Every SDK of a provider says it in a file; other packages have none."""
    if not package["plugin"]:
        return None
    described = json.loads(Path(package["plugin"]).read_text())
    if not described.get("resource"):
        return None
    version = described.get("version") or package["version"]
    return plugin_pb2.PackageDependency(
        name=described.get("name") or package["name"].removeprefix("pulumi-"),
        kind="resource",
        version=f"v{version.removeprefix('v')}",
        server=described.get("server", ""),
    )


def _forget_own_path() -> None:
    """Take this checkout, which the launcher put first, out of what child processes inherit."""
    rest = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != _ROOT]
    os.environ.pop("PYTHONPATH", None)
    if rest:
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)


if __name__ == "__main__":
    _forget_own_path()
    host = LanguageHost(engine_address() or "")
    serve(lambda server: language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server), host.end)
