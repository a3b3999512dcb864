"""Pages of the GitLab stand-in in a real browser: what changes by itself, what is copied, what the console says."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabGetError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.sandbox.browser import Browser, browser
from tests.sandbox.screenshots import IMAGES, take
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance, listen, running, serving
from tests.sandbox_tests.support.gitlab_projects import TUTORIAL, commit, make_runner, newest
from tests.sandbox_tests.support.gitlab_runner_client import Runner
from tests.sandbox_tests.support.waiting import eventually
from tools.clients import Outputs

PULL = "docker pull gitlab.example.com:5555/root/hello"
MIB = 2**20
TESTED, RELEASED = (f"sha256:{digit * 64}" for digit in "ab")
TAGS = {"latest": RELEASED, "main": TESTED}


def registry_tags(_: Request) -> Response:
    return JSONResponse({"tags": [*TAGS, "unreadable"]})


def registry_manifest(_: Request) -> Response:
    return JSONResponse({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, 404)


def registry_details(_: Request) -> Response:
    when = datetime.now(UTC).isoformat()
    return JSONResponse(
        [{"name": tag, "digest": TAGS[tag], "size_bytes": 76 * MIB, "published_at": when} for tag in TAGS]
    )


REGISTRY = Starlette(
    routes=[
        Route("/v2/{name:path}/tags/list", registry_tags),
        Route("/v2/{name:path}/manifests/{reference}", registry_manifest),
        Route("/gitlab/v1/repositories/{name:path}/tags/list/", registry_details),
    ]
)


@pytest.fixture(scope="module")
def shared_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    sock, url = listen()
    with serving(REGISTRY, sock), running(tmp_path_factory.mktemp("gitlab"), url) as found:
        yield found


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def visitor(opened: Browser) -> Browser:
    """The browser, of whom no page knows anything."""
    opened.driver.delete_all_cookies()
    return opened


@pytest.fixture
def root(visitor: Browser, instance: Instance) -> Browser:
    visitor.sign_in(instance.url, "root", PASSWORD)
    visitor.complaints()
    return visitor


def test_a_wrong_password_is_refused_and_the_right_one_signs_in(visitor: Browser, instance: Instance) -> None:
    visitor.sign_in(instance.url, "root", "wrong")
    assert visitor.text("[role=alert]") == "Invalid login or password."
    assert visitor.driver.title.startswith("Sign in")
    assert not visitor.driver.get_cookies()
    visitor.sign_in(instance.url, "root", PASSWORD)
    assert "Sign out" in visitor.text("header")
    assert visitor.driver.title.startswith("Projects")


def test_a_private_project_is_hidden_from_visitors_who_are_not_signed_in(
    visitor: Browser, instance: Instance, project: Any
) -> None:
    page = f"{instance.url}/{project.path_with_namespace}"
    visitor.open(page)
    assert visitor.driver.current_url == f"{instance.url}/users/sign_in"
    assert project.path_with_namespace not in visitor.text()
    visitor.sign_in(instance.url, "root", PASSWORD)
    visitor.open(page)
    assert project.path_with_namespace in visitor.text("h1")
    visitor.press("header form button")
    visitor.wait(lambda: visitor.driver.title.startswith("Sign in"))
    visitor.open(page)
    assert visitor.driver.current_url == f"{instance.url}/users/sign_in"


def test_an_open_log_grows_and_its_status_changes_without_a_reload(
    root: Browser, client: gitlab.Gitlab, instance: Instance, project: Any
) -> None:
    runner = make_runner(client, project, locked=True)
    commit(project, {".gitlab-ci.yml": TUTORIAL})
    job = runner.take()
    job.log("first line\n")
    root.open(f"{instance.url}/root/hello/-/jobs/{job.payload['id']}")
    root.run("window.kept = true")
    assert root.text(".log").strip() == "first line"
    assert root.text("main h2").split() == ["running", "build"]
    root.run("document.querySelector('nav a').focus()")

    job.log("second line\n", start=len("first line\n"))
    root.wait(lambda: "second line" in root.text(".log"))
    assert root.text("main h2").split() == ["running", "build"]
    job.succeed()
    root.wait(lambda: root.text("main h2").split() == ["passed", "build"])
    assert "build #" in root.driver.title
    assert "passed" in root.driver.title
    assert root.run("return window.kept === true")
    assert root.run("return document.activeElement.innerText") == "Project"
    assert root.run("return document.querySelector('main[data-live]') === null")
    assert root.complaints() == []


def test_an_open_pipeline_shows_the_progress_of_its_jobs(
    root: Browser, client: gitlab.Gitlab, instance: Instance, project: Any
) -> None:
    runner = make_runner(client, project, locked=True)
    commit(project, {".gitlab-ci.yml": TUTORIAL})
    root.open(f"{instance.url}/root/hello/-/pipelines/{newest(project).id}")
    root.run("window.kept = true")
    assert root.text(".job:first-of-type .badge") == "pending"
    runner.take().succeed()
    runner.take().fail()
    root.wait(lambda: "failed" in root.text("main h2"))
    badges = root.run("return [...document.querySelectorAll('.job .badge')].map(one => one.innerText)")
    assert badges == ["passed", "failed", "skipped"]
    assert "script failure" in root.text(".stages")
    assert root.run("return window.kept === true")


def test_images_are_shown_with_the_lines_that_pull_them_and_a_button_copies_the_right_one(
    root: Browser, client: gitlab.Gitlab, instance: Instance, project: Any
) -> None:
    instance.execute(
        "INSERT INTO container_repositories (project_id, path, created_at) VALUES (?, 'root/hello', 'now')", project.id
    )
    root.allow_clipboard(instance.url)
    root.open(f"{instance.url}/root/hello/container_registry")
    for tag, digest in (("latest", RELEASED), ("main", TESTED)):
        [row] = [
            text
            for text in root.run("return [...document.querySelectorAll('.tags tbody')].map(one => one.innerText)")
            if text.startswith(tag)
        ]
        assert " ".join(row.split()) == f"{tag} {digest[7:19]} 76.0 MiB just now {PULL}:{tag} Copy"
        button = f"button[data-copy$=':{tag}']"
        root.press(button)
        root.wait(partial(lambda selector: root.text(selector) == "Copied", button))
        assert root.run("return navigator.clipboard.readText()") == f"{PULL}:{tag}"
    repository = client.projects.get(project.id).repositories.list(get_all=True)[0]
    assert repository.tags.get("latest").total_size == 76 * MIB
    assert "unreadable Invalid tag: missing manifest digest" in " ".join(root.text(".tags").split())
    with pytest.raises(GitlabGetError, match="404 Tag Not Found"):
        repository.tags.get("unreadable")
    assert root.complaints() == []


PAGES: dict[str, Callable[[Any, Any], str]] = {
    "Projects": lambda _, __: "/",
    "root/hello": lambda _, __: "/root/hello",
    "Pipelines": lambda _, __: "/root/hello/-/pipelines",
    "Pipeline #": lambda _, pipeline: f"/root/hello/-/pipelines/{pipeline.id}",
    "Jobs": lambda _, __: "/root/hello/-/jobs",
    "build #": lambda job, _: f"/root/hello/-/jobs/{job.payload['id']}",
    "Container registry": lambda _, __: "/root/hello/container_registry",
    "Runners · root/hello": lambda _, __: "/root/hello/-/settings/ci_cd",
    "Runners · GitLab": lambda _, __: "/admin/runners",
    "Sign in": lambda _, __: "/users/sign_in",
}


def test_no_page_has_an_error_in_its_console_or_is_wider_than_a_phone(
    root: Browser, client: gitlab.Gitlab, instance: Instance, project: Any
) -> None:
    runner = make_runner(client, project, locked=True, tag_list=["docker", "linux-amd64"], run_untagged=True)
    commit(project, {".gitlab-ci.yml": TUTORIAL}, message="Begin with a message that is longer than most are")
    instance.execute(
        "INSERT INTO container_repositories (project_id, path, created_at) VALUES (?, 'root/hello', 'now')", project.id
    )
    job = runner.take()
    job.log("x" * 500 + "\n")
    found = {}
    for width in (1280, 390):
        root.size(width, 860)
        for title, path in PAGES.items():
            root.open(f"{instance.url}{path(job, newest(project))}")
            assert root.driver.title.startswith(title), title
            too_wide = root.run("return document.documentElement.scrollWidth - window.innerWidth")
            found[title, width] = (too_wide, root.complaints())
    root.size(1280, 860)
    assert found == dict.fromkeys(found, (0, []))


def test_the_screenshots_in_the_readme_are_those_that_are_taken(
    root: Browser, client: gitlab.Gitlab, instance: Instance, project: Any, tmp_path: Path
) -> None:
    runner = make_runner(client, project, locked=True)
    commit(project, {".gitlab-ci.yml": TUTORIAL.replace("- main", "- other")})
    assert runner.drain() == ["build", "test"]
    told = {"gitlab_url": instance.url, "gitlab_admin_user": "root", "gitlab_admin_password": PASSWORD}
    projects = [{"url": f"{instance.url}/root/hello"}]
    outputs = Outputs({**told, "gitlab_api_token": instance.token, "projects": projects})
    working = threading.Thread(target=work, args=(runner, tmp_path))
    working.start()
    taken = [picture.name for picture in take(outputs, root, tmp_path)]
    working.join()
    assert taken == ["job.png", "pipeline.png", "project.png", "registry.png", "runners.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in taken)
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    assert sorted(re.findall(r"docs/images/([\w.]+)", readme)) == taken == sorted(one.name for one in IMAGES.iterdir())


def work(runner: Runner, folder: Path) -> None:
    """Do two jobs, each until it has been seen."""
    for log, picture in (("$ docker build .\n", "job.png"), ("$ npm test\n", "pipeline.png")):
        job = eventually(runner.request)
        job.log(log)
        eventually((folder / picture).exists)
        job.succeed()


def test_the_keyboard_focus_is_visible(root: Browser, instance: Instance, project: Any) -> None:
    root.open(f"{instance.url}/{project.path_with_namespace}")
    key = {"type": "keyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    reached = []
    for _ in range(4):
        root.driver.execute_cdp_cmd("Input.dispatchKeyEvent", key)
        style = "const style = getComputedStyle(document.activeElement);"
        shown = root.run(f"{style} return [document.activeElement.innerText, style.outlineStyle, style.outlineWidth]")
        reached.append(shown[0])
        assert shown[1:] == ["solid", "2px"], json.dumps(shown)
    assert reached[1:] == ["Runners (admin)", "Sign out", "root/hello"]


def test_a_page_that_breaks_its_own_policy_would_be_noticed(root: Browser, instance: Instance) -> None:
    root.open(f"{instance.url}/")
    root.run("document.body.append(Object.assign(new Image(), {src: 'https://elsewhere.example/x.png'}))")
    root.wait(lambda: any("Content Security Policy" in line for line in root.complaints()))
    assert root.complaints() == []
