"""A recording engine: it creates nothing and records every registration and call of a program."""

from __future__ import annotations

import asyncio
import inspect
import json
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import pulumi
import yaml
from google.protobuf import empty_pb2, json_format
from pulumi.runtime import config, mocks, rpc, settings
from pulumi.runtime.proto import engine_pb2, resource_pb2, source_pb2
from pulumi.runtime.stack import run_in_stack

from tests.sandbox.digitalocean.models import database_catalog
from tests.sandbox.digitalocean.models.catalog import REGION_FEATURES, REGIONS, Catalog, Size
from tests.unit.engine_answers import Hold, RefusedCall, computed

ROOT = Path(__file__).resolve().parents[2]

#: The settings without a default, so that a test only names the settings that it is about.
REQUIRED = {"domain": "example.test", "adminCidrs": ["192.0.2.10/32"]}

#: What marks a secret on the wire.
ENVELOPE = "4dabf18193072939515e22adb298388d"

#: Sections with secrets, which have to be encrypted.
ENCRYPTED = [f"slipway:{key}" for key in ("alerts", "certificate", "gitlab", "registry", "signIn", "smtp")]

_STACK = "pulumi:pulumi:Stack"
#: The lists of the API that the program reads itself: their paths, and their names in the answers.
_LISTS = {
    "/v2/account/keys": "ssh_keys",
    "/v2/databases": "databases",
    "/v2/domains": "domains",
    "/v2/firewalls": "firewalls",
    "/v2/kubernetes/clusters": "kubernetes_clusters",
    "/v2/reserved_ips": "reserved_ips",
    "/v2/spaces/keys": "keys",
    "/v2/volumes": "volumes",
    "/v2/vpcs": "vpcs",
}

#: What DigitalOcean offers of Kubernetes.
KUBERNETES: dict[str, Any] = {
    "versions": [
        {"slug": f"{minor}.{patch}-do.{build}", "kubernetes_version": f"{minor}.{patch}"}
        for minor, patch, build in (("1.35", 6, 1), ("1.36", 3, 0), ("1.34", 10, 2))
    ],
    "sizes": [{"slug": slug, "name": slug} for slug in ("s-1vcpu-2gb", "s-2vcpu-4gb", "s-4vcpu-8gb")],
    "regions": [{"slug": slug, "name": slug} for slug in ("nyc3", "fra1")],
}

#: What it offers of databases.
DATABASES: dict[str, Any] = {
    engine: {
        "regions": list(database_catalog.REGIONS),
        "versions": list(database_catalog.VERSIONS[engine]),
        "layouts": [
            {
                "num_nodes": nodes,
                "sizes": [size.slug for size in database_catalog.SIZES.values() if nodes in size.layouts],
            }
            for nodes in (1, 2, 3)
        ],
    }
    for engine in database_catalog.VERSIONS
}

#: Once no task has ended for this long, those that remain wait for something that will not come.
_SETTLED_SECONDS = 0.2

#: One for all runs: the SDK keeps references to the first loop that it uses.
_LOOP = asyncio.new_event_loop()
# The error that ends a program is raised; nobody asks for those of everything that depended on it.
_LOOP.set_exception_handler(
    lambda loop, found: None if "was never retrieved" in found["message"] else loop.default_exception_handler(found)
)


@dataclass(frozen=True)
class Registration:
    """One resource that the program registered: its resolved inputs, and the request as it was sent."""

    urn: str
    type: str
    name: str
    inputs: dict[str, Any]
    request: resource_pb2.RegisterResourceRequest

    @property
    def is_provider(self) -> bool:
        """Whether it is a provider, which makes nothing in the account."""
        return self.type.startswith("pulumi:providers:")

    @property
    def depends_on(self) -> set[str]:
        """Logical names of all resources that this one depends on."""
        return {urn.rsplit("::", 1)[1] for urn in self.request.dependencies}

    @property
    def needs(self) -> set[str]:
        """URNs of everything that it declares to need: dependencies, provider, and what it is deleted with."""
        provider = self.request.provider.rpartition("::")[0]
        return {*self.request.dependencies, provider, self.request.deletedWith} - {""}

    @property
    def deleted_with(self) -> str:
        """Logical name of the resource that this one is deleted with, or nothing."""
        return self.request.deletedWith.rsplit("::", 1)[-1]

    @property
    def parent(self) -> str:
        """Logical name of the parent."""
        return self.request.parent.rsplit("::", 1)[-1]


