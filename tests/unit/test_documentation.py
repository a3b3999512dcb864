"""The documentation: what it names and links to exists."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.__main__ import README_COMMANDS
from tests.unit.makefile import run_make
from tests.unit.source import tree

REPOSITORY = Path(__file__).parents[2]
SANDBOX = REPOSITORY / "tests/sandbox"
_LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=REPOSITORY,
    check=True,
    capture_output=True,
    text=True,
).stdout.split()
#: The sample application belongs to the users of a project, and says nothing of this one.
DOCUMENTS = [name for name in _LISTED if not name.startswith("components/application/")]


def anchors(document: Path) -> set[str]:
    """What a link may name behind its number sign: the headings, as Git hosts turn them into anchors."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_documents_of_a_newcomer_are_among_those_that_are_checked() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md"} <= set(DOCUMENTS)


def links(document: Path) -> list[str]:
    """Links to files of the repository and to headings."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()) if "://" not in link]


def files(document: Path) -> list[str]:
    """Files of the repository that a document names as code, with their folder."""
    named = re.findall(r"`([\w./-]+/[\w.-]+\.(?:j2|json|lock|md|py|rb|sh|sql|toml|txt|ya?ml))`", document.read_text())
    return [name for name in named if not name.startswith(("/", "~", ".cache/"))]


def test_links_and_files_are_found_in_documents() -> None:
    assert "docs/settings.md" in links(REPOSITORY / "README.md")
    assert "components/files/runner/seccomp.json" in files(REPOSITORY / "docs/decisions/0004-buildah-beside-docker.md")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(name: str) -> None:
    document = REPOSITORY / name
    for link in links(document):
        file, _, anchor = link.partition("#")
        target = document.parent / file if file else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_a_document_names_exists(name: str) -> None:
    roots = (REPOSITORY, SANDBOX, REPOSITORY / "components")
    for file in files(REPOSITORY / name):
        assert any((root / file).exists() for root in roots), file


def test_every_folder_of_the_sandbox_stands_in_its_readme() -> None:
    table = (SANDBOX / "README.md").read_text()
    folders = [path for path in SANDBOX.iterdir() if (path / "__init__.py").exists()]
    assert len(folders) == 8
    for folder in folders:
        assert f"| `{folder.name}/` |" in table


def test_no_file_has_the_marks_of_an_unfinished_merge() -> None:
    marks = ["git", "grep", "--untracked", "--line-number", "-I", "-E", "^(<{7}|>{7}) "]
    found = subprocess.run(marks, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (1, "")


#: What the end-to-end tests, and the tests of the commands that need no cloud, pass to the programs that they run.
_RUN = {
    node.value
    for folder, pattern in (("e2e", "*.py"), ("unit", "test_new.py"))
    for file in (REPOSITORY / "tests" / folder).glob(pattern)
    for node in ast.walk(tree(file.read_text()))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}


def commands_behind(line: str) -> set[str]:
    """The programs of `tools/` that a `make` line runs, beside those that prepare it."""
    done = run_make(*shlex.split(line)[1:], "--dry-run")
    return set(re.findall(r"-m tools ([a-z-]+)", done.stdout)) - {"prepare", "exec"}


@pytest.mark.parametrize(
    "line", re.findall(r"^make .+$", (REPOSITORY / "docs/environments.md").read_text(), re.MULTILINE)
)
def test_every_command_of_the_page_about_environments_is_run_by_a_test(line: str) -> None:
    target = line.split()[1]
    whole = any(target == known for known, *_ in README_COMMANDS)
    programs = commands_behind(line)
    assert whole or programs
    assert whole or programs - _RUN == set()
