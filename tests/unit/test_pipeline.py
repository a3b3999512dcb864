"""Our pipelines and the tutorial's, as `gitlab-ci-local` reads them: an implementation that is not ours."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import versions
from components.build_pipeline import pipeline
from components.settings import Builder, ExtraStage, SupplyChain
from tests.sandbox.cloud.tools import nodejs
from tests.sandbox.gitlab.web.ci import reader
from tests.sandbox.gitlab.web.ci.conditions import Context
from tests.sandbox.gitlab.web.ci.documents import Files
from tests.sandbox.layout import current

TUTORIAL = Path(__file__).parents[2] / "tools" / "walkthrough.gitlab-ci.yml"
MIRROR = "https://mirror.example.com"
DEPLOY = ExtraStage.model_validate({"name": "deploy", "script": ["echo 'to: staging'"]})
REPORT = ExtraStage.model_validate({"name": "report", "script": ["true"], "defaultBranchOnly": False})
#: Names that only YAML could misread, and a command with characters beyond 16 bits.
ODD = ["Deploy: production", "e2e_tests", "42", "#1 {x}", "'quoted' \"twice\"", "back\\slash", "🚀 ship it", "a" * 255]
ODD_STAGES = [ExtraStage.model_validate({"name": name, "script": [f"echo '🚀 {name}'"]}) for name in ODD]
ON_SUCCESS, NEVER = "on_success", "never"

THREE = ["build", "test", "release"]

#: Every kind of pipeline that the settings can produce.
KINDS = {
    "plain": pipeline(Builder.DOCKER, [], None),
    "unattested": pipeline(Builder.DOCKER, [], None, provenance=False),
    "mirrored": pipeline(Builder.DOCKER, [], MIRROR),
    "extended": pipeline(Builder.DOCKER, [DEPLOY, REPORT], MIRROR),
    "unprivileged": pipeline(Builder.BUILDAH, [], MIRROR),
}
#: Those with Docker in Docker, and the options of its daemon.
PRIVILEGED = {
    "plain": [],
    "unattested": [],
    "mirrored": [f"--registry-mirror={MIRROR}"],
    "extended": [f"--registry-mirror={MIRROR}"],
}
#: With all that goes around a release.
GUARDED = SupplyChain.model_validate({"scan": "warn", "sbom": True, "sign": True})
every_kind = pytest.mark.parametrize("kind", KINDS)


@dataclass(frozen=True)
class Reading:
    """What gitlab-ci-local reads from one file on one branch."""

    jobs: dict[str, dict[str, Any]]
    whole: dict[str, Any]

    @property
    def schedule(self) -> list[tuple[str, str, str]]:
        """Name and stage of each job and when it runs, in the order of the file."""
        return [(name, job["stage"], job["when"]) for name, job in self.jobs.items()]


class Repository:
    """A repository whose default branch is `main`. Each file is read once per branch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, str], Reading] = {}
        self._run("git", "init", "-q", "-b", "main")
        author = ("-c", "user.name=root", "-c", "user.email=root@example.com")
        self._run("git", *author, "commit", "-q", "--allow-empty", "-m", "Begin")
        self._run("git", "remote", "add", "origin", "https://gitlab.example.com/root/hello.git")
        self._run("git", "update-ref", "refs/remotes/origin/main", "HEAD")
        self._run("git", "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")

    def read(self, text: str, branch: str = "main") -> Reading:
        """Return the jobs of a file, and the whole file with all defaults filled in."""
        if (text, branch) not in self._known:
            self._run("git", "checkout", "-q", "-B", branch)
            (self._folder / ".gitlab-ci.yml").write_text(text)
            jobs = {str(job["name"]): job for job in json.loads(self._gitlab_ci_local("--list-json"))}
            # The preview does not depend on the branch.
            other = next((known.whole for (same, _), known in self._known.items() if same == text), None)
            self._known[text, branch] = Reading(jobs, other or yaml.safe_load(self._gitlab_ci_local("--preview")))
        return self._known[text, branch]

    def _gitlab_ci_local(self, *words: str) -> str:
        return self._run(*nodejs.command(current().cache, "gitlab-ci-local", "dist/index.js"), *words)

    def _run(self, *command: str) -> str:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self._folder)}
        done = subprocess.run(command, cwd=self._folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("hello"))


@every_kind
def test_the_default_branch_builds_tests_and_releases_in_this_order(repository: Repository, kind: str) -> None:
    assert repository.read(KINDS[kind]).schedule[:3] == [(name, name, ON_SUCCESS) for name in THREE]


@every_kind
def test_another_branch_builds_and_tests_and_does_not_release(repository: Repository, kind: str) -> None:
    assert repository.read(KINDS[kind], "topic").schedule[:3] == [
        ("build", "build", ON_SUCCESS),
        ("test", "test", ON_SUCCESS),
        ("release", "release", NEVER),
    ]


