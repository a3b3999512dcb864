"""Versions that no repository has are refused at preview, as far as the repository can be reached."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from components.settings import SettingsError
from tests.unit.engine import RecordingEngine, run_program
from tests.unit.test_state import KEPT

GITLAB = "https://packages.gitlab.com/gitlab/gitlab-ce/debian/bookworm/dists/bookworm/main/binary-amd64/Packages.gz"
RUNNER = "https://packages.gitlab.com/runner/gitlab-runner/ubuntu/dists/noble/main/binary-amd64/Packages.gz"
SERVER = {"image": "debian-12-x64"}
PROJECTS = [{"path": "hello"}]


def index(name: str, *offered: str) -> bytes:
    stanzas = [f"Package: {name}\nArchitecture: amd64\nVersion: {one}\nDescription: x" for one in offered]
    stanzas.append("Package: another\nVersion: 1.0")
    return gzip.compress("\n\n".join(stanzas).encode())


def refusal(engine: RecordingEngine, **settings: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        run_program(engine=engine, **settings)
    assert [one.name for one in engine.registrations if not one.is_provider] == ["slipway-test"]
    return caught.value.errors


def test_a_version_of_gitlab_that_its_repository_lacks_is_refused_with_the_newest_ones() -> None:
    engine = RecordingEngine(packages={GITLAB: index("gitlab-ce", "19.3.0-ce.0", "19.3.10-ce.0", "19.3.2-ce.0")})
    [line] = refusal(engine, server=SERVER, gitlab={"version": "19.4.0-ce.0"})
    assert line.startswith("gitlab.version: 19.4.0-ce.0 is not in the repository https://packages.gitlab.com/")
    assert line.endswith("Use one that it has, such as 19.3.10-ce.0, 19.3.2-ce.0, 19.3.0-ce.0")


def test_a_version_of_a_runner_that_its_repository_lacks_is_refused_with_all_other_errors() -> None:
    engine = RecordingEngine(packages={RUNNER: index("gitlab-runner", "19.3.0-1")})
    settings = {"projects": PROJECTS, "runners": [{"version": "19.9.9-1"}], "adminCidrs": ["nowhere"]}
    assert [line.split(":")[0] for line in refusal(engine, **settings)] == ["adminCidrs[0]", "runners[0].version"]


@pytest.mark.parametrize(
    "content",
    [b"no archive", gzip.compress(b"\xff\xfe"), gzip.compress(bytes(range(256)))[:60]],
    # Names of their own: what gzip writes contains the time.
    ids=["no archive", "not text", "cut off"],
)
def test_a_list_that_cannot_be_read_says_nothing_about_versions(content: bytes) -> None:
    engine = RecordingEngine(packages={GITLAB: content})
    assert run_program(engine=engine, server=SERVER, gitlab={"version": "19.4.0-ce.0"}).exports


def test_a_repository_that_only_machines_can_reach_is_no_error() -> None:
    mirror = {"version": "19.4.0-ce.0", "packages": {"url": "https://apt.example.test/gitlab-ce"}}
    assert run_program(gitlab=mirror).exports


def test_a_mirror_without_gitlab_is_refused() -> None:
    mirror = "https://apt.example.test/gitlab-ce"
    url = GITLAB.replace("https://packages.gitlab.com/gitlab/gitlab-ce", mirror)
    engine = RecordingEngine(packages={url: index("gitlab-ee", "19.3.0-ee.0")})
    [line] = refusal(engine, server=SERVER, gitlab={"packages": {"url": mirror}})
    assert line.endswith("Use another repository")


def test_what_is_installed_stays_although_the_repository_no_longer_has_it() -> None:
    step = "urn:pulumi:test::slipway::x$command:remote:Command::delivery-docker-builder-1-preparation"
    known = {step: {"stdin": "A=1\nRUNNER_VERSION=19.2.0-1\nB=2\n"}}
    engine = RecordingEngine(
        packages={GITLAB: index("gitlab-ce", "19.4.0-ce.0"), RUNNER: index("gitlab-runner", "19.3.0-1")}, known=known
    )
    previous = {"deployed": {**KEPT, "gitlab_version": "19.3.1-ce.0"}}
    found = run_program(
        engine=engine,
        previous_outputs=previous,
        server=SERVER,
        gitlab={"version": "19.3.1-ce.0"},
        projects=PROJECTS,
        runners=[{"version": "19.2.0-1"}],
    )
    assert "GITLAB_VERSION=19.3.1-ce.0" in found.script("gitlab-package")
