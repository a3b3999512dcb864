"""Serves a provider to the Pulumi engine over gRPC, with concurrent requests."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, TypeVar

import grpc  # type: ignore[import-untyped]
from google.protobuf import any_pb2, empty_pb2, struct_pb2
from typing_extensions import override

from tests.sandbox.plugins.base.framework import (
    Call,
    Checker,
    Failure,
    PartlyMadeError,
    PluginError,
    Provider,
    Resource,
)
from tests.sandbox.plugins.base.process import CHANNEL_OPTIONS, engine_address, serve
from tests.sandbox.plugins.base.properties import UNKNOWN, Properties, Secret, decode, encode
from tests.sandbox.plugins.base.protocol import (
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

#: Inputs of a provider resource that are the engine's, not the provider's.
_ENGINE_CONFIG = frozenset({"version", "pluginDownloadURL"})
_SEVERITIES = {"debug": engine_pb2.DEBUG, "info": engine_pb2.INFO, "warning": engine_pb2.WARNING}

_Response = TypeVar("_Response")
_Handler = Callable[["Servicer", Any, grpc.ServicerContext], _Response]


class _Status(NamedTuple):
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def _reporting(handler: _Handler[_Response]) -> _Handler[_Response]:
    """Turn an error that is meant for the user into a status with only its message."""

    @functools.wraps(handler)
    def handle(self: Servicer, request: Any, context: grpc.ServicerContext) -> _Response:
        try:
            return handler(self, request, context)
        except PartlyMadeError as error:
            _abort_partly_made(context, error)
        except PluginError as error:
            _abort(context, str(error))

    return handle


def _abort(context: grpc.ServicerContext, message: str) -> NoReturn:
    context.abort(grpc.StatusCode.UNKNOWN, message)
    raise AssertionError("abort returned")


def _abort_partly_made(context: grpc.ServicerContext, error: PartlyMadeError) -> NoReturn:
    detail = any_pb2.Any()
    detail.Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=error.identifier, properties=encode(error.outputs), reasons=[str(error)]
        )
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error), details=[detail])
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    context.abort_with_status(_Status(grpc.StatusCode.UNKNOWN, str(error), metadata))
    raise AssertionError("abort returned")


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """One provider, as the engine sees it.

    Owns the session, the way to the engine's log, and the word that the user has stopped.
    """

    def __init__(self, provider: Provider, engine: str | None) -> None:
        self._provider = provider
        self._version = importlib.metadata.version(provider.distribution)
        self._session: Any = None
        self._cancelled = threading.Event()
        self._calls: set[int] = set()
        self._running: dict[int, Call] = {}
        self._lock = threading.Lock()
        self._engine: engine_pb2_grpc.EngineStub | None = None
        if engine:
            self._connect(engine)

    def _connect(self, address: str) -> None:
        self._engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address, options=CHANNEL_OPTIONS))

    @contextmanager
    def _call(self, request: Any) -> Iterator[Call]:
        """The call of a request, known for as long as it runs."""
        urn = getattr(request, "urn", "")

        def log(severity: str, message: str) -> None:
            if self._engine is not None:
                self._engine.Log(engine_pb2.LogRequest(severity=_SEVERITIES[severity], message=message, urn=urn))

        call = Call(
            session=self._session,
            urn=urn,
            name=urn.rpartition("::")[2],
            cancelled=self._cancelled,
            log=log,
            timeout=getattr(request, "timeout", 0.0),
        )
        with self._lock:
            self._running[id(call)] = call
        try:
            yield call
        finally:
            with self._lock:
                del self._running[id(call)]

    # The provider itself.

    @override
    def Handshake(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ProviderHandshakeResponse:
        """The engine's address, and what this plugin understands."""
        del context
        self._connect(request.engine_address)
        return provider_pb2.ProviderHandshakeResponse(supports_autonaming_configuration=True)

    @override
    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        """The version."""
        del request, context
        return plugin_pb2.PluginInfo(version=self._version)

    @override
    @_reporting
    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        """Refuses unknown configuration; passes the rest on as it is, with its secrets."""
        del context
        checker = Checker()
        checker.check(self._provider.config, _provider_config(decode(request.news)))
        return provider_pb2.CheckResponse(inputs=request.news, failures=_failures(checker.failures))

    @override
    @_reporting
    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        """Nothing in the configuration of these providers makes their resources other ones."""
        del context
        old = _provider_config(decode(request.old_inputs or request.olds))
        new = _provider_config(decode(request.news))
        changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        return provider_pb2.DiffResponse(changes=_changes(bool(changed)), diffs=changed)

    @override
    @_reporting
    def Configure(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ConfigureResponse:
        """Keeps the configuration; makes no call to the outside."""
        del context
        checker = Checker()
        config = checker.check(self._provider.config, _provider_config(decode(request.args)))
        if checker.failures:
            raise PluginError("; ".join(f"{failure.path}: {failure.reason}" for failure in checker.failures))
        self._session = self._provider.configure(config)
        return provider_pb2.ConfigureResponse(supportsPreview=True, supports_autonaming_configuration=True)

    @override
    @_reporting
    def Invoke(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.InvokeResponse:
        """Asks a function."""
        del context
        function = self._provider.function(request.tok)
        checker = Checker()
        inputs = checker.check(function.inputs, decode(request.args))
        if checker.failures:
            return provider_pb2.InvokeResponse(failures=_failures(checker.failures))
        with self._call(request) as call:
            answer = function.invoke(call, inputs)
        response = provider_pb2.InvokeResponse()
        getattr(response, "return").CopyFrom(encode(answer))
        return response

    @override
    def Cancel(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """Ends every wait and every running command."""
        del request, context
        self._cancelled.set()
        with self._lock:
            running = list(self._running.values())
        for call in running:
            for stop in list(call.on_cancel):
                stop()
        return empty_pb2.Empty()

    # Resources.

    @override
    @_reporting
    def Check(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        """Refuses what is wrong, fills in defaults and the name."""
        del context
        resource = self._provider.resource(_type_of(request.urn))
        inputs = decode(request.news)
        if resource.autoname and inputs.get("name") is None:
            inputs["name"] = decode(request.olds).get("name") or autoname(request)
        checker = Checker()
        checked = checker.check(resource.inputs, inputs)
        if not checker.failures:
            checker.failures.extend(resource.validate(checked))
        return provider_pb2.CheckResponse(inputs=encode(checked), failures=_failures(checker.failures))

    @override
    @_reporting
    def Diff(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        """What differs between the inputs before and the inputs now, and whether that needs a new resource."""
        del context
        resource = self._provider.resource(_type_of(request.urn))
        old, new = decode(request.old_inputs), decode(request.news)
        response = provider_pb2.DiffResponse(hasDetailedDiff=True)
        for name, replace in resource.differences(old, new):
            response.diffs.append(name)
            kind = "ADD" if old.get(name) is None else "DELETE" if new.get(name) is None else "UPDATE"
            if replace:
                response.replaces.append(name)
                kind += "_REPLACE"
            response.detailedDiff[name].kind = provider_pb2.PropertyDiff.Kind.Value(kind)
            response.detailedDiff[name].inputDiff = True
        response.changes = _changes(bool(response.diffs))
        response.deleteBeforeReplace = bool(response.replaces) and resource.deletes_before_replacing(new)
        return response

    @override
    @_reporting
    def Create(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        """Makes a resource; at preview only says what it will look like."""
        del context
        resource = self._provider.resource(_type_of(request.urn))
        inputs = decode(request.properties)
        if request.preview:
            outputs = dict.fromkeys(resource.outputs, UNKNOWN) | inputs
            return provider_pb2.CreateResponse(properties=encode(outputs))
        with self._call(request) as call:
            try:
                identifier, outputs = resource.create(call, inputs)
            except PartlyMadeError as error:
                error.outputs = _hidden(resource, error.outputs)
                raise
        return provider_pb2.CreateResponse(id=identifier, properties=_state(resource, inputs | outputs))

    @override
    @_reporting
    def Update(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        """Changes a resource in place; at preview only says what it will look like."""
        del context
        resource = self._provider.resource(_type_of(request.urn))
        old, inputs = decode(request.olds), decode(request.news)
        # An input that the program no longer gives stays as it is where the remote side owns it too.
        kept = {name: old[name] for name in (*resource.outputs, *_computed(resource)) if name in old}
        if request.preview:
            outputs = kept | inputs | dict.fromkeys(resource.unknown_during(old, inputs), UNKNOWN)
            return provider_pb2.UpdateResponse(properties=encode(outputs))
        with self._call(request) as call:
            outputs = resource.complete_or_update(call, request.id, old, inputs)
        return provider_pb2.UpdateResponse(properties=_state(resource, kept | inputs | outputs))

    @override
    @_reporting
    def Read(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
        """What is there now, for refresh and import; an empty answer if it is gone."""
        del context
        resource = self._provider.resource(_type_of(request.urn))
        old, old_inputs = decode(request.properties), decode(request.inputs)
        with self._call(request) as call:
            found = resource.read(call, request.id, old)
        if found is None:
            return provider_pb2.ReadResponse()
        identifier, observed = found
        inputs = resource.refreshed_inputs(old_inputs, observed) if old else resource.imported_inputs(observed)
        return provider_pb2.ReadResponse(
            id=identifier, properties=_state(resource, old | observed), inputs=encode(inputs)
        )

    @override
    @_reporting
    def Delete(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """Removes a resource."""
        del context
        resource = self._provider.resource(_type_of(request.urn))
        with self._call(request) as call:
            resource.delete(call, request.id, decode(request.properties))
        return empty_pb2.Empty()


def _type_of(urn: str) -> str:
    """The type in urn:pulumi:<stack>::<project>::<types from the outermost, $ between>::<name>."""
    return urn.split("::")[2].rpartition("$")[2]


def _provider_config(properties: Properties) -> Properties:
    """Configuration of a provider: the engine carries anything but strings as JSON."""
    config = {name: value for name, value in properties.items() if name not in _ENGINE_CONFIG}
    for name, value in config.items():
        if isinstance(value, str) and value[:1].isdigit():
            try:
                config[name] = json.loads(value)
            except ValueError:
                continue
    return config


def autoname(request: Any) -> str:
    """The name that the engine proposes, or `<logical name>-<7 hexadecimal digits>`."""
    modes = provider_pb2.CheckRequest.AutonamingOptions
    if request.HasField("autonaming"):
        if request.autonaming.mode == modes.DISABLE:
            raise PluginError("name: missing required property (automatic names are switched off)")
        if request.autonaming.proposed_name:
            return str(request.autonaming.proposed_name)
    seed = hashlib.sha256(bytes(request.randomSeed) + request.urn.encode()).hexdigest()
    return f"{request.urn.rpartition('::')[2]}-{seed[:7]}"


def _computed(resource: Resource) -> list[str]:
    return [name for name, spec in resource.inputs.items() if spec.computed]


def _hidden(resource: Resource, outputs: Mapping[str, Any]) -> Properties:
    hidden = resource.secret_outputs
    return {name: Secret(v) if name in hidden and v is not None else v for name, v in outputs.items()}


def _state(resource: Resource, outputs: Mapping[str, Any]) -> struct_pb2.Struct:
    return encode(_hidden(resource, outputs))


def _failures(failures: list[Failure]) -> list[provider_pb2.CheckFailure]:
    return [provider_pb2.CheckFailure(property=failure.path, reason=failure.reason) for failure in failures]


def _changes(some: bool) -> provider_pb2.DiffResponse.DiffChanges.ValueType:
    return provider_pb2.DiffResponse.DIFF_SOME if some else provider_pb2.DiffResponse.DIFF_NONE


def main(provider: Provider) -> None:
    """Run the plugin until the engine ends it."""
    servicer = Servicer(provider, engine_address())
    serve(lambda server: provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server))
