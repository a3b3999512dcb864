"""Property values: converts between the engine's gRPC messages and plain Python values.

Secrets are unwrapped on the way in: the plugins declare that they do not accept secrets, so the engine tracks them and
marks what comes back. The signatures are those of Pulumi's SDKs (`pulumi.runtime.rpc`), which take too long to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import struct_pb2

Properties = dict[str, Any]

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_ASSET: Final = "c44067f5952c0a294b673a41bacd8c17"
_ARCHIVE: Final = "0def7320c3a5731c473e5ecbe6d01bc7"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105
_RESOURCE: Final = "5cf8f73096256a8f31e491e813e4eb8e"
_OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
#: How an unknown value is written.
_UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


class Unknown:
    """A value that is not known before the update has run. Equal to nothing, not even to itself."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class Secret:
    """Marks an output as secret on its way to the engine."""

    value: Any

    def __repr__(self) -> str:
        return "<secret>"


@dataclass(frozen=True)
class Asset:
    """A file, a text or an archive; two are the same if their contents are."""

    archive: bool
    fields: Mapping[str, Any]

    @property
    def hash(self) -> str | None:
        """SHA-256 of the contents, as the engine computed it."""
        value = self.fields.get("hash")
        return None if value is None else str(value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Asset) or self.archive != other.archive:
            return False
        return self.hash == other.hash if self.hash else dict(self.fields) == dict(other.fields)

    __hash__ = None  # type: ignore[assignment]


def decode(struct: struct_pb2.Struct) -> Properties:
    """The properties of a message."""
    return {name: _decode_value(value) for name, value in struct.fields.items()}


def _decode_value(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return UNKNOWN if value.string_value == _UNKNOWN else value.string_value
        case "number_value":
            return int(value.number_value) if value.number_value.is_integer() else value.number_value
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_decode_value(item) for item in value.list_value.values]
        case "struct_value":
            return _decode_map(decode(value.struct_value))
        case _:
            return None


def _decode_map(fields: Properties) -> Any:
    match fields.get(_SIGNATURE):
        case None:
            return fields
        case signature if signature == _SECRET:
            return fields.get("value")
        case signature if signature == _OUTPUT:
            return fields.get("value", UNKNOWN)
        case signature if signature == _RESOURCE:
            return fields.get("id") or UNKNOWN
        case signature if signature in (_ASSET, _ARCHIVE):
            return Asset(signature == _ARCHIVE, fields)
        case signature:
            raise ValueError(f"a property value has the signature {signature}, which these plugins do not know")


def encode(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """The message of some properties; those that are None are left out."""
    struct = struct_pb2.Struct()
    struct.update({name: _encode_value(value) for name, value in properties.items() if value is not None})
    return struct


def _encode_value(value: Any) -> Any:
    match value:
        case Unknown():
            return _UNKNOWN
        case Secret():
            return {_SIGNATURE: _SECRET, "value": _encode_value(value.value)}
        case Asset():
            return dict(value.fields)
        case Mapping():
            return {name: _encode_value(item) for name, item in value.items()}
        case list() | tuple():
            return [_encode_value(item) for item in value]
        case _:
            return value


def has_unknown(value: Any) -> bool:
    """Whether a value is unknown, or has something unknown in it."""
    match value:
        case Unknown():
            return True
        case Mapping():
            return any(has_unknown(item) for item in value.values())
        case list() | tuple():
            return any(has_unknown(item) for item in value)
        case _:
            return False
