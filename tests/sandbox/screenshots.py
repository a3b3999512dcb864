"""Pictures of the GitLab stand-in's pages for the README: `python -m tests.sandbox.screenshots`, at the workstation.

Needs a stack that runs, with a project and a runner. Starts its pipeline once more, so that there is something to see.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.sandbox.browser import Browser, browser
from tools.clients import Outputs

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
WIDTH, LOWEST, HIGHEST = 1200, 240, 800
#: Seconds that a job may take to get where a picture of it is wanted.
PATIENCE = 120
#: What the log of the build has while there is more to come.
BUILDING = "$ docker build"


def take(outputs: Outputs, window: Browser, folder: Path) -> Iterator[Path]:
    """Every picture, as soon as it is there. Pages that renew themselves are watched, not fetched again."""
    project = outputs.gitlab().projects.get(outputs.projects[0]["url"].removeprefix(f"{outputs.url}/"))
    url = str(project.web_url)
    window.size(WIDTH, HIGHEST)
    window.sign_in(outputs.url, outputs.user, outputs.password)
    pipeline = project.pipelines.create({"ref": project.default_branch})
    build = next(job for job in pipeline.jobs.list(get_all=True) if job.name == "build")

    window.open(f"{url}/-/jobs/{build.id}")
    window.wait(lambda: BUILDING in window.text(".log"), PATIENCE)
    yield _whole(window, folder / "job.png")

    window.open(f"{url}/-/pipelines/{pipeline.id}")
    window.wait(lambda: {"passed", "running"} <= set(window.text(".stages").split()), PATIENCE)
    yield _whole(window, folder / "pipeline.png")
    window.wait(lambda: "passed" in window.text("main h2"), PATIENCE)

    for name, page in (
        ("project", url),
        ("registry", f"{url}/container_registry"),
        ("runners", f"{outputs.url}/admin/runners"),
    ):
        window.open(page)
        yield _whole(window, folder / f"{name}.png")


def _whole(window: Browser, target: Path) -> Path:
    """A page from its top, without the empty space below it."""
    window.run("window.scrollTo(0, 0)")
    height = int(window.run("return Math.ceil(document.querySelector('main').getBoundingClientRect().bottom)"))
    window.size(WIDTH, min(max(height, LOWEST), HIGHEST))
    window.picture(target)
    window.size(WIDTH, HIGHEST)
    return target


def main() -> int:
    """Take all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", default="sandbox")
    parser.add_argument("--folder", type=Path, default=IMAGES)
    wanted = parser.parse_args()
    wanted.folder.mkdir(parents=True, exist_ok=True)
    # The browser has a list of authorities of its own; whether the certificate is good is measured by `make verify`.
    with tempfile.TemporaryDirectory() as scratch, browser(Path(scratch), any_certificate=True) as window:
        for picture in take(Outputs.of_stack(wanted.stack), window, wanted.folder):
            print(f"{picture.name}: {picture.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
