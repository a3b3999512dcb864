"""The rendered pipeline is read at preview as GitLab reads it."""

from __future__ import annotations

import pytest

from components.build_pipeline import pipeline
from components.pipeline_reader import problems
from components.settings import Builder, ExtraStage, SettingsError
from tests.sandbox.gitlab.web.ci import reader
from tests.sandbox.gitlab.web.ci.conditions import Context
from tests.sandbox.gitlab.web.ci.documents import ConfigurationError, Files
from tests.unit.engine import RecordingEngine, run_program

JOB = "{stage: build, script: [make]}"


def stage(name: str, *script: str) -> ExtraStage:
    """A stage that the settings may refuse."""
    return ExtraStage.model_construct(name=name, script=script or ("make",), default_branch_only=True)


@pytest.mark.parametrize("builder", list(Builder))
@pytest.mark.parametrize("mirror", [None, "https://mirror.example.test"])
@pytest.mark.parametrize("stages", [[], [stage("deploy"), stage("🚀 #1: {x} 'y'", 'echo "a"\n- b: c')]])
def test_what_the_settings_accept_has_no_problem(
    builder: Builder, mirror: str | None, stages: list[ExtraStage]
) -> None:
    assert list(problems(pipeline(builder, stages, mirror))) == []


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ([stage("variables")], "it cannot be read (there are two entries called variables)"),
        ([stage("image")], "image is a keyword, not a job"),
        ([stage("cache")], "cache is a keyword, not a job"),
        ([stage("publish"), stage("publish")], "it cannot be read (there are two entries called publish)"),
        ([stage("build")], "it cannot be read (there are two entries called build)"),
        ([stage(".deploy")], "the job .deploy is hidden"),
        ([stage(" ")], "a job has no name"),
        ([stage("x" * 256)], f"the name of the job {'x' * 80}… is too long"),
        ([stage("deploy", "echo \x7f")], "it cannot be read (special characters are not allowed)"),
        ([stage("deploy", "x" * 2**21)], "it has more than 2097152 bytes"),
    ],
)
def test_stages_that_give_a_pipeline_that_cannot_run_are_a_problem(stages: list[ExtraStage], problem: str) -> None:
    assert problem in list(problems(pipeline(Builder.DOCKER, stages, None)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is not a section"),
        ("- a", "it is not a section"),
        (f"stages: [build]\nno: {JOB}", "the job False is not called by a text"),
        (f"stages: [build]\n42: {JOB}", "the job 42 is not called by a text"),
        (f"stages: [build, build]\na: {JOB}", "there are two stages called build"),
        (f"stages: [build, true]\na: {JOB}", "its stages are not a list of names"),
        (f"stages: [build, deploy]\na: {JOB}", "no job is in the stage deploy"),
        ("stages: [build]\na: {stage: test, script: [make]}", "the stage of the job a is none of its stages"),
        ("stages: [build]\na: {stage: build}", "the script of the job a is not a list of commands"),
        ("stages: [build]\na: {stage: build, script: [1]}", "the script of the job a is not a list of commands"),
        ("stages: [build]\na: make", "a is not a job"),
        (
            "stages: [build]\na: {stage: build, script: [make], tags: [arm]}",
            "the job a has tags, which its runners may not have",
        ),
    ],
)
def test_a_pipeline_that_gitlab_refuses_or_never_runs_is_a_problem(text: str, problem: str) -> None:
    assert problem in list(problems(text))


@pytest.mark.parametrize("name", ["variables", "image", "services", "cache", "before_script", "stages", "include"])
def test_the_stand_in_for_gitlab_refuses_the_same_names(name: str) -> None:
    context = Context("main", False, "push", Files(lambda _: None, list), list, {"CI_COMMIT_BRANCH": "main"})
    with pytest.raises(ConfigurationError):
        reader.parse(pipeline(Builder.DOCKER, [stage(name)], None), context)


def test_a_pipeline_that_cannot_run_is_refused_before_anything_is_registered() -> None:
    engine = RecordingEngine()
    stages = [{"name": "deploy", "script": ["x" * 2**21]}]
    projects = [{"path": "hello", "extraStages": stages}]
    with pytest.raises(SettingsError, match=r"projects\[0\]\.extraStages: give a pipeline that GitLab would refuse"):
        run_program(engine=engine, projects=projects, runners=[{}])
    assert [one.name for one in engine.registrations if not one.is_provider] == ["slipway-test"]
