"""Images of any application: what the jobs of a project ask of their builder, with tools that take notes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import versions
from components.build_pipeline import pipeline, pipeline_of
from components.settings import Builder, ProjectSettings, SettingsError, SupplyChain
from tests.unit.delivered import delivered
from tests.unit.delivered import pipeline as committed

PUSHED = f"sha256:{'a' * 64}"
IMAGE = "registry.test:5555/team/shop"
#: Notes each word of its command line. A container of it runs the tests for real, in the folder of the project.
TOOL = f"""#!/bin/sh
for word; do printf '%s\\n' "$word"; done >>"$NOTES"
echo --- >>"$NOTES"
case "$*" in
  "push "*) echo "0123: digest: {PUSHED} size: 1609" ;;
  *--digestfile*) echo '{PUSHED}' >digest.txt ;;
  "from "*) echo container ;;
  *" -exc "*) for script; do :; done; exec sh -exc "$script" ;;
esac
"""
MONOREPO: dict[str, Any] = {
    "sample": False,
    "images": [
        {"name": "api", "context": "services/api", "test": {"script": ["go test ./..."], "target": "build"}},
        {"name": "web", "dockerfile": "web/Dockerfile", "target": "runtime"},
    ],
}


class Job:
    """A job of a project's pipeline: its exit code and output, and the command lines of its tools."""

    def __init__(self, folder: Path, name: str, builder: Builder, settings: dict[str, Any], **variables: str):
        tools = folder / "tools"
        tools.mkdir(exist_ok=True)
        for tool in ("docker", "buildah"):
            (tools / tool).write_text(TOOL)
            (tools / tool).chmod(0o755)
        notes = folder / "notes"
        notes.unlink(missing_ok=True)
        environment = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "NOTES": str(notes),
            "CI_REGISTRY_IMAGE": IMAGE,
            "CI_COMMIT_SHA": "1" * 40,
            "CI_COMMIT_REF_NAME": "main",
            "CI_COMMIT_REF_SLUG": "main",
            "CI_COMMIT_REF_PROTECTED": "true",
            "CI_COMMIT_BRANCH": "main",
            "CI_DEFAULT_BRANCH": "main",
            "CI_JOB_ID": "7",
            **variables,
        }
        project = folder / "project"
        project.mkdir(exist_ok=True)
        script = "\n".join(["set -e", *document(settings, builder)[name]["script"]])
        done = subprocess.run(
            ["sh", "-c", script], cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        self.code, self.output = done.returncode, done.stdout + done.stderr
        lines = notes.read_text() if notes.exists() else ""
        self.calls = [call.splitlines() for call in lines.split("---\n") if call]

    @property
    def build(self) -> list[str]:
        """The words of the build command, without the cache."""
        [words] = [call for call in self.calls if call[0] == "build"]
        return words


def document(settings: dict[str, Any], builder: Builder = Builder.DOCKER) -> Any:
    """The pipeline of a project, as YAML has it."""
    project = ProjectSettings.model_validate({"path": "shop", **settings})
    return yaml.safe_load(pipeline_of(project, builder, None, None, SupplyChain()))


def files(folder: Path, *paths: str) -> None:
    for path in paths:
        file = folder / "project" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("FROM scratch\n")


@pytest.mark.parametrize("builder", list(Builder))
def test_the_pipeline_of_the_sample_is_what_it_was_before_projects_had_images(builder: Builder) -> None:
    kept = Path(__file__).with_name(f"sample.{builder}.gitlab-ci.yml").read_text(encoding="utf-8")
    kept = kept.replace("DOCKER_VERSION", versions.DOCKER).replace("BUILDAH_IMAGE", versions.BUILDAH_IMAGE)
    assert pipeline(builder, (), None) == kept
    assert pipeline_of(ProjectSettings.model_validate({"path": "hello"}), builder, None, None, SupplyChain()) == kept


def test_only_the_sample_is_tested_with_npm_unless_a_project_says_so() -> None:
    assert "npm test" in str(document({})["test"])
    untested: list[dict[str, Any]] = [{"sample": False}, {"test": {}}, {"test": {"script": []}}]
    for settings in [*untested, {"importId": "4", "pipeline": True}]:
        text = document(settings)
        assert text["stages"] == ["build", "release"]
        assert "test" not in text
    assert "npm test" in str(document({"sample": False, "test": {"script": ["npm test"]}})["test"])


@pytest.mark.parametrize("builder", list(Builder))
def test_each_image_of_a_repository_has_jobs_a_repository_and_a_digest_of_its_own(builder: Builder) -> None:
    text = document(MONOREPO, builder)
    assert [name for name in text if "script" in text[name]] == ["build:api", "build:web", "test:api", "release"]
    assert [text[f"build:{name}"]["artifacts"]["paths"] for name in ("api", "web")] == [
        ["image-api.txt"],
        ["image-web.txt"],
    ]
    release = "\n".join(text["release"]["script"])
    for name in ("api", "web"):
        assert f"$CI_REGISTRY_IMAGE/{name}:latest" in release
        assert f"$(cat image-{name}.txt)" in release


def test_an_image_without_a_name_has_the_path_of_its_project() -> None:
    text = document({"sample": False, "images": [{}, {"name": "worker", "dockerfile": "Dockerfile.worker"}]})
    assert [name for name in text if "script" in text[name]] == ["build", "build:worker", "release"]
    assert text["build"]["artifacts"]["paths"] == ["image.txt"]


@pytest.mark.parametrize("builder", list(Builder))
def test_the_builder_gets_every_setting_as_it_is_written(tmp_path: Path, builder: Builder) -> None:
    build = {
        "dockerfile": "my files/Docker'file",
        "context": "a b",
        "target": "runtime",
        "args": {"VERSION": "v-$CI_COMMIT_SHA it's ${CI_JOB_ID}", "PRICE": "$$5 `id` $(id)", "EMPTY": ""},
        "secrets": ["NPM_TOKEN"],
        "platforms": ["linux/amd64", "linux/arm64"],
        "labels": {"service": "shop", "org.opencontainers.image.revision": "$CI_COMMIT_SHA it's"},
    }
    files(tmp_path, "my files/Docker'file", "a b/x")
    job = Job(tmp_path, "build", builder, {"sample": False, "build": build})
    assert job.code == 0, job.output
    words = job.build
    given = [
        "--target", "runtime", "--platform", "linux/amd64,linux/arm64", "--label", "service=shop", "--label",
        f"org.opencontainers.image.revision={'1' * 40} it's", "--file", "my files/Docker'file", "--build-arg",
        f"VERSION=v-{'1' * 40} it's 7", "--build-arg", "PRICE=$5 `id` $(id)", "--build-arg", "EMPTY=", "--secret",
        "id=NPM_TOKEN,env=NPM_TOKEN",
    ]  # fmt: skip
    assert words[words.index("--target") :][: len(given)] == given
    assert words[-1] == "a b"


@pytest.mark.parametrize("builder", list(Builder))
def test_the_dockerfile_of_a_context_is_in_it(tmp_path: Path, builder: Builder) -> None:
    files(tmp_path, "services/api/Dockerfile")
    words = Job(tmp_path, "build:api", builder, MONOREPO).build
    assert words[words.index("--file") + 1] == "services/api/Dockerfile"
    assert words[-1] == "services/api"


@pytest.mark.parametrize("builder", list(Builder))
def test_a_repository_without_a_dockerfile_is_told_what_to_do_before_anything_is_built(
    tmp_path: Path, builder: Builder
) -> None:
    job = Job(tmp_path, "build", builder, {"sample": False})
    assert (job.code, job.calls) == (1, [])
    assert "error: this commit has no file Dockerfile, and the image is built from it" in job.output
    assert "Commit one" in job.output
    files(tmp_path, "docker/app.Dockerfile", ".git/Dockerfile")
    job = Job(tmp_path, "build", builder, {"sample": False})
    assert job.code == 1
    assert "Set build.dockerfile of this project in the stack file to one of these" in job.output
    assert "./docker/app.Dockerfile" in job.output
    assert ".git/" not in job.output


def test_a_context_that_is_no_folder_is_named(tmp_path: Path) -> None:
    files(tmp_path, "Dockerfile")
    job = Job(
        tmp_path, "build", Builder.DOCKER, {"sample": False, "build": {"context": "app", "dockerfile": "Dockerfile"}}
    )
    assert (job.code, job.calls) == (1, [])
    assert "error: this commit has no folder app" in job.output
    assert "Correct build.context" in job.output


@pytest.mark.parametrize("builder", list(Builder))
def test_tests_run_in_one_shell_in_the_image_and_end_at_the_first_failure(tmp_path: Path, builder: Builder) -> None:
    script = ["greeting='it'\"'\"'s one'", 'echo "$greeting"', "if true\nthen echo two; fi"]
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "image.txt").write_text(f"{IMAGE}@{PUSHED}\n")
    passed = Job(tmp_path, "test", builder, {"test": {"script": script}})
    assert passed.code == 0, passed.output
    assert "it's one\ntwo\n" in "\n".join(line for line in passed.output.splitlines() if line[0] != "+") + "\n"
    assert any(f"{IMAGE}@{PUSHED}" in call for call in passed.calls), "what will be released is tested"
    failed = Job(tmp_path, "test", builder, {"test": {"script": ["false", "echo never"]}})
    assert failed.code == 1
    assert "never\n" not in failed.output