@dataclass
class RecordingEngine(mocks.Mocks):
    """Answers registrations as the real services would, and records them in order."""

    registrations: list[Registration] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent_outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    previous_outputs: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    hold: Hold | None = None
    hooks: dict[str, pulumi.ResourceHook] = field(default_factory=dict)
    error_hooks: dict[str, pulumi.ErrorHook] = field(default_factory=dict)
    #: What the API answers, by function; a `RefusedCall` is an error. Everything else is in good order.
    answers: dict[str, dict[str, Any] | RefusedCall] = field(default_factory=dict)
    #: What the API lists, by path; an error is raised. Every other list is empty.
    listed: dict[str, Any] = field(default_factory=dict)
    #: The lists of packages by their URLs; every other one cannot be reached.
    packages: dict[str, bytes] = field(default_factory=dict)
    #: What the control panel says that the token may do; None if it cannot be reached.
    scopes: frozenset[str] | None = None
    #: What it lists instead if only one name is asked for.
    filtered: dict[str, Any] = field(default_factory=dict)
    #: The resources in the state, with their outputs by URN.
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Properties of every project that is imported.
    existing: dict[str, Any] = field(default_factory=lambda: {"defaultBranch": "master"})

    def register_resource_hook(self, hook: pulumi.ResourceHook) -> None:
        """Record a function that the engine would call before or after an operation."""
        self.hooks[hook.name] = hook

    def register_error_hook(self, hook: pulumi.ErrorHook) -> None:
        """Record a function that the engine would call after an operation that has failed."""
        self.error_hooks[hook.name] = hook

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """Give a resource the outputs that its service computes."""
        noun = args.typ.rsplit(":", 1)[1]
        number = {"Droplet": "4711", "Group": "70", "Project": "42", "UserRunner": "7"}.get(noun, f"id-of-{args.name}")
        existing = self.existing if noun == "Project" and args.resource_id else {}
        return number, {**args.inputs, **existing, **computed(args)}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        """Record a function call and answer with its arguments."""
        if args.token.endswith(":readStackOutputs"):
            return {"name": args.args["name"], "outputs": self.previous_outputs}, []
        if args.token.endswith(":readStackResourceOutputs"):
            return {"outputs": {urn: {"outputs": outputs} for urn, outputs in self.known.items()}}, []
        self.calls.append((args.token, dict(args.args)))
        function = args.token.rsplit(":", 1)[1]
        answer = self.answers.get(function, account_of(function, dict(args.args)))
        if isinstance(answer, RefusedCall):
            raise answer
        if answer is not None:
            return answer, []
        if args.token.endswith(":getGroups"):
            found = {
                path: number for path, number in self.groups.items() if args.args["search"].lower() in path.lower()
            }
            return {"groups": [{"fullPath": path, "groupId": number} for path, number in found.items()]}, []
        return dict(args.args), []

    def request(self, path: str) -> Any:
        """Answer a GET of the API."""
        plain = path.partition("?")[0]
        answer = self.listed.get(plain, [])
        if "name=" in path:
            answer = self.filtered.get(plain, answer)
        if isinstance(answer, Exception):
            raise answer
        if plain == "/v2/kubernetes/options":
            return {"options": answer or KUBERNETES}
        if plain == "/v2/databases/options":
            return {"options": answer or DATABASES}
        if plain.endswith("/upgrades"):
            return {"available_upgrade_versions": answer or None}
        if path == "/v2/account":
            return {"account": answer or {"reserved_ip_limit": 3}}
        return {_LISTS[path.partition("?")[0]]: answer, "links": {}}

    def fetch(self, url: str, _: str | None = None) -> bytes:
        """Answer the request for a list of packages."""
        if url not in self.packages:
            raise OSError(url)
        return self.packages[url]

    @property
    def is_new(self) -> bool:
        """Whether the stack has never been updated: then there is no state to read."""
        return not (self.known or self.previous_outputs)

    def of_type(self, suffix: str) -> list[Registration]:
        """Registrations whose type token ends with `suffix`."""
        return [one for one in self.registrations if one.type.endswith(suffix)]

    @property
    def custom(self) -> list[Registration]:
        """Registrations of all resources that are not components."""
        return [one for one in self.registrations if one.request.custom]

    def named(self, name: str) -> Registration:
        """The registration of that logical name."""
        return next(one for one in self.registrations if one.name == name)

    def script(self, name: str) -> str:
        """Standard input of the remote command of that name."""
        return str(self.named(name).inputs["stdin"])

    @property
    def exports(self) -> dict[str, Any]:
        """Outputs of the stack."""
        return self.outputs["slipway-test"]


