"""Repositories of other kinds than the sample, as the recipe has them: green on their first push.

Builder and registry are the real ones. `test_go_repository.py` has the one that takes longest.
"""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox_tests.support.official_images import wheels
from tests.sandbox_tests.support.repositories import Repository


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """The address of a package index with pytest and what it needs."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheels(folder, "pytest", "pluggy", "iniconfig", "packaging", "Pygments")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("pushed", ["greeter"], indirect=True)
def test_a_python_project_is_tested_with_pytest_in_the_image_that_is_released(pushed: Repository, index: str) -> None:
    (pushed.folder / "requirements.txt").write_text(f"--no-index\n--find-links {index}\npytest\n")
    pushed.push()
    logs = pushed.run_pipeline()
    assert list(logs) == ["build", "test", "release"]
    assert "1 passed" in logs["test"]
    assert len(pushed.manifest()["manifests"]) == 1


@pytest.mark.parametrize("pushed", ["site"], indirect=True)
def test_a_static_site_behind_nginx_is_released(pushed: Repository) -> None:
    pushed.push()
    assert "test is successful" in pushed.run_pipeline()["test"]
    assert pushed.manifest()["manifests"]


@pytest.mark.parametrize("pushed", ["shop"], indirect=True)
def test_both_images_of_a_monorepo_are_released(pushed: Repository) -> None:
    pushed.push()
    logs = pushed.run_pipeline()
    assert list(logs) == ["build:api", "build:web", "test:api", "release"]
    assert "Ran 1 test" in logs["test:api"]
    assert pushed.manifest("/api")["manifests"][0]["digest"] != pushed.manifest("/web")["manifests"][0]["digest"]
