"""The table of stack files that are refused or accepted, each read as Pulumi reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.settings import SettingsError, load
from components.settings.secrets import encrypted_config
from tests.unit.engine import as_config, project_defaults

CASES = yaml.safe_load(Path(__file__).with_name("stack_file_cases.yaml").read_text(encoding="utf-8"))
TOKEN = {"DIGITALOCEAN_TOKEN": "dop_v1_of_a_unit_test"}
BUCKET = {"bucket": "images", "accessKey": "a", "secretKey": {"secure": "b"}}
OPEN = {"value": "in the open", "masked": False}
ADMINISTRATOR = {"domain": "example.test", "adminCidrs": ["203.0.113.7/32"]}


def decrypted(value: Any) -> Any:
    """What Pulumi passes to a program for a value of a stack file."""
    if isinstance(value, dict):
        return value["secure"] if value.keys() == {"secure"} else {key: decrypted(one) for key, one in value.items()}
    return [decrypted(one) for one in value] if isinstance(value, list) else value


def has_secrets(value: Any) -> bool:
    if isinstance(value, dict):
        return "secure" in value or any(map(has_secrets, value.values()))
    return isinstance(value, list) and any(map(has_secrets, value))


def errors(given: Mapping[str, Any], folder: Path) -> list[str]:
    """Write a stack file, read it as Pulumi does, and return the errors of its settings."""
    written = {**ADMINISTRATOR, **given}
    (folder / "Pulumi.yaml").write_text("{name: slipway, stackConfigDir: stacks}")
    (folder / "stacks").mkdir()
    file = folder / "stacks" / "Pulumi.test.yaml"
    file.write_text(yaml.safe_dump({"config": {f"slipway:{key}": value for key, value in written.items()}}))
    config = as_config({**project_defaults(), **{key: decrypted(value) for key, value in written.items()}})
    encrypted = [f"slipway:{key}" for key, value in written.items() if has_secrets(value)]
    try:
        load("slipway", "test", config, encrypted, TOKEN, stack_file=encrypted_config(folder, "slipway", "test"))
    except SettingsError as error:
        return error.errors
    return []


def plain_values(value: Any) -> Iterator[str]:
    """Values of variables in a fragment, whether they are encrypted or not."""
    if isinstance(value, dict):
        if isinstance(value.get("value"), str):
            yield value["value"]
        for one in value.values():
            yield from plain_values(one)
    elif isinstance(value, list):
        for one in value:
            yield from plain_values(one)


@pytest.mark.parametrize("case", [case for case in CASES if "refused" in case], ids=lambda case: str(case["name"]))
def test_a_refused_stack_file_is_refused_with_the_key_and_a_way_out(case: dict[str, Any], tmp_path: Path) -> None:
    [line] = errors(case["given"], tmp_path)
    path, _, message = line.partition(": ")
    assert path == case["refused"]
    what, consequence = message.split("; ", 1)
    assert what
    assert ". " in consequence
    assert not [value for value in plain_values(decrypted(case["given"])) if len(value) > 1 and value in line]


@pytest.mark.parametrize("case", [case for case in CASES if "refused" not in case], ids=lambda case: str(case["name"]))
def test_an_accepted_stack_file_has_no_error(case: dict[str, Any], tmp_path: Path) -> None:
    assert errors(case["given"], tmp_path) == []


def test_without_the_stack_file_a_whole_key_in_plain_text_is_still_refused(tmp_path: Path) -> None:
    given = {"projects": [{"path": "hello", "variables": {"A": {"value": "example-a"}}}], "runners": [{}]}
    config = as_config({**project_defaults(), **ADMINISTRATOR, **given})
    file = encrypted_config(tmp_path, "slipway", "elsewhere")
    with pytest.raises(SettingsError, match=r"projects\[0\]\.variables\.A\.value: is in plain text"):
        load("slipway", "elsewhere", config, [], TOKEN, stack_file=file)
    assert load("slipway", "elsewhere", config, ["slipway:projects"], TOKEN, stack_file=file).projects


@pytest.mark.parametrize("content", [None, "", "config: [", "config: 5", "- 1"])
def test_a_stack_file_that_pulumi_did_not_read_tells_nothing(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "Pulumi.test.yaml").write_text(content)
    assert encrypted_config(tmp_path, "slipway", "test") == {}


def test_a_stack_file_lies_beside_the_project_file_unless_that_names_a_folder(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.test.yaml").write_text("config: {slipway:domain: example.test, other:domain: x}")
    assert encrypted_config(tmp_path, "slipway", "test") == {"domain": "example.test"}


def test_errors_in_several_sections_are_reported_together(tmp_path: Path) -> None:
    given = {"domain": "nowhere", "region": "nyc1", "adminCidrs": ["0.0.0.0/0"], "server.size": "x"}
    assert [line.split(":")[0] for line in errors(given, tmp_path)] == [
        "server.size",
        "domain",
        "adminCidrs",
        "registry.spacesRegion",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"registry": {"storage": "filesystem", "spacesRegion": "nyc3", "s3": BUCKET}},
            ["registry: has spacesRegion", "registry: has a section s3"],
        ),
        (
            {"certificate": {"source": "provided", "acmeStaging": True, "acmeDirectory": "https://ca.example.test/d"}},
            ["certificate: has source provided without", "certificate: has both", "certificate: has acmeDirectory"],
        ),
        (
            {"projects": [{"path": "a", "runners": [], "importId": "1", "sample": True, "provenance": True,
                           "cleanup": False, "keepTags": "x", "extraStages": [{"name": "b", "script": ["c"]}]}]},
            [f"projects[0]: has {key}" for key in ("keepImages or keepTags", "sample", "extraStages", "provenance")],
        ),
        (
            {"runners": [{}], "projects": [{"path": "a", "variables": {"CI": OPEN, "1A": OPEN}}]},
            ["projects[0].variables: CI is set by", "projects[0].variables: 1A is not"],
        ),
        (
            {"runners": [{}], "projects": [{"path": "a", "keepTags": "(?=x" + "y" * 255}]},
            [f"projects[0].keepTags: {what}" for what in ("(?=x", "(?=x", "has 259 characters")],
        ),
    ],
)  # fmt: skip
def test_everything_that_is_wrong_with_one_section_is_reported_at_once(
    given: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    found = [line for line in errors(given, tmp_path) if not line.startswith("runners")]
    assert len(found) == len(expected), found
    assert [line for line, start in zip(found, expected, strict=True) if not line.startswith(start)] == []


def test_a_machine_whose_name_linux_would_refuse_is_refused() -> None:
    given = {"projects": [{"path": "hello", "runners": ["r" * 40]}], "runners": [{"name": "r" * 40}]}
    config = as_config({**project_defaults(), **ADMINISTRATOR, **given})
    assert load("slipway", "p" * 12, config, [], TOKEN).runners
    with pytest.raises(SettingsError, match=r"runners\[0\]\.name: r+ is too long beside the stack's name"):
        load("slipway", "p" * 13, config, [], TOKEN)
