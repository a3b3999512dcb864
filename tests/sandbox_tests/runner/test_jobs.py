"""What a runner does for a job beside its containers: variables, log, files, archives, images that may be used."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import docker.errors
import pytest
from docker import DockerClient

from tests.sandbox.runner.program.archives import find, make_zip, restore_caches, save_caches, unpack_zip, wanted
from tests.sandbox.runner.program.executor import service_names
from tests.sandbox.runner.program.images import ImageError, Images, PolicyError, is_allowed
from tests.sandbox.runner.program.payload import Image, Payload, Variable, Variables
from tests.sandbox.runner.program.script import script
from tests.sandbox.runner.program.sources import SourcesError, get_sources, inside
from tests.sandbox.runner.program.trace import Masker
from tests.sandbox.runner.program.volumes import Volumes, prefix_of


def payload(**more: object) -> Payload:
    return Payload({"id": 1, "token": "glcbt-1", "job_info": {"project_full_path": "root/hello"}, **more})


def test_variables_are_expanded_except_raw_ones_and_unknown_names_are_empty() -> None:
    variables = Variables(
        [
            Variable("A", "1"),
            Variable("B", "$A-${A}-$$A-$NONE."),
            Variable("C", "$A", raw=True),
            Variable("LOOP", "x$LOOP"),
        ]
    )
    assert variables.get("B") == "1-1-$A-."
    assert variables.get("C") == "$A"
    assert variables.get("LOOP").startswith("x")
    assert variables.expand("$C/${B}") == "$A/1-1-$A-."


def test_a_file_variable_is_a_path_for_the_job() -> None:
    variables = Variables([Variable("KEY", "secret $A", file=True), Variable("A", "1")])
    assert variables.environment("/builds/x.tmp") == {"KEY": "/builds/x.tmp/KEY", "A": "1"}
    assert variables.file_values() == {"KEY": "secret $A"}


def test_a_job_cannot_override_variables_of_the_runner() -> None:
    job = payload(variables=[{"key": "CI_PROJECT_DIR", "value": "/etc"}, {"key": "X", "value": "$CI_PROJECT_DIR/x"}])
    variables = job.variables({"token": "glrt-abcdefghijklmno", "environment": ["X=0", "Y=1"]}, 0, "/builds", "")
    assert variables.get("X") == "/builds/root/hello/x"
    assert variables.get("Y") == "1"
    assert variables.get("CI_RUNNER_SHORT_TOKEN") == "abcdefghi"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_secrets_are_masked_however_the_output_is_split(size: int) -> None:
    text = b"a hidden-value b\nglpat-0123456789abcdefghij\nhidden-hidden-value-value hidden-valu"
    masker = Masker(["hidden-value"], ["glpat-"])
    pieces = [masker.feed(text[start : start + size]) for start in range(0, len(text), size)]
    shown = b"".join([*pieces, masker.feed(b"", last=True)])
    assert shown == b"a [MASKED] b\nglpat-[MASKED]\nhidden-[MASKED]-value hidden-valu"


def test_complete_lines_are_shown_at_once() -> None:
    assert Masker(["hidden-value"]).feed(b"one\ntwo\nthr") == b"one\ntwo\n"


def test_a_script_shows_each_command_and_ends_at_the_first_failure(tmp_path: Path) -> None:
    text = script(str(tmp_path), ["echo it\\'s one", "false | true", "echo two"])
    for shell, shown in (("sh", True), ("bash", False)):
        done = subprocess.run([shell, "-c", text], capture_output=True, text=True, check=False)
        assert "$ echo it\\'s one" in done.stdout
        assert "it's one" in done.stdout
        # A shell that knows pipefail fails in the pipe already.
        assert ("\ntwo\n" in done.stdout) == (done.returncode == 0)
        assert shown or done.returncode == 1


def test_a_multiline_command_is_shown_by_its_first_line() -> None:
    text = script("/tmp", ["if true; then\necho yes\nfi"])  # noqa: S108 - not written to
    assert "$ if true; then # collapsed multi-line command" in text


def test_artifacts_match_the_patterns_and_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "a.txt").write_text("a")
    (tmp_path / "out" / "b.log").write_text("b")
    (tmp_path / "out" / "link").symlink_to("/etc/shadow")
    (tmp_path / "other").write_text("c")
    paths = find(tmp_path, ["out/", "../*", "/etc"], ["out/*.log"])
    names = {str(path.relative_to(tmp_path)) for path in paths}
    assert names == {"out", "out/deep", "out/deep/a.txt", "out/link"}
    archive = io.BytesIO()
    make_zip(tmp_path, paths, archive)
    target = tmp_path / "target"
    target.mkdir()
    unpack_zip(archive, target)
    assert (target / "out/deep/a.txt").read_text() == "a"
    assert (target / "out/link").readlink() == Path("/etc/shadow")


def test_an_archive_cannot_escape_through_a_link_left_by_a_job(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (folder / "way").symlink_to(outside)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("way/file", "x")
    with pytest.raises(SourcesError, match="leads out"):
        unpack_zip(archive, folder)
    assert list(outside.iterdir()) == []
    with pytest.raises(SourcesError, match="leads out"):
        inside(folder, "way/root/hello")


def test_a_cache_is_restored_only_under_its_key(tmp_path: Path) -> None:
    project, caches, said = tmp_path / "project", tmp_path / "caches", list[str]()
    (project / "node_modules").mkdir(parents=True)
    (project / "node_modules" / "x").write_text("kept")
    variables = Variables([Variable("CI_COMMIT_REF_SLUG", "main")])
    job = payload(cache=[{"key": "$CI_COMMIT_REF_SLUG", "paths": ["node_modules"], "policy": "pull-push"}])
    save_caches(job, variables, project, caches, said.append, success=True)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    other = Variables([Variable("CI_COMMIT_REF_SLUG", "topic")])
    restore_caches(job, other, fresh, caches, said.append)
    assert list(fresh.iterdir()) == []
    restore_caches(job, variables, fresh, caches, said.append)
    assert (fresh / "node_modules" / "x").read_text() == "kept"


def test_when_decides_which_archives_are_uploaded() -> None:
    assert wanted(None, success=True)
    assert not wanted("on_success", success=False)
    assert wanted("on_failure", success=False)
    assert not wanted("on_failure", success=True)
    assert wanted("always", success=False)


def test_services_have_the_names_of_their_images() -> None:
    assert service_names("docker:29-dind") == ["docker"]
    assert service_names("tutum/wordpress:latest") == ["tutum__wordpress", "tutum-wordpress"]
    assert service_names("gitlab.example.com:5555/a/b@sha256:0") == [
        "gitlab.example.com__a__b",
        "gitlab.example.com-a-b",
    ]


def test_an_image_must_be_on_the_allow_list_if_there_is_one() -> None:
    assert is_allowed("docker:29", None)
    assert is_allowed("docker:29", ["docker:*"])
    assert not is_allowed("evil:1", ["docker:*", "node:*"])


class Engine:
    """An engine with one image, which counts what it pulls, and whose registry answers with another one."""

    def __init__(self, present: str = "") -> None:
        self.pulled: list[str] = []
        self.known = {present: "sha256:old"} if present else {}

    @property
    def images(self) -> Any:
        return self

    @property
    def api(self) -> Any:
        return self

    def get(self, name: str) -> Any:
        if name not in self.known:
            raise docker.errors.ImageNotFound(f"No such image: {name}")
        return SimpleNamespace(attrs={"Id": self.known[name], "RepoDigests": []})

    def pull(self, repository: str, tag: str, **_: object) -> list[dict[str, str]]:
        self.pulled.append(f"{repository}:{tag}")
        if tag == "gone":
            return [{"error": "manifest unknown"}]
        self.known[f"{repository}:{tag}"] = "sha256:new"
        return []


def pulled(engine: Engine, settings: dict[str, Any], *asked: str, name: str = "tools:latest") -> tuple[str, list[str]]:
    """The image that a job gets, and what its log says on the way."""
    said: list[str] = []
    images = Images(cast(DockerClient, engine), settings, payload(), Variables([]))
    return images.get(Image(name, pull_policies=asked), said.append)["Id"], said


def test_a_job_runs_in_the_newest_image_unless_the_runner_says_otherwise() -> None:
    assert pulled(Engine("tools:latest"), {})[0] == "sha256:new"
    image, said = pulled(Engine("tools:latest"), {"pull_policy": ["if-not-present"]})
    assert image == "sha256:old"
    assert said[:2] == [
        "Using effective pull policy of [if-not-present] for container tools:latest",
        'Using locally found image version due to "if-not-present" pull policy',
    ]


def test_a_job_may_ask_for_a_policy_that_the_runner_allows() -> None:
    allowing = {"pull_policy": ["if-not-present"], "allowed_pull_policies": ["always", "if-not-present"]}
    assert pulled(Engine("tools:latest"), allowing, "always")[0] == "sha256:new"
    assert pulled(Engine("tools:latest"), {"allowed_pull_policies": ["always", "never"]}, "never")[0] == "sha256:old"


def test_a_policy_that_the_runner_does_not_allow_is_refused_in_the_words_of_the_real_one() -> None:
    engine = Engine("tools:latest")
    with pytest.raises(PolicyError) as refused:
        pulled(engine, {"pull_policy": ["if-not-present"]}, "always")
    assert str(refused.value) == (
        'invalid pull policy for image "tools:latest": pull_policy ([always]) defined in GitLab pipeline config is not '
        "one of the allowed_pull_policies ([if-not-present])"
    )
    with pytest.raises(PolicyError, match=r"pull_policy \(\[always]\) defined in Runner config is not one of"):
        pulled(engine, {"pull_policy": ["always"], "allowed_pull_policies": ["never"]})
    with pytest.raises(ImageError, match='unsupported pull_policy config: "sometimes"'):
        pulled(engine, {"pull_policy": ["sometimes"]})
    assert engine.pulled == []


def test_the_next_policy_is_tried_when_a_pull_fails() -> None:
    both = {"pull_policy": ["always", "if-not-present"]}
    image, said = pulled(Engine("tools:gone"), both, name="tools:gone")
    assert image == "sha256:old"
    assert 'Attempt #2: Trying "if-not-present" pull policy' in said
    with pytest.raises(ImageError, match=r'failed to pull image "tools:gone" with specified policies \[always]: '):
        pulled(Engine("tools:gone"), {"pull_policy": ["always"]}, name="tools:gone")


def test_an_image_is_pulled_once_for_one_job() -> None:
    engine = Engine()
    images = Images(cast(DockerClient, engine), {}, payload(), Variables([]))
    for _ in range(2):
        images.get(Image("tools:latest"), lambda _: None)
    assert engine.pulled == ["tools:latest"]


def test_services_get_what_the_pipeline_says_and_nothing_of_the_projects_settings() -> None:
    given = [
        {"key": "DOCKER_TLS_CERTDIR", "value": "/certs", "public": True},
        {"key": "DOCKER_TLS_CERTDIR", "value": "", "public": False},
        {"key": "PASSWORD", "value": "hidden-value", "masked": True},
        {"key": "FROM_PROJECT", "value": "x"},
    ]
    variables = payload(variables=given).variables({"environment": ["OF_RUNNER=1"]}, 0, "/builds", "")
    environment = variables.public_environment()
    assert environment["DOCKER_TLS_CERTDIR"] == "/certs"
    assert environment["OF_RUNNER"] == "1"
    assert environment.keys() & {"PASSWORD", "FROM_PROJECT"} == set()
    assert variables.environment("/tmp/x")["DOCKER_TLS_CERTDIR"] == ""  # noqa: S108


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    for words in (["init", "-q", "-b", "main"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        (path / "file").write_text("content\n")
        settings = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *settings, *words], cwd=path, check=True)
    return path


def head(repository: Path) -> str:
    asked = ["git", "rev-parse", "HEAD"]
    return subprocess.run(asked, cwd=repository, check=True, capture_output=True, text=True).stdout.strip()


def git_job(repository: Path, sha: str) -> Payload:
    information = {"repo_url": f"file://{repository}", "sha": sha, "ref": "main", "depth": 20}
    return payload(git_info=information | {"refspecs": ["+refs/heads/main:refs/remotes/origin/main"]})


def test_the_commit_of_the_job_is_cloned_into_a_clean_folder(repository: Path, tmp_path: Path) -> None:
    folder, said = tmp_path / "builds" / "root" / "hello", list[str]()
    folder.mkdir(parents=True)
    (folder / "left").write_text("by a job before")
    sha = head(repository)
    get_sources(git_job(repository, sha), Variables([]), folder, "", said.append)
    assert (folder / "file").read_text() == "content\n"
    assert not (folder / "left").exists()
    assert f"Checking out {sha[:8]} as detached HEAD (ref is main)..." in said
    assert not [line for line in said if str(tmp_path) in line]


def test_a_missing_commit_fails_the_job(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(SourcesError, match="git checkout"):
        get_sources(git_job(repository, "0" * 40), Variables([]), tmp_path / "x", "", list[str]().append)


def test_the_token_of_the_job_is_not_left_in_the_clone(tmp_path: Path, repository: Path) -> None:
    job = git_job(repository, head(repository))
    job.git["repo_url"] = "https://gitlab-ci-token:glcbt-secret@127.0.0.1:1/root/hello.git"
    said = list[str]()
    with pytest.raises(SourcesError, match="git fetch"):
        get_sources(job, Variables([]), tmp_path / "x", "", said.append)
    config = (tmp_path / "x" / ".git" / "config").read_text()
    assert "https://127.0.0.1:1/root/hello.git" in config
    assert "glcbt-secret" not in config


class VolumeEngine:
    """An engine that remembers the volumes that it was asked for."""

    def __init__(self) -> None:
        self.volumes: dict[str, dict[str, str]] = {}

    @property
    def api(self) -> Any:
        return self

    def create_volume(self, name: str, labels: dict[str, str] | None = None) -> None:
        self.volumes.setdefault(name, labels or {})


def volumes_of(job: Payload) -> dict[str, dict[str, str]]:
    engine = VolumeEngine()
    table = {"docker": {"volumes": ["/cache", "/var/lib/docker", "/etc/ssl:/etc/ssl:ro"]}}
    Volumes(cast(DockerClient, engine), table, "runner-x", {"managed": "true"}, protected=job.protected)
    return engine.volumes


def test_jobs_of_protected_refs_have_volumes_of_their_own() -> None:
    protected = volumes_of(payload(git_info={"protected": True}))
    other = volumes_of(payload(git_info={"protected": False}))
    assert len(protected) == len(other) == 3, "the host's folder is no volume"
    assert {name.removesuffix("-protected") for name in protected} == set(other)
    assert all(name.endswith("-protected") for name in protected)
    assert {labels["com.gitlab.gitlab-runner.protected"] for labels in protected.values()} == {"true"}


def test_a_variable_of_the_job_does_not_make_its_volumes_those_of_protected_refs() -> None:
    said = {"key": "CI_COMMIT_REF_PROTECTED", "value": "true"}
    assert not payload(git_info={"protected": False}, variables=[said]).protected
    # A server before 18.3 says nothing else; the first of two is GitLab's own.
    assert payload(variables=[said]).protected
    assert not payload(variables=[said | {"value": "false"}, said]).protected


def test_a_cache_of_protected_refs_brings_their_volumes_with_it() -> None:
    assert payload(git_info={"protected": False}, cache=[{"key": "deps-protected"}]).protected
    assert not payload(git_info={"protected": False}, cache=[{"key": "deps-protected-non_protected"}]).protected


def test_volumes_of_different_runners_machines_projects_and_slots_have_different_names() -> None:
    names = {
        prefix_of(token, machine, project, slot)
        for token in ("glrt-abcdefghijkl-1", "glrt-abcdefghijkl-2")
        for machine in ("s_1", "s_2")
        for project in (1, 2)
        for slot in (0, 1)
    }
    assert len(names) == 16


def test_a_fallback_key_is_not_one_of_protected_refs(tmp_path: Path) -> None:
    project, caches, said = tmp_path / "project", tmp_path / "caches", list[str]()
    project.mkdir()
    (project / "file").write_text("kept")
    for key in ("deps-protected", "deps-non_protected"):
        saving = payload(cache=[{"key": key, "paths": ["file"]}])
        save_caches(saving, Variables([]), project, caches, said.append, success=True)
    reading = payload(cache=[{"key": "other", "paths": ["file"]}])
    for key, found in (("deps-protected", False), ("deps-protected. ", False), ("deps-non_protected", True)):
        fresh = tmp_path / key.strip()
        fresh.mkdir(exist_ok=True)
        restore_caches(reading, Variables([Variable("CACHE_FALLBACK_KEY", key)]), fresh, caches, said.append)
        assert (fresh / "file").exists() == found
    assert 'WARNING: CACHE_FALLBACK_KEY "deps-protected" not allowed to end in "-protected"' in said
