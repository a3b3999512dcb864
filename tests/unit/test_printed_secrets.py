"""What has a secret does not print it: a traceback and the message of a failing test show whole objects."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.source import tree

ROOT = Path(__file__).parents[2]
SECRET = re.compile(r"(^|_)(token|secrets?|secret_key|password|private_key|passphrase)$")
#: Fields of such a name that have no secret in them: whether there is one, a row's number, settings.
HARMLESS = {
    "Difference.is_secret": "a yes or no",
    "Leaf.is_secret": "a yes or no",
    "Config.token": "where the registry gets its tokens",
    "PodPlan.pull_secret": "the name of a Secret",
    "Variable.secret": "a yes or no",
}


def printed(module: ast.Module) -> Iterator[str]:
    """The fields of data classes that are named like secrets, and that their representation shows."""
    for found in ast.walk(module):
        if isinstance(found, ast.ClassDef) and any("dataclass" in ast.unparse(one) for one in found.decorator_list):
            for one in found.body:
                hidden = "repr=False" in ast.unparse(one)
                if isinstance(one, ast.AnnAssign) and SECRET.search(ast.unparse(one.target)) and not hidden:
                    yield f"{found.name}.{ast.unparse(one.target)}"


@pytest.mark.parametrize("folder", ["components", "tools", "tests"])
def test_no_data_class_shows_a_secret_in_its_representation(folder: str) -> None:
    modules = {path: tree(path.read_text()) for path in (ROOT / folder).rglob("*.py")}
    found = {f"{path.relative_to(ROOT)}: {name}" for path, module in modules.items() for name in printed(module)}
    assert {one for one in found if one.split(": ")[1] not in HARMLESS} == set()


def test_a_secret_in_a_representation_would_be_found() -> None:
    fields = (
        " user: str",
        " api_token: str",
        " password: str = field(repr=False)",
    )
    module = "\n".join(("@dataclass(frozen=True)", "class Login:", *fields))
    assert list(printed(tree(module))) == ["Login.api_token"]