@pytest.mark.parametrize("builder", list(Builder))
def test_an_image_without_the_tools_of_its_tests_is_explained(tmp_path: Path, builder: Builder) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "image.txt").write_text(f"{IMAGE}@{PUSHED}\n")
    job = Job(tmp_path, "test", builder, {"test": {"script": ["no-such-tool"]}})
    assert job.code == 127
    assert "error: the image has no shell, or lacks a command of the tests." in job.output
    assert "test.target" in job.output


@pytest.mark.parametrize("builder", list(Builder))
def test_tests_can_run_in_another_stage_of_the_dockerfile(tmp_path: Path, builder: Builder) -> None:
    build = {"target": "runtime", "args": {"A": "1"}, "labels": {"service": "shop"}, "platforms": ["linux/amd64"]}
    settings = {"sample": False, "build": build}
    job = Job(tmp_path, "test", builder, {**settings, "test": {"script": ["echo tested"], "target": "build"}})
    assert job.code == 0, job.output
    assert "tested\n" in job.output
    words = job.build
    assert words[words.index("--target") + 1] == "build"
    assert "A=1" in words
    # Only what is released is labeled.
    assert not {"runtime", "service=shop"} & set(words)


def test_a_masked_variable_is_not_in_a_label() -> None:
    variables = {"CONFIG": {"value": "example-of-a-value", "masked": True}}
    with pytest.raises(SettingsError, match=r"projects\[0\]\.build\.labels: a has CONFIG, which is a masked variable"):
        delivered({"variables": variables, "build": {"labels": {"a": "x-${CONFIG}"}}})


