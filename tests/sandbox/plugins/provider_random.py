"""Provider `random`: passwords, strings, IDs, bytes, UUIDs and integers, kept in the state until the keepers change."""

from __future__ import annotations

import base64
import secrets
import string
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Failure, Field, Fields, Kind, PluginError, Provider, Resource
from tests.sandbox.plugins.base.properties import Properties, Unknown
from tests.sandbox.plugins.base.server import main

_SPECIAL = "!@#$%&*()-_=+[]{}<>:?"
_KEEPERS = Field(Kind.MAP, items=Kind.STRING, replace=True)
_LENGTH = Field(Kind.INTEGER, required=True, replace=True)
_CLASSES = ("lower", "upper", "numeric", "special")


def _minimum(name: str) -> str:
    return f"min{name.capitalize()}"


class _Characters(Resource):
    """Random characters, at least so many of each class. Any change makes new ones."""

    inputs: ClassVar[Fields] = {
        "keepers": _KEEPERS,
        "length": _LENGTH,
        "overrideSpecial": Field(replace=True),
        **{name: Field(Kind.BOOLEAN, default=True, replace=True) for name in _CLASSES},
        **{_minimum(name): Field(Kind.INTEGER, default=0, replace=True) for name in _CLASSES},
    }
    outputs = ("result", "number")

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        if any(isinstance(value, Unknown) for value in inputs.values()):
            return
        if inputs["length"] < max(1, sum(inputs[_minimum(name)] for name in _CLASSES)):
            yield Failure("length", "must be at least 1 and at least the sum of the minimums")
        if not any(inputs[name] for name in _CLASSES):
            yield Failure("lower", "at least one class of characters must be allowed")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        del call
        classes = {
            "lower": string.ascii_lowercase,
            "upper": string.ascii_uppercase,
            "numeric": string.digits,
            "special": inputs.get("overrideSpecial") or _SPECIAL,
        }
        characters = [secrets.choice(classes[name]) for name in _CLASSES for _ in range(inputs[_minimum(name)])]
        every = "".join(classes[name] for name in _CLASSES if inputs[name])
        characters += [secrets.choice(every) for _ in range(inputs["length"] - len(characters))]
        secrets.SystemRandom().shuffle(characters)
        result = "".join(characters)
        return self.identifier(result), {"result": result, "number": inputs["numeric"]}

    def identifier(self, result: str) -> str:
        """ID of the resource, which is shown to everybody."""
        return result


class RandomString(_Characters):
    """Random characters that are no secret."""

    full_name = "random:index/randomString:RandomString"


class RandomPassword(_Characters):
    """Random characters that are a secret. `bcryptHash` stays empty."""

    full_name = "random:index/randomPassword:RandomPassword"
    secret_outputs = frozenset({"result"})

    def identifier(self, result: str) -> str:
        del result
        return "none"


class RandomId(Resource):
    """Random bytes that are no secret, in four ways of writing."""

    full_name = "random:index/randomId:RandomId"
    inputs: ClassVar[Fields] = {"keepers": _KEEPERS, "byteLength": _LENGTH, "prefix": Field(replace=True)}
    outputs = ("b64Std", "b64Url", "dec", "hex")

    def validate(self, inputs: Properties) -> Iterator[Failure]:
        return _at_least_one(inputs, "byteLength")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        del call
        value = secrets.token_bytes(inputs["byteLength"])
        return _in_base64(value), self._written(value, inputs.get("prefix", ""))

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del call
        if state:
            return identifier, state
        prefix, _, url = identifier.rpartition(",")
        try:
            value = base64.b64decode(url + "=" * (-len(url) % 4), altchars=b"-_", validate=True)
        except ValueError as error:
            raise PluginError(f"Import Random ID Error: {error}") from error
        given = {"prefix": prefix} if prefix else {}
        return _in_base64(value), {"byteLength": len(value), **given, **self._written(value, prefix)}

    def _written(self, value: bytes, prefix: str) -> Properties:
        return {
            "b64Std": prefix + base64.b64encode(value).decode(),
            "b64Url": prefix + _in_base64(value),
            "dec": f"{prefix}{int.from_bytes(value, 'big')}",
            "hex": prefix + value.hex(),
        }


class RandomBytes(Resource):
    """Random bytes that are a secret."""

    full_name = "random:index/randomBytes:RandomBytes"
    inputs: ClassVar[Fields] = {"keepers": _KEEPERS, "length": _LENGTH}
    outputs = ("base64", "hex")
    secret_outputs = frozenset({"base64", "hex"})

    def validate(self, inputs: Properties) -> Iterator[Failure]:
        return _at_least_one(inputs, "length")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        del call
        value = secrets.token_bytes(inputs["length"])
        return "none", {"base64": base64.b64encode(value).decode(), "hex": value.hex()}


class RandomUuid(Resource):
    """A random UUID, version 4."""

    full_name = "random:index/randomUuid:RandomUuid"
    inputs: ClassVar[Fields] = {"keepers": _KEEPERS}
    outputs = ("result",)

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        del call, inputs
        result = str(uuid.uuid4())
        return result, {"result": result}


class RandomInteger(Resource):
    """A random integer between two others, both included. A seed is refused."""

    full_name = "random:index/randomInteger:RandomInteger"
    inputs: ClassVar[Fields] = {"keepers": _KEEPERS, "min": replace(_LENGTH), "max": replace(_LENGTH)}
    outputs = ("result",)

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        del call
        result = inputs["min"] + secrets.randbelow(inputs["max"] - inputs["min"] + 1)
        return str(result), {"result": result}


def _in_base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _at_least_one(inputs: Properties, name: str) -> Iterator[Failure]:
    if not isinstance(inputs[name], Unknown) and inputs[name] < 1:
        yield Failure(name, "must be at least 1")


class Random(Provider):
    """The provider; it needs no configuration."""

    name = "random"
    distribution = "pulumi-random"
    resources = (RandomPassword(), RandomString(), RandomId(), RandomBytes(), RandomUuid(), RandomInteger())


if __name__ == "__main__":
    main(Random())
