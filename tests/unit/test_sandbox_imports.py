"""Imports inside the sandbox: its folders form layers, and no import runs back up."""

import ast
import itertools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.unit.source import tree

REPOSITORY = Path(__file__).parents[2]
SANDBOX = REPOSITORY / "tests/sandbox"
#: Packages that are installed on a machine and run there, where the rest of the checkout does not exist.
INSTALLED = ("gitlab/web", "gitlab/registry", "runner/program")

#: For each room (a folder, or a module at the top), the rooms that it imports, and by which modules.
Rooms = dict[str, dict[str, set[str]]]


def imported_files(file: Path, repository: Path) -> Iterator[Path]:
    """The files of the repository that one file imports, at its top or later."""
    for node in ast.walk(tree(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            bases = [repository] * len(names)
        elif isinstance(node, ast.ImportFrom):
            base = file.parents[node.level - 1] if node.level else repository
            module = f"{node.module}." if node.module else ""
            names = [f"{module}{alias.name}" for alias in node.names]
            bases = [base] * len(names)
        else:
            continue
        for base, name in zip(bases, names, strict=True):
            yield from _file(base.joinpath(*name.split(".")), repository)


def _file(path: Path, repository: Path) -> Iterator[Path]:
    """A module, a package, or the module that has this name in it; nothing outside of the repository."""
    candidates = (
        path.with_suffix(".py"),
        path / "__init__.py",
        path.parent.with_suffix(".py"),
        path.parent / "__init__.py",
    )
    inside = [one for one in candidates if one.is_relative_to(repository) and one.is_file()]
    yield from inside[:1]


def room(file: Path, sandbox: Path) -> str:
    """The folder of a file; a module at the top of the sandbox is a room of its own."""
    relative = file.relative_to(sandbox)
    return relative.stem if len(relative.parts) == 1 else relative.parent.as_posix()


def graph(repository: Path, sandbox: Path) -> Rooms:
    """Which room imports which others."""
    rooms: Rooms = {}
    for file in sorted(sandbox.rglob("*.py")):
        here = rooms.setdefault(room(file, sandbox), {})
        for imported in imported_files(file, repository):
            if sandbox in imported.parents and (there := room(imported, sandbox)) != room(file, sandbox):
                here.setdefault(there, set()).add(
                    f"{file.relative_to(sandbox)} imports {imported.relative_to(sandbox)}"
                )
    return rooms


def cycle(rooms: Rooms) -> list[str]:
    """The imports that form a circle; none if the rooms form layers."""
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as error:
        path = list(reversed(error.args[1]))
        return sorted(line for a, b in itertools.pairwise(path) for line in rooms[a][b])
    return []


def test_no_import_runs_back_up_inside_the_sandbox() -> None:
    rooms = graph(REPOSITORY, SANDBOX)
    assert len(rooms) > 15
    assert {"digitalocean", "hub", "machines"} <= rooms["cloud"].keys()
    assert {"gitlab/web/api", "gitlab/web/core"} <= rooms["gitlab/web"].keys()
    assert cycle(rooms) == []


@pytest.mark.parametrize("folder", INSTALLED)
def test_a_package_that_is_installed_on_a_machine_imports_nothing_of_the_checkout(folder: str) -> None:
    files = list((SANDBOX / folder).rglob("*.py"))
    assert len(files) > 10
    package = SANDBOX / folder
    for file in files:
        for imported in imported_files(file, REPOSITORY):
            assert package in imported.parents, f"{file} imports {imported}"


@pytest.mark.parametrize(
    "line",
    [
        "from tests.sandbox.upper import a",
        "from ..upper.a import VALUE",
        "def late():\n    import tests.sandbox.upper.a",
    ],
)
def test_an_import_that_runs_back_up_would_be_found(tmp_path: Path, line: str) -> None:
    sandbox = tmp_path / "tests/sandbox"
    for name, text in {"upper/a.py": "from tests.sandbox.lower import b\n", "lower/b.py": line + "\n"}.items():
        (sandbox / name).parent.mkdir(parents=True)
        (sandbox / name).write_text(text)
    assert cycle(graph(tmp_path, sandbox)) == [
        "lower/b.py imports upper/a.py",
        "upper/a.py imports lower/b.py",
    ]