class _RecordingMonitor(mocks.MockMonitor):
    """The engine's side of the wire."""

    def __init__(self, engine: RecordingEngine) -> None:
        super().__init__(engine)
        self._engine = engine

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """The URN that the real engine gives: with the types of all ancestors, but for the stack's."""
        ancestors = parent.split("::")[2] if parent else _STACK
        chain = type_ if ancestors == _STACK else f"{ancestors}${type_}"
        return f"urn:pulumi:test::slipway::{chain}::{name}"

    def RegisterResource(  # noqa: N802 - the name is the protocol's
        self, request: resource_pb2.RegisterResourceRequest
    ) -> resource_pb2.RegisterResourceResponse:
        inputs = _plain(rpc.deserialize_properties(request.object))
        urn = self.make_urn(request.parent, request.type, request.name)
        self._engine.registrations.append(Registration(urn, request.type, request.name, inputs, request))
        if self._engine.hold:
            self._engine.hold.note(urn)
        if self._engine.is_new and request.type == "pulumi:providers:digitalocean":
            for name in request.hooks.before_create:
                hook = self._engine.hooks[name].callback
                # Nothing is waited for here.
                if not inspect.iscoroutinefunction(hook):
                    hook(_creation(urn))
        return super().RegisterResource(request)  # type: ignore[no-any-return, no-untyped-call]

    def RegisterResourceOutputs(  # noqa: N802
        self, request: resource_pb2.RegisterResourceOutputsRequest
    ) -> empty_pb2.Empty:
        name = request.urn.rsplit("::", 1)[1]
        self._engine.sent_outputs[name] = json_format.MessageToDict(request.outputs)
        self._engine.outputs[name] = _plain(rpc.deserialize_properties(request.outputs, keep_unknowns=True))
        return empty_pb2.Empty()


class _RecordingLog(mocks.MockEngine):
    """Records what the program reports: warnings and errors, and separately everything else."""

    def __init__(self, engine: RecordingEngine) -> None:
        super().__init__(None)
        self._engine = engine

    def Log(self, request: engine_pb2.LogRequest) -> None:  # noqa: N802
        important = request.severity >= engine_pb2.WARNING
        (self._engine.messages if important else self._engine.notes).append(request.message)


def run_program(
    previous_outputs: dict[str, Any] | None = None,
    existing_groups: dict[str, int] | None = None,
    hold: Hold | None = None,
    engine: RecordingEngine | None = None,
    dry_run: bool = False,
    *,
    program: Callable[[], None] | None = None,
    **changes: Any,
) -> RecordingEngine:
    """Run the whole program, or another one, as the engine would, with the required settings and `changes`.

    A caller that expects an error passes an `engine`, to see what was registered all the same.
    """
    engine = engine or RecordingEngine()
    engine.previous_outputs, engine.groups, engine.hold = previous_outputs or {}, existing_groups or {}, hold
    monitor = _RecordingMonitor(engine)
    features = monitor.GetDeploymentInfo(empty_pb2.Empty())  # type: ignore[no-untyped-call]
    settings.configure(
        mocks.MockSettings(  # type: ignore[no-untyped-call]
            monitor=monitor,
            monitor_features=set(features.supportedFeatures),
            engine=_RecordingLog(engine),
            callbacks=engine,
            project="slipway",
            stack="test",
            dry_run=dry_run,
            organization="organization",
        )
    )
    settings.set_root_resource(None)  # type: ignore[arg-type]
    settings_of_stack = as_config({**project_defaults(), **REQUIRED, **changes})
    config.set_all_config(settings_of_stack, ENCRYPTED)
    try:
        with (
            mock.patch("components.api.request", engine.request),
            mock.patch("components.api.token_scopes", return_value=engine.scopes),
            mock.patch("components.package_index.fetch", engine.fetch),
            # Where in the program a resource stands is of no interest here, and costs a quarter of a run.
            mock.patch("pulumi.runtime.resource._get_stack_trace", source_pb2.StackTrace),
        ):
            _LOOP.run_until_complete(run_in_stack(program or _program))
    finally:
        _finish_tasks()
    return engine


