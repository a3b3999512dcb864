"""What a provider plugin is declared with: fields, resources, functions and a provider.

A resource is a table of its inputs plus four operations. Checks, defaults, names, diffs, replacement and the inputs
after a refresh follow from the table, as in the bridged Terraform providers that the plugins stand in for: leaving out
an input that the remote side fills in (`computed`) is no change, and a refresh changes only inputs that the program
gave.
"""

from __future__ import annotations

import abc
import enum
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.sandbox.plugins.base.properties import Asset, Properties, Unknown, has_unknown


class PluginError(Exception):
    """Something went wrong that the user can understand: only the message is shown."""


class PartlyMadeError(PluginError):
    """A resource exists but is not as it should be. The engine records it and sets it right in the next update."""

    def __init__(self, identifier: str, outputs: Properties, reason: str) -> None:
        super().__init__(reason)
        self.identifier = identifier
        self.outputs = outputs


@contextmanager
def made(identifier: str, outputs: Properties) -> Iterator[None]:
    """What is done once a resource exists: if it fails, the engine still learns of the resource.

    The official plugins set the ID before they go on, and what has an ID is recorded.

    Raises:
        PartlyMadeError: it failed.
    """
    try:
        yield
    except PluginError as error:
        raise PartlyMadeError(identifier, outputs, str(error)) from error


@dataclass(frozen=True)
class Failure:
    """An input that is wrong, and why."""

    path: str
    reason: str


class Kind(enum.Enum):
    """What a value may be."""

    STRING = "a string"
    INTEGER = "a whole number"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    LIST = "a list"
    MAP = "a map"
    ASSET = "an asset or an archive"
    ANY = "anything"


@dataclass(frozen=True)
class Field:
    """One input of a resource, of a function, or of a map inside one."""

    kind: Kind = Kind.STRING
    required: bool = False
    default: Any = None
    #: A change needs a new resource: always, or where the function of the old and the new value says so.
    replace: bool | Callable[[Any, Any], bool] = False
    #: The remote side fills it in: that the program leaves it out is no change.
    computed: bool = False
    #: The order of the items says nothing, in the lists inside it neither.
    unordered: bool = False
    choices: tuple[str, ...] = ()
    #: Two values with the same normal form are the same.
    normal: Callable[[Any], Any] | None = None
    #: The fields of a map, or of each map in a list. None: whatever it is.
    fields: Mapping[str, Field] | None = None
    #: The kind of the items of a list, or of the values of a map.
    items: Kind = Kind.ANY

    def same(self, one: Any, other: Any) -> bool:
        """Whether two values mean the same."""
        if has_unknown(one) or has_unknown(other):
            return False
        return bool(self._normal_form(one) == self._normal_form(other))

    def _normal_form(self, value: Any) -> Any:
        if value is not None and self.normal:
            value = self.normal(value)
        if value in ([], {}):
            # Nothing in it and not given are the same.
            return None
        return _sorted_within(value) if self.unordered else value

    def replaces(self, old: Any, new: Any) -> bool:
        """Whether this change needs a new resource."""
        return self.replace(old, new) if callable(self.replace) else self.replace


Fields = Mapping[str, Field]