def test_a_masked_variable_is_not_a_build_argument() -> None:
    variables = {"CONFIG": {"value": "example-of-a-value", "masked": True}}
    build = {"args": {"SETTINGS": "x-${CONFIG}"}}
    with pytest.raises(
        SettingsError, match=r"projects\[0\]\.build\.args: SETTINGS has CONFIG, which is a masked"
    ) as no:
        delivered({"variables": variables, "build": build})
    assert "Add CONFIG to secrets" in str(no.value)
    shown = {"CONFIG": {"value": "example-of-a-value", "masked": False}}
    assert "x-" in str(committed(delivered({"variables": shown, "build": build}))["build"]["script"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"build": {}, "images": [{"name": "api"}]}, "has build and images"),
        ({"test": {}, "images": [{"name": "api"}]}, "has test and images"),
        ({"build": {}, "pipeline": False}, "has build, but not the stack's pipeline"),
        ({"images": [{"name": "api"}], "pipeline": False}, "has images, but not the stack's pipeline"),
        ({"build": {"platforms": ["linux/arm64"]}}, "has tests, but not the platform linux/amd64"),
        (
            {"images": [{"name": "api"}], "extraStages": [{"name": "test:api", "script": ["true"]}]},
            "test:api is the job of an image",
        ),
    ],
)
def test_settings_of_images_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        delivered(settings)
    [line] = refused.value.errors
    assert message in line


def test_a_stack_says_which_images_its_projects_have() -> None:
    [output] = delivered(MONOREPO).exports["projects"]
    assert output["images"] == [f"gitlab.example.test:5555/root/hello/{name}" for name in ("api", "web")]
    assert output["docker_pull"] == "docker pull gitlab.example.test:5555/root/hello/api:latest"
    assert output.get("docker_run") is None
    [sample] = delivered().exports["projects"]
    assert "images" not in sample