def _creation(urn: str) -> pulumi.ResourceHookArgs:
    return pulumi.ResourceHookArgs(urn=urn, id="", name="", type="", new_inputs={})


def _finish_tasks() -> None:
    """Let registrations that a failed program has begun complete, and cancel tasks that wait for an answer for ever."""
    while tasks := asyncio.all_tasks(_LOOP):
        done, waiting = _LOOP.run_until_complete(asyncio.wait(tasks, timeout=_SETTLED_SECONDS))
        if not done:
            for task in waiting:
                task.cancel()
            _LOOP.run_until_complete(asyncio.wait(waiting))
    settings.SETTINGS.outputs.clear()


def _program() -> None:
    # The program is the last thing that its process does. This one goes on, and is not to keep what every run leaves.
    with mock.patch("gc.freeze"):
        runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")


@cache
def project_defaults() -> Mapping[str, Any]:
    """The defaults that `Pulumi.yaml` declares, as the engine passes them on."""
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    return MappingProxyType({key: value["default"] for key, value in declared.items() if "default" in value})


def stack_file(name: str) -> dict[str, Any]:
    """The settings of a stack file, as arguments of `run_program`."""
    declared = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{name}.yaml").read_text())["config"]
    return {key.removeprefix("slipway:"): value for key, value in declared.items()}


def as_config(values: Mapping[str, Any]) -> dict[str, str]:
    """Settings in the form of Pulumi's flat configuration."""
    return {f"slipway:{key}": value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def account_of(function: str, asked: dict[str, Any]) -> dict[str, Any] | RefusedCall | None:
    """An account that has nothing yet and offers everything; None for functions that are not about an account."""
    everywhere = [region.slug for region in REGIONS if region.available]
    if function == "getVpc":
        return RefusedCall(f"unable to find default VPC, and no VPCs found with name {asked.get('name')}")
    answers: dict[str, dict[str, Any]] = {
        "getAccount": {
            "email": "ops@example.test",
            "emailVerified": True,
            "dropletLimit": 25,
            "status": "active",
            "statusMessage": "",
        },
        "getRegions": {
            "regions": [
                {"slug": one.slug, "available": one.available, "features": list(REGION_FEATURES)} for one in REGIONS
            ]
        },
        "getSizes": {"sizes": [_size(size) for size in Catalog(()).sizes.values()]},
        "getImage": {"slug": asked.get("slug"), "regions": everywhere, "minDiskSize": 7},
        "getDroplets": {"droplets": []},
        "getRecords": {"records": []},
        "getReservedIp": {"region": ""},
        "getDatabaseCa": {
            "id": "ca",
            "clusterId": asked.get("clusterId"),
            "certificate": "CERTIFICATE OF THE AUTHORITY",
        },
    }
    return answers.get(function)


def _size(size: Size) -> dict[str, Any]:
    return {
        "slug": size.slug,
        "available": True,
        "vcpus": size.vcpus,
        "disk": size.disk,
        "memory": size.memory,
        "priceMonthly": size.price_monthly,
        "regions": list(size.regions),
    }


def _plain(inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs without the envelopes of secrets; the request shows which of them are secret."""
    return {key: rpc.unwrap_rpc_secret(value) for key, value in inputs.items()}
