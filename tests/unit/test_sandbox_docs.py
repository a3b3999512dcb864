"""The documentation for contributors to the sandbox: what it names exists."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SANDBOX = REPOSITORY / "tests/sandbox"
DOCUMENTS = [SANDBOX / "README.md", SANDBOX / "EXTENDING.md", REPOSITORY / "docs/sandbox.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    files = [name for name in re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|md|sql|sh|txt))`", text) if "/run/" not in name]
    assert links or files
    for link in links:
        assert (document.parent / link).exists(), link
    for name in files:
        assert (REPOSITORY / name).exists() or (SANDBOX / name).exists(), name


def test_every_folder_of_the_sandbox_stands_in_its_readme() -> None:
    table = (SANDBOX / "README.md").read_text()
    folders = [path for path in SANDBOX.iterdir() if (path / "__init__.py").exists()]
    assert len(folders) == 7
    for folder in folders:
        assert f"| `{folder.name}/` |" in table
