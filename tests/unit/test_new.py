"""The stack file of a new environment: asked for, checked, written once."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.settings import load
from tests.unit.engine import ROOT, as_config, project_defaults
from tools.new import new
from tools.progress import ToolError

ANSWERS = ["domain=qa.acme.io", "adminCidrs=198.51.100.0/24, 192.0.2.1/32"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "stacks", tmp_path / "stacks")
    return tmp_path


def documented() -> list[str]:
    """The commands of the page for a new environment."""
    text = (ROOT / "docs/environments.md").read_text().partition("## A new environment")[2].partition("\n## ")[0]
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def written(file: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(file.read_text())["config"]
    return {key.removeprefix("slipway:"): value for key, value in config.items()}


def uncommented(file: Path) -> dict[str, Any]:
    """All keys of a file that was written, those with a default as well."""
    lines = [line for line in file.read_text().splitlines() if "…" not in line]
    keys = [line.replace("# ", "", 1) if "# slipway:" in line or line.startswith("  #   ") else line for line in lines]
    path = file.with_suffix(".all")
    path.write_text("\n".join(keys))
    return written(path)


def test_a_new_file_has_the_answers_and_every_other_key_with_its_default_in_a_comment(checkout: Path) -> None:
    file = new("qa", [*ANSWERS, "server.volumeSizeGb=20"], force=False, ask=None, folder=checkout)
    assert file == checkout / "stacks" / "Pulumi.qa.yaml"
    assert written(file) == {
        "domain": "qa.acme.io",
        "adminCidrs": ["198.51.100.0/24", "192.0.2.1/32"],
        "server": {"volumeSizeGb": 20},
    }
    everything = uncommented(file)
    assert everything.keys() == project_defaults().keys() - {"pulumi:disable-default-providers"}
    # A mail server has no defaults for its address and sender.
    assert everything.pop("smtp")["port"] == 2525
    config = as_config({**project_defaults(), **everything})
    assert load("slipway", "qa", config, [], {"DIGITALOCEAN_TOKEN": "x"}).hostname == "gitlab"


def test_what_is_described_comes_from_the_settings_model(checkout: Path) -> None:
    text = " ".join(new("qa", ANSWERS, force=False, ask=None, folder=checkout).read_text().replace("#", "").split())
    described = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    for key, declared in described.items():
        assert " ".join(declared.get("description", "").split()) in text, key


def test_what_has_no_default_is_asked_for_and_nothing_else(checkout: Path) -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question.splitlines()[-1])
        return {"domain": "qa.acme.io", "adminCidrs": "192.0.2.1/32"}[asked[-1]]

    new("qa", [], force=False, ask=ask, folder=checkout)
    assert asked == ["domain", "adminCidrs"]


def test_without_a_terminal_everything_that_is_missing_is_named_at_once(checkout: Path) -> None:
    with pytest.raises(ToolError, match=r"domain, adminCidrs: no value; .* --set domain=… --set adminCidrs=…"):
        new("qa", [], force=False, ask=None, folder=checkout)
    assert not (checkout / "stacks" / "Pulumi.qa.yaml").exists()


@pytest.mark.parametrize(
    ("stack", "answer", "reason"),
    [
        ("qa", "server.size=huge", "server.size: is not a size"),
        ("qa", "sever.size=s-2vcpu-4gb", "sever: is not a setting"),
        ("qa", "adminCidrs=0.0.0.0/0", "adminCidrs: 0.0.0.0/0 is a large part of the internet"),
        ("qa", "certificate.privateKey=secret", "certificate.privateKey"),
        ("QA", "region=fra1", "stack: QA cannot be part of the names"),
        ("qa", "region", "'region' is not a setting and its value"),
    ],
)
def test_what_the_program_would_refuse_is_refused_before_anything_is_written(
    checkout: Path, stack: str, answer: str, reason: str
) -> None:
    with pytest.raises(ToolError) as caught:
        new(stack, [*ANSWERS, answer], force=False, ask=None, folder=checkout)
    assert reason in str(caught.value)
    assert not (checkout / "stacks" / f"Pulumi.{stack}.yaml").exists()


def test_a_file_that_exists_is_not_overwritten_unless_asked(checkout: Path) -> None:
    file = new("qa", ANSWERS, force=False, ask=None, folder=checkout)
    before = file.read_text()
    with pytest.raises(ToolError, match=r"stacks/Pulumi\.qa\.yaml exists"):
        new("qa", ["domain=other.acme.io", "adminCidrs=192.0.2.1/32"], force=False, ask=None, folder=checkout)
    assert file.read_text() == before
    new("qa", ["domain=other.acme.io", "adminCidrs=192.0.2.1/32"], force=True, ask=None, folder=checkout)
    assert written(file)["domain"] == "other.acme.io"


@pytest.mark.parametrize("name", ["dev", "staging", "production"])
def test_the_examples_of_the_project_are_filled_in_and_keep_everything_else(checkout: Path, name: str) -> None:
    file = checkout / "stacks" / f"Pulumi.{name}.yaml"
    example, comments = written(file), file.read_text().count("# ")
    answers = [*ANSWERS, "certificate.contactEmail=ops@acme.io"]
    with pytest.raises(ToolError, match="domain, adminCidrs"):
        new(name, [], force=False, ask=None, folder=checkout)
    new(f"acme/{name}", answers, force=False, ask=None, folder=checkout)
    changed = {"domain": "qa.acme.io", "adminCidrs": ["198.51.100.0/24", "192.0.2.1/32"]}
    assert written(file) == {**example, **changed, "certificate": {"contactEmail": "ops@acme.io"}}
    assert file.read_text().count("# ") == comments - 1
    with pytest.raises(ToolError, match="is not an example any more"):
        new(name, answers, force=False, ask=None, folder=checkout)


def test_the_documented_command_writes_a_file_without_asking(checkout: Path) -> None:
    [line] = [line for line in documented() if "ARGS=" in line]
    make, target, stack, arguments = shlex.split(line)
    assert (make, target, stack) == ("make", "new", "STACK=qa")
    flags, answers = shlex.split(arguments.removeprefix("ARGS="))[::2], shlex.split(arguments)[1::2]
    assert set(flags) == {"--set"}
    assert written(new("qa", answers, force=False, ask=None, folder=checkout))["domain"] == "qa.acme.io"
    makefile = (ROOT / "Makefile").read_text()
    assert "-m tools new --stack $(STACK) $(ARGS)" in makefile


def test_the_documented_plain_lines_are_those_of_the_readme_which_are_typed_in_the_sandbox() -> None:
    section = (ROOT / "README.md").read_text().partition("### Plain Pulumi")[2]
    for line in documented():
        if line.startswith("pulumi "):
            example = line.replace("qa.acme.io", "example.com").replace(" qa", " mine")
            assert example.replace("198.51.100.0/24", "203.0.113.7/32") in section
