"""The images of the pipeline's own jobs, which machines of runners fetch before the first job."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from components.rendering import script
from tests.unit.delivered import delivered, pipeline

STEP = "delivery-docker-builder-1-preparation"


def fetched(**runner: Any) -> list[str]:
    """What the machine of such a runner fetches."""
    sent = delivered(runner=runner).script(STEP)
    return sent.split("\nJOB_IMAGES=", 1)[1].split("\n", 1)[0].strip("'").split()


def named(value: Any) -> set[str]:
    """The images that a pipeline, or a part of it, names; a service is an image too."""
    if isinstance(value, list):
        return set().union(*map(named, value))
    if not isinstance(value, dict):
        return set()
    images = [value.get("image"), *value.get("services", [])]
    names = {one["name"] if isinstance(one, dict) else one for one in images if one}
    return names.union(*map(named, value.values()))


@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_a_machine_fetches_exactly_the_images_that_the_pipeline_of_its_builder_names(builder: str) -> None:
    images = named(pipeline(delivered(runner={"builder": builder})))
    assert images
    assert set(fetched(builder=builder)) == images


def test_a_machine_that_is_to_keep_nothing_of_docker_hub_fetches_nothing() -> None:
    assert fetched(dockerHubCache=False) == []


def fetching(world: str, images: str = "one:1 two:2") -> subprocess.CompletedProcess[str]:
    """Run the function with programs that only say how they are called."""
    body = "fetch_job_images() {" + script("prepare-runner.sh").split("fetch_job_images() {", 1)[1].split("\n}\n")[0]
    calls = 'systemctl() { return 3; }; systemd-run() { while [ "$1" != sh ]; do shift; done; "$@"; }'
    text = f"set -eu\n{calls}\n{world}\nexport -f docker\nJOB_IMAGES='{images}'\n{body}\n}}\nfetch_job_images; echo on"
    # Bash in place of `sh`, which knows no functions of others.
    text = text.replace("sh -c", "bash -c").replace("!= sh ]", "!= bash ]")
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)


def test_every_image_is_pulled_even_if_one_before_it_cannot_be() -> None:
    done = fetching('docker() { echo "$*"; [ "$3" != one:1 ]; }')
    assert done.stdout.splitlines() == ["pull --quiet one:1", "pull --quiet two:2", "on"]


def test_neither_a_failure_nor_a_service_manager_that_refuses_stops_the_step() -> None:
    for world in ("docker() { return 1; }", "docker() { :; }; systemd-run() { return 1; }"):
        done = fetching(world)
        assert (done.returncode, done.stdout) == (0, "on\n"), done.stderr


@pytest.mark.parametrize(("world", "images"), [("systemctl() { return 0; }", "one:1"), ("", "")])
def test_nothing_is_pulled_twice_at_once_nor_without_need(world: str, images: str) -> None:
    assert fetching(f'docker() {{ echo "$*"; }}; {world}', images).stdout == "on\n"
