"""The schema of the package, from which the SDKs of other languages are made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pulumi
import pytest

from components.settings import Settings, SettingsError
from components.settings.errors import secret_paths
from package.provider import Provider
from package.registry_bucket import RegistryBucket
from package.slipway import Slipway, _merged, _outputs_in


@pytest.fixture(scope="module")
def schema() -> Any:
    return json.loads(Provider([RegistryBucket, Slipway], "slipway").schema or "")


def arguments(schema: Any) -> Any:
    """The arguments of a whole installation."""
    return schema["resources"]["slipway:index:Slipway"]["inputProperties"]


def test_the_arguments_are_the_settings_with_their_descriptions(schema: Any) -> None:
    found = {key: one["description"] for key, one in arguments(schema).items()}
    assert found == {field.alias: field.description for field in Settings.model_fields.values()}
    assert schema["resources"]["slipway:index:Slipway"]["requiredInputs"] == ["adminCidrs", "domain"]


def test_arguments_are_plain_and_typed(schema: Any) -> None:
    server = schema["types"]["slipway:index:Server"]["properties"]
    assert server["volumeSizeGb"] | {"description": ""} == {"type": "integer", "plain": True, "description": ""}
    projects = arguments(schema)["projects"]
    assert projects["items"]["$ref"] == "#/types/slipway:index:Project"
    visibility = schema["types"]["slipway:index:Project"]["properties"]["visibility"]
    assert visibility["type"] == "string"


def test_no_argument_is_a_secret(schema: Any) -> None:
    for path in secret_paths(Settings):
        place = {"properties": arguments(schema)}
        for key in path:
            if key != "*" and key in place["properties"]:
                place = next(types_in(place["properties"][key], schema), {"properties": {}})
                assert key != path[-1]


def types_in(one: Mapping[str, Any], schema: Any) -> Iterator[Any]:
    """The type of sections that a property holds, in a list or by names, too."""
    if "$ref" in one:
        yield schema["types"].get(one["$ref"].removeprefix("#/types/"), {"properties": {}})
    for key in ("items", "additionalProperties"):
        if key in one:
            yield from types_in(one[key], schema)


def test_configuration_joins_the_arguments_in_sections_and_lists() -> None:
    args = {"projects": [{"path": "hello"}, {"path": "shop"}], "smtp": {"address": "mail.example.test"}}
    secrets = {"projects": [None, {"variables": {"TOKEN": {"value": "it"}}}], "smtp": {"password": "it, too"}}
    assert _merged(args, secrets) == {
        "projects": [{"path": "hello"}, {"path": "shop", "variables": {"TOKEN": {"value": "it"}}}],
        "smtp": {"address": "mail.example.test", "password": "it, too"},
    }


def test_configuration_wins_over_an_argument() -> None:
    assert _merged({"region": "fra1", "server": 1}, {"region": "nyc3"}) == {"region": "nyc3", "server": 1}


async def test_an_argument_that_is_an_output_is_refused_at_its_place() -> None:
    args = {"domain": "example.test", "projects": [{"variables": {"A": {"value": pulumi.Output.secret("it")}}}]}
    [error] = _outputs_in(args)
    assert error["property_path"] == "projects[0].variables.A.value"
    assert "config set --secret --path projects[0].variables.A.value" in error["reason"]


def test_a_secret_among_the_arguments_is_refused_without_its_value() -> None:
    args = {"domain": "example.test", "adminCidrs": ["192.0.2.10/32"], "smtp": {"password": "everyone-may-read-it"}}
    with pytest.raises(SettingsError) as caught:
        Slipway("whole", args)
    [line] = caught.value.errors
    assert line.startswith("smtp.password: is in plain text in the program; ")
    assert "everyone-may-read-it" not in line