@every_kind
def test_no_job_skips_its_stage_order_hides_a_failure_or_is_manual(repository: Repository, kind: str) -> None:
    for job in repository.read(KINDS[kind]).jobs.values():
        assert not job.keys() & {"needs", "environment"}
        assert not job["allow_failure"]
        assert job["when"] == ON_SUCCESS


@every_kind
def test_only_the_release_depends_on_the_branch(repository: Repository, kind: str) -> None:
    jobs = repository.read(KINDS[kind]).jobs
    assert [name for name in THREE if "rules" in jobs[name]] == ["release"]
    assert jobs["release"]["rules"] == [{"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"}]


def test_extra_stages_come_last_and_choose_their_branches_themselves(repository: Repository) -> None:
    on_main, on_topic = (repository.read(KINDS["extended"], branch) for branch in ("main", "topic"))
    assert on_main.schedule[3:] == [("deploy", "deploy", ON_SUCCESS), ("report", "report", ON_SUCCESS)]
    assert on_topic.schedule[3:] == [("deploy", "deploy", NEVER), ("report", "report", ON_SUCCESS)]
    assert on_main.whole["stages"] == [".pre", *THREE, "deploy", "report", ".post"]
    assert list(repository.read(KINDS["plain"]).jobs) == THREE


@pytest.mark.parametrize("builder", list(Builder))
def test_scan_and_signature_are_around_the_release(repository: Repository, builder: Builder) -> None:
    text = pipeline(builder, [DEPLOY], MIRROR, supply_chain=GUARDED)
    on_main, on_topic = (repository.read(text, branch) for branch in ("main", "topic"))
    assert on_main.schedule == [
        ("build", "build", ON_SUCCESS),
        ("test", "test", ON_SUCCESS),
        ("scan", "scan", ON_SUCCESS),
        ("sbom", "scan", ON_SUCCESS),
        ("release", "release", ON_SUCCESS),
        ("sign", "sign", ON_SUCCESS),
        ("deploy", "deploy", ON_SUCCESS),
    ]
    assert {name for name, _, when in on_topic.schedule if when == NEVER} == {"release", "sign", "deploy"}
    assert [name for name, job in on_main.jobs.items() if job["allow_failure"]] == ["scan"]
    for name in ("scan", "sbom", "sign"):
        assert on_main.whole[name]["services"] == []
        assert on_main.whole[name]["image"]["entrypoint"] == [""]


@pytest.mark.parametrize("kind", PRIVILEGED)
def test_every_job_has_a_docker_client_and_the_release_alone_no_daemon(repository: Repository, kind: str) -> None:
    read = repository.read(KINDS[kind])
    for name in read.jobs:
        job = read.whole[name]
        assert job["image"]["name"] == f"docker:{versions.DOCKER}-cli"
        [login] = [line for line in job["before_script"] if "docker login" in line]
        assert login.endswith('--password-stdin "$CI_REGISTRY"')
        lines = " ".join(map(str, job["before_script"]))
        if name == "release":
            assert job["services"] == []
            assert "unset DOCKER_HOST " in lines
            assert "docker info" not in lines
            continue
        [service] = job["services"]
        assert service["name"] == f"docker:{versions.DOCKER}-dind"
        assert service.get("command", []) == PRIVILEGED[kind]
        assert "docker info" in lines


def test_the_pipeline_of_the_tutorial_has_three_jobs_and_releases_only_from_its_branch(
    repository: Repository,
) -> None:
    read = repository.read(TUTORIAL.read_text())
    assert read.schedule == [(name, name, ON_SUCCESS) for name in THREE]
    # gitlab-ci-local passes this old keyword on without evaluating it; the end-to-end tests show its effect.
    assert {name: read.whole[name].get("only") for name in THREE} == {
        "build": None,
        "test": None,
        "release": ["tutorial"],
    }


@pytest.mark.parametrize("builder", Builder)
def test_stages_have_the_very_names_and_commands_of_the_stack_file(builder: Builder) -> None:
    text = pipeline(builder, ODD_STAGES, None)
    context = Context("main", False, "push", Files(lambda _: None, list), list, {"CI_COMMIT_BRANCH": "main"})
    read = reader.parse(text, context)
    assert list(read.jobs) == [*THREE, *ODD]
    assert read.stages == [".pre", *THREE, *ODD, ".post"]
    assert [read.jobs[name]["script"] for name in ODD] == [[f"echo '🚀 {name}'"] for name in ODD]


def test_another_reader_finds_the_same_stages(repository: Repository) -> None:
    read = repository.read(pipeline(Builder.DOCKER, ODD_STAGES[:-1], None))
    # It lists a number first.
    assert sorted(read.jobs) == sorted([*THREE, *ODD[:-1]])
    assert read.whole["stages"] == [".pre", *THREE, *ODD[:-1], ".post"]


def test_a_broken_pipeline_is_rejected(repository: Repository) -> None:
    with pytest.raises(AssertionError, match="report must have script"):
        repository.read(KINDS["plain"] + "\nreport:\n  stage: test\n  scripts: [x]\n")
