"""The threat model: each of its claims names the tests that fail if it stops being true."""

import ast
import re
from pathlib import Path

import pytest

from tests.unit.source import tree

REPOSITORY = Path(__file__).parents[2]
MODEL = REPOSITORY / "docs/security.md"
#: Sections whose tables are claims.
SECTIONS = ("Machines", "GitLab", "Registry", "Pipelines and runners", "Secrets and state", "Cloud account", "Policies")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def sections() -> dict[str, str]:
    """The text below each heading."""
    _, *parts = re.split(r"^## (.+)$", MODEL.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def claims(section: str) -> list[str]:
    """The rows of the tables of a section, without head and rule."""
    rows = [line for line in sections()[section].splitlines() if line.startswith("|")]
    return [
        row for row in rows if not row.endswith("| test that fails without it |") and not re.fullmatch(r"[|-]+", row)
    ]


def functions(file: str) -> set[str]:
    """The tests that a file defines."""
    path = REPOSITORY / file
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {one.name for one in tree(path.read_text()).body if isinstance(one, kinds)} if path.exists() else set()


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_makes_claims(section: str) -> None:
    assert claims(section)


@pytest.mark.parametrize("claim", [claim for section in SECTIONS for claim in claims(section)])
def test_a_claim_names_tests_that_exist(claim: str) -> None:
    named = _TEST.findall(claim)
    assert named
    assert [f"{file}::{name}" for file, name in named if name not in functions(file)] == []


def test_a_test_that_the_rest_of_the_model_names_exists() -> None:
    named = _TEST.findall(MODEL.read_text())
    assert [f"{file}::{name}" for file, name in named if name not in functions(file)] == []


def test_a_test_that_there_is_not_would_be_found() -> None:
    assert "test_a_test_that_there_is_not_would_be_found" in functions("tests/unit/test_security_model.py")
    assert functions("tests/unit/test_that_there_is_not.py") == set()


def test_the_model_says_what_does_not_hold() -> None:
    assert sections()["What does not hold"].count("\n**") > len(SECTIONS)