def _sorted_within(value: Any) -> Any:
    match value:
        case dict():
            return {name: _sorted_within(item) for name, item in value.items() if item not in (None, [], "")}
        case list():
            return sorted((_sorted_within(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
        case _:
            return value


def _observed(spec: Field, given: Any, there: Any) -> Any:
    """What is there, as far as the program says something about it: the remote side may fill in the rest of a map."""
    if spec.fields is None or not (isinstance(given, dict) and isinstance(there, dict)):
        return there
    return {
        name: _observed(field, given.get(name), there[name])
        for name, field in spec.fields.items()
        if name in there and (name in given or not field.computed)
    }


_CLASSES: dict[Kind, tuple[type, ...]] = {
    Kind.STRING: (str,),
    Kind.INTEGER: (int,),
    Kind.NUMBER: (int, float),
    Kind.BOOLEAN: (bool,),
    Kind.LIST: (list,),
    Kind.MAP: (dict,),
    Kind.ASSET: (Asset,),
    Kind.ANY: (object,),
}


def _converted(kind: Kind, value: Any) -> Any:
    """A value that stands in the wrong simple type is converted, as the bridged providers do: an ID of a droplet is
    a string as a resource's id, and a number as another resource's input.
    """
    if kind is Kind.STRING and isinstance(value, bool):
        return "true" if value else "false"
    if kind is Kind.STRING and isinstance(value, int | float):
        return str(value)
    if kind is Kind.INTEGER and isinstance(value, str) and value.lstrip("-").isascii() and value.lstrip("-").isdigit():
        return int(value)
    if kind is Kind.BOOLEAN and value in ("true", "false"):
        return value == "true"
    return value


class Checker:
    """Checks values against fields; owns the list of what is wrong."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def check(self, fields: Fields, values: Properties, path: str = "") -> Properties:
        """The values with defaults filled in and simple types converted."""
        for name in values.keys() - fields.keys():
            known = ", ".join(sorted(fields))
            self._fail(path + name, f"unknown property; the sandbox's plugin supports {known}")
        checked = {}
        for name, spec in fields.items():
            value = values.get(name)
            if value is None:
                value = spec.default
            if value is not None:
                checked[name] = self._check_value(spec, value, path + name)
            elif spec.required:
                self._fail(path + name, "missing required property")
        return checked

    def _check_value(self, spec: Field, value: Any, path: str) -> Any:
        if isinstance(value, Unknown):
            return value
        value = self._check_kind(spec.kind, value, path)
        if spec.choices and value not in spec.choices:
            self._fail(path, f"expected one of {', '.join(spec.choices)}, got {value!r}")
        if isinstance(value, dict):
            if spec.fields is not None:
                return self.check(spec.fields, value, f"{path}.")
            return {name: self._check_kind(spec.items, item, f"{path}.{name}") for name, item in value.items()}
        if isinstance(value, list):
            return [self._check_item(spec, item, f"{path}[{place}]") for place, item in enumerate(value)]
        return value

    def _check_item(self, spec: Field, item: Any, path: str) -> Any:
        if spec.fields is not None and isinstance(item, dict):
            return self.check(spec.fields, item, f"{path}.")
        return self._check_kind(Kind.MAP if spec.fields is not None else spec.items, item, path)

    def _check_kind(self, kind: Kind, value: Any, path: str) -> Any:
        if isinstance(value, Unknown):
            return value
        value = _converted(kind, value)
        right = isinstance(value, _CLASSES[kind])
        if isinstance(value, bool) and kind in (Kind.INTEGER, Kind.NUMBER):
            right = False
        if not right:
            self._fail(path, f"expected {kind.value}, got {type(value).__name__}")
        return value

    def _fail(self, path: str, reason: str) -> None:
        self.failures.append(Failure(path, reason))


@dataclass
class Call:
    """One request of the engine: what an operation may know of the world around it.

    `cancelled` is set when the user stops the engine; every wait of an operation ends then.
    """

    session: Any
    urn: str
    name: str
    cancelled: threading.Event
    log: Callable[[str, str], None]
    #: Seconds that the operation may take; 0 leaves it to the resource.
    timeout: float = 0
    #: Called when the user stops the engine.
    on_cancel: list[Callable[[], None]] = field(default_factory=list)

    def wait_until(self, what: str, probe: Callable[[], bool], timeout: float = 600) -> None:
        """Ask until the answer is yes, at growing intervals (0.1 s to 2 s).

        Raises:
            PluginError: no yes within the operation's own timeout (s), or within `timeout`; or the user stopped.
        """
        limit = self.timeout or timeout
        end = time.monotonic() + limit
        pause = 0.1
        while not probe():
            if time.monotonic() > end:
                raise PluginError(f"timeout after {limit:g} s while waiting for {what}")
            if self.cancelled.wait(min(pause, 2.0)):
                raise PluginError(f"cancelled while waiting for {what}")
            pause *= 1.5


class Resource(abc.ABC):
    """A type of resource: a table of inputs and the operations."""

    full_name: ClassVar[str]
    inputs: ClassVar[Fields]
    #: Names of the outputs that are no inputs.
    outputs: ClassVar[tuple[str, ...]] = ()
    secret_outputs: ClassVar[frozenset[str]] = frozenset()
    #: Outputs that are not known before an update has run.
    changed_by_update: ClassVar[frozenset[str]] = frozenset()
    #: `name` is made from the logical name where the program leaves it out.
    autoname: ClassVar[bool] = False

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        """What is wrong beyond the table. Called only with inputs that fit the table; some may be unknown."""
        del inputs
        return ()

    @abc.abstractmethod
    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Make it. Returns its ID and outputs; inputs that are not among them are added."""

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        """What is there now, None if it is gone. An empty `state` means import: the ID is the user's."""
        del call
        if not state:
            raise PluginError(f"{self.full_name} cannot be imported with the sandbox's plugin")
        return identifier, state

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        """Change it in place. `old` is the state before: inputs and outputs. Returns the outputs."""
        del call, identifier, old
        raise PluginError(f"{self.full_name} cannot be changed in place: {', '.join(inputs)}")

    def complete_or_update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        """Update it. If nothing differs, the engine wants one completed that was partly made: it is read again."""
        found = None if any(True for _ in self.differences(old, inputs)) else self.read(call, identifier, old)
        return found[1] if found else self.update(call, identifier, old, inputs)

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        """Remove it; that it is gone already is no error."""
        del call, identifier, state

    def differences(self, old: Properties, new: Properties) -> Iterator[tuple[str, bool]]:
        """Names of inputs that differ, each with whether it needs a new resource."""
        for name, spec in self.inputs.items():
            before, after = old.get(name), new.get(name)
            if after is None and (before is None or spec.computed):
                continue
            if not spec.same(_observed(spec, after, before), after):
                yield name, spec.replaces(before, after)

    def deletes_before_replacing(self, inputs: Properties) -> bool:
        """Whether one that is replaced by one with these inputs has to go first."""
        del inputs
        return False

    def refreshed_inputs(self, old: Properties, state: Properties) -> Properties:
        """The inputs that would have made what is there now."""
        inputs = dict(old)
        for name in old.keys() & self.inputs.keys() & state.keys():
            observed = _observed(self.inputs[name], old[name], state[name])
            if not self.inputs[name].same(old[name], observed):
                inputs[name] = observed
        return inputs

    def unknown_during(self, old: Properties, inputs: Properties) -> Iterable[str]:
        """Outputs that are not known before this update has run."""
        del old, inputs
        return self.changed_by_update

    def imported_inputs(self, state: Properties) -> Properties:
        """The inputs that a program would give for something that was not made by Pulumi."""
        empty: tuple[Any, ...] = (None, "", [], {}, False)
        return {
            name: state[name]
            for name, spec in self.inputs.items()
            if name in state and (state[name] not in empty or state[name] == spec.default)
        }


class Function(abc.ABC):
    """Something that can be asked without making anything."""

    full_name: ClassVar[str]
    inputs: ClassVar[Fields] = {}

    @abc.abstractmethod
    def invoke(self, call: Call, inputs: Properties) -> Properties:
        """The answer."""


class Provider(abc.ABC):
    """A set of resources and functions behind one configuration."""

    name: ClassVar[str]
    #: Distribution of the SDK whose version the plugin carries.
    distribution: ClassVar[str]
    config: ClassVar[Fields] = {}
    resources: ClassVar[tuple[Resource, ...]]
    functions: ClassVar[tuple[Function, ...]] = ()

    def configure(self, config: Properties) -> Any:
        """The session that operations get; must make no call to the outside."""
        return config

    def resource(self, token: str) -> Resource:
        """The resource of a type.

        Raises:
            PluginError: the sandbox's plugin does not have it.
        """
        for resource in self.resources:
            if resource.full_name == token:
                return resource
        raise PluginError(self._missing("type", token, self.resources))

    def function(self, token: str) -> Function:
        """The function of a token.

        Raises:
            PluginError: the sandbox's plugin does not have it.
        """
        for function in self.functions:
            if function.full_name == token:
                return function
        raise PluginError(self._missing("function", token, self.functions))

    def _missing(self, what: str, token: str, known: Iterable[Resource | Function]) -> str:
        names = ", ".join(item.full_name for item in known) or "none"
        return f"the sandbox's {self.name} plugin does not support the {what} {token}; it supports: {names}"
