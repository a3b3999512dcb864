"""The reader of `.gitlab-ci.yml`: text and circumstances in, jobs or the linter's words out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.sandbox.gitlab.web.ci import expressions, reader
from tests.sandbox.gitlab.web.ci.conditions import Context
from tests.sandbox.gitlab.web.ci.documents import ConfigurationError, Files, match_paths
from tests.sandbox.gitlab.web.ci.plans import Job, Plan


def plan(
    text: str,
    files: Mapping[str, str] | None = None,
    changes: list[str] | None = None,
    settings: Mapping[str, str] | None = None,
    **more: Any,
) -> Plan:
    known = dict(files or {})
    where: dict[str, Any] = {"ref": "main", "tag": False, "source": "push", **more}
    name = "CI_COMMIT_TAG" if where["tag"] else "CI_COMMIT_BRANCH"
    context = Context(
        files=Files(known.get, lambda: list(known)),
        changes=lambda: changes,
        predefined={name: where["ref"], "CI_DEFAULT_BRANCH": "main", "CI_PIPELINE_SOURCE": where["source"]},
        settings=dict(settings or {}),
        **where,
    )
    return reader.plan(reader.parse(text, context), context)


def names(text: str, **more: Any) -> list[str]:
    return [job.name for job in plan(text, **more).jobs]


def job(text: str, name: str = "job", **more: Any) -> Job:
    [found] = [entry for entry in plan(text, **more).jobs if entry.name == name]
    return found


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("$A", True),
        ("$EMPTY", False),
        ("$MISSING", False),
        ('$A == "one"', True),
        ("$A == 'one' && $B == 'no' || $EMPTY == ''", True),
        ("$A != 'one' || ($B == 'two' && $A)", True),
        ("$MISSING == null", True),
        ("$EMPTY == null", False),
        ("$A =~ /^O/i", True),
        ("$A !~ /^o/", False),
        ("$A =~ $PATTERN", True),
        (r"$PATH_LIKE =~ /^feat\/.+/", True),
    ],
)
def test_a_condition_holds_as_in_gitlab(text: str, holds: bool) -> None:
    known = {"A": "one", "B": "two", "EMPTY": "", "PATTERN": "/^on/", "PATH_LIKE": "feat/x"}
    assert expressions.evaluate(text, known) is holds


@pytest.mark.parametrize("text", ["", "$A ==", "$A = 'x'", "($A", "$A =~ 'x'", "A"])
def test_an_invalid_condition_is_refused(text: str) -> None:
    with pytest.raises(expressions.ExpressionError):
        expressions.check(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "(<unknown>): "),
        ("", "Please provide content of .gitlab-ci.yml"),
        ("stages: [a]", "jobs config should contain at least one visible job"),
        ("job: {}", "jobs:job config should implement the script:, run:, or trigger: keyword"),
        ("job: {script: x, imagee: y}", "jobs:job config contains unknown keys: imagee"),
        ("job: {script: x}\nimages: y", "root config contains unknown keys: images"),
        ("job: {script: {a: b}}", "jobs:job:script config should be a string or a nested array of strings"),
        ("job: {script: x, stage: y}", "job job: chosen stage y does not exist; available stages are .pre, build"),
        ("job: {script: x, needs: [y]}", "job job: undefined need: y"),
        ("job: {script: x, dependencies: [y]}", "job job: undefined dependency: y"),
        (
            "a: {script: x, stage: build, needs: [b]}\nb: {script: x}",
            "need b is not defined in current or prior stages",
        ),
        ("a: {script: x, needs: [b]}\nb: {script: x, needs: [a]}", "circular dependencies"),
        ("job: {script: x, extends: .y}", "job: unknown keys in `extends` (.y)"),
        (".a: {extends: .b}\n.b: {extends: .a}\njob: {script: x, extends: .a}", "circular dependency detected"),
        ("job: {script: x, rules: [{iff: $A}]}", "jobs:job:rules:rule config contains unknown keys: iff"),
        ("job: {script: x, rules: [{if: '$A ='}]}", "jobs:job:rules:rule:if invalid expression syntax"),
        ("job: {script: x, rules: [], only: [main]}", "key may not be used with `rules`: only"),
        ("job: {script: x, services: docker:dind}", "jobs:job:services config should be an array"),
        ("job: {script: x, retry: 3}", "must be between 0 and 2"),
        ("job: {script: x, timeout: soon}", "jobs:job:timeout config should be a duration"),
        ("job: {script: x, when: later}", "when should be one of"),
        ("include: /none.yml\njob: {script: x}", "Local file `none.yml` does not exist!"),
        ("include: {project: a/b, file: c.yml}\njob: {script: x}", "supports only `local`"),
        ("job: {trigger: a/b}", "does not support: trigger"),
        ("job: {script: x, id_tokens: {A: {aud: b}}}", "does not support: id_tokens"),
        ("default: {id_tokens: {A: {aud: b}}}\njob: {script: x}", "does not support: id_tokens"),
        ("job: {script: x, needs: [{job: y, project: a/b, ref: main}]}", "does not support: project, ref"),
        ("include: {local: a.yml, inputs: {a: b}}\njob: {script: x}", "supports only `local`, not `inputs`"),
        ("include: {local: a.yml, rules: [{changes: [b]}]}\njob: {script: x}", "not `changes`"),
        ("job: {script: x, artifacts: {access: everybody}}", "access should be one of: none, developer, all"),
        ("job: {script: x, artifacts: {access: none, public: false}}", "use only one of the following keys"),
        ("job: {script: x, artifacts: {reports: {plan: a}}}", "artifacts:reports config contains unknown keys: plan"),
        ("job: {script: x, rules: [{exists: {paths: [a], project: b}}]}", "contains unknown keys: project"),
        (
            "job: {script: x, rules: [{changes: {paths: [a], compare_to: gone}}]}",
            "Failed to parse rule for job: rules:changes:compare_to is not a valid ref",
        ),
        ("workflow: {auto_cancel: {on_new_commit: all}}\njob: {script: x}", "on new commit must be one of"),
        ("job: {script: x, when: manual, manual_confirmation: 1}", "manual confirmation should be a string"),
        ("job: {script: !reference [.a, script]}", '!reference [".a", "script"] could not be found'),
    ],
)
def test_errors_are_reported_in_the_linters_words(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        plan(text)
    assert words in str(refusal.value)


def test_defaults_apply_to_every_job_that_does_not_override_them() -> None:
    text = """
default: {image: node:22, before_script: [prepare], tags: [docker], retry: 1}
job: {script: x}
own: {script: x, image: {name: docker:28, entrypoint: [""]}, before_script: [], inherit: {default: [image, retry]}}
"""
    assert job(text).options["image"] == {"name": "node:22"}
    assert job(text).options["before_script"] == ["prepare"]
    assert (job(text).tags, job(text).options["retry"]["max"]) == (["docker"], 1)
    own = job(text, "own")
    assert own.options["image"] == {"name": "docker:28", "entrypoint": [""]}
    assert (own.tags, own.options["before_script"]) == ([], [])


def test_extends_references_and_included_files_are_merged() -> None:
    text = """
include: [{local: /ci/base.yml}, {local: ci/more/*.yml, rules: [{if: $CI_COMMIT_BRANCH == "main"}]}]
.mine: {variables: {B: two}}
job:
  extends: [.base, .mine]
  script: [!reference [.steps, script], last]
"""
    files = {
        "ci/base.yml": "include: ci/steps.yml\n.base: {image: node, variables: {A: one, B: one}}",
        "ci/steps.yml": ".steps: {script: [first, second]}",
        "ci/more/x.yml": "extra: {script: x}",
    }
    found = job(text, files=files)
    assert found.options["script"] == ["first", "second", "last"]
    assert {key: entry["value"] for key, entry in found.variables.items()} == {"A": "one", "B": "two"}
    assert names(text, files=files) == ["extra", "job"]
    assert names(text, files=files, ref="other") == ["job"]


def test_stages_run_in_their_order_with_pre_and_post_around() -> None:
    text = """
stages: [two, one]
a: {stage: one, script: x}
b: {stage: two, script: x}
c: {stage: .post, script: x}
d: {stage: .pre, script: x}
"""
    assert names(text) == ["d", "b", "a", "c"]


def test_the_first_matching_rule_decides() -> None:
    text = """
job:
  script: x
  rules:
    - {if: $CI_COMMIT_TAG, when: never}
    - {if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH, variables: {WHERE: main}}
    - {if: $FORCE, when: manual, allow_failure: true}
    - {changes: ["src/**/*.js"], when: always}
    - {exists: [Dockerfile]}
other: {script: x}
"""
    assert names(text, ref="v1", tag=True) == ["other"]
    assert job(text).variables["WHERE"]["value"] == "main"
    manual = job(text, ref="b", settings={"FORCE": "1"}, changes=[])
    assert (manual.when, manual.allow_failure) == ("manual", True)
    assert job(text, ref="b", changes=["src/a/b.js"]).when == "always"
    assert names(text, ref="b", changes=["README"]) == ["other"]
    assert names(text, ref="b", changes=["README"], files={"Dockerfile": "x"}) == ["job", "other"]


def test_only_and_except_work_as_in_older_files() -> None:
    text = """
all: {script: x}
main: {script: x, only: [main]}
tags: {script: x, only: [tags]}
pattern: {script: x, only: [/^rel-.*$/], except: [rel-old]}
never: {script: x, except: [branches, tags]}
said: {script: x, only: {variables: [$SAY == "yes"]}}
"""
    assert names(text) == ["all", "main"]
    assert names(text, ref="v1", tag=True) == ["all", "tags"]
    assert names(text, ref="rel-2") == ["all", "pattern"]
    assert names(text, ref="rel-old") == ["all"]
    assert "said" in names(text, settings={"SAY": "yes"})


def test_a_workflow_can_prevent_a_pipeline_or_give_it_variables() -> None:
    text = """
workflow:
  name: Pipeline for $CI_COMMIT_BRANCH
  rules:
    - {if: $CI_COMMIT_BRANCH == "main", variables: {DEPLOY: production}}
    - {if: $CI_COMMIT_BRANCH =~ /^feat/}
job: {script: x, rules: [{if: $DEPLOY}]}
test: {script: x}
"""
    assert names(text) == ["job", "test"]
    assert plan(text).name == "Pipeline for main"
    assert names(text, ref="feat-1") == ["test"]
    assert plan(text, ref="other").reason == "Pipeline filtered out by workflow rules."
    assert "prevented any jobs" in str(plan("job: {script: x, rules: [{if: $NO}]}").reason)


def test_variables_of_the_project_win_over_those_of_the_file() -> None:
    text = "variables: {A: file}\njob: {script: x, rules: [{if: $A == 'project'}]}"
    assert names(text, settings={"A": "project"}) == ["job"]
    assert names(text) == []


def test_parallel_jobs_are_copies_that_know_their_number() -> None:
    text = """
unit: {script: x, parallel: 2}
build: {script: x, parallel: {matrix: [{OS: [linux, bsd], ARCH: arm}]}}
after: {script: x, stage: deploy, needs: [unit]}
"""
    assert names(text) == ["unit 1/2", "unit 2/2", "build: [linux, arm]", "build: [bsd, arm]", "after"]
    second = job(text, "unit 2/2").variables
    assert (second["CI_NODE_INDEX"]["value"], second["CI_NODE_TOTAL"]["value"]) == ("2", "2")
    assert job(text, "build: [bsd, arm]").variables["OS"]["value"] == "bsd"
    assert [need["job"] for need in job(text, "after").needs or []] == ["unit 1/2", "unit 2/2"]


def test_needing_an_excluded_job_is_an_error_unless_it_is_optional() -> None:
    text = "a: {script: x, rules: [{if: $NO}]}\nb: {script: x, needs: [%s]}"
    with pytest.raises(ConfigurationError, match="'b' job needs 'a' job, but 'a' does not exist in the pipeline"):
        plan(text % "a")
    assert names(text % "{job: a, optional: true}") == ["b"]


def test_durations_are_read_as_people_write_them() -> None:
    for text, seconds in (("3600", 3600), ("1h 30m", 5400), ("3 hours 10 minutes", 11400), ("90 secs", 90)):
        assert job(f"job: {{script: x, timeout: {text}}}").timeout == seconds


def test_paths_are_matched_as_git_users_expect() -> None:
    paths = ["a.js", "src/a.js", "src/b/c.js", "docs/x.md", "a+b.txt"]
    assert match_paths("*.js", paths) == ["a.js"]
    assert match_paths("**/*.js", paths) == ["a.js", "src/a.js", "src/b/c.js"]
    assert match_paths("src/**/*", paths) == ["src/a.js", "src/b/c.js"]
    assert match_paths("{src,docs}/*", paths) == ["src/a.js", "docs/x.md"]
    assert match_paths("a+b.txt", paths) == ["a+b.txt"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no", "jobs:false name should be a symbol"),
        ("On", "jobs:true name should be a symbol"),
        ("42", "jobs:42 name should be a symbol"),
        ("~", "jobs: name should be a symbol"),
        ('" "', "jobs:  name can't be blank"),
        ("a" * 256, f"jobs:{'a' * 256} name is too long (maximum is 255 characters)"),
        ("services", "default:services config should be an array"),
        ("cache", "default:cache config contains unknown keys: script"),
    ],
)
def test_a_name_that_no_job_can_have_is_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan(f"{name}: {{script: [a]}}\njob: {{script: [a]}}")
    assert str(caught.value) == words


@pytest.mark.parametrize("name", ['"no"', '"42"', '"a: b"', "types", "pages", "default", "workflow", "a" * 255])
def test_every_other_name_is_that_of_a_job(name: str) -> None:
    assert names(f"{name}: {{script: [a]}}") == [name.strip('"')]


def test_of_two_jobs_of_one_name_the_last_one_counts() -> None:
    assert job("job: {script: [a]}\njob: {script: [b]}").options["script"] == ["b"]


def test_changes_can_be_those_since_another_branch() -> None:
    text = "job: {script: x, rules: [{changes: {paths: [src/*], compare_to: $BASE}}]}\nother: {script: x}"
    since = {"main": ["src/a"], "next": ["docs/a"]}
    assert names(text, settings={"BASE": "main"}, changes_since=since.get) == ["job", "other"]
    assert names(text, settings={"BASE": "next"}, changes_since=since.get) == ["other"]


def test_a_file_is_included_when_a_rule_of_it_holds() -> None:
    text = "include: {local: more.yml, rules: [{exists: [Dockerfile]}, {if: $MORE == 'no', when: never}, {if: $MORE}]}"
    files = {"more.yml": "more: {script: x}"}
    job = "\njob: {script: x}"
    assert names(text + job, files=files) == ["job"]
    assert names(text + job, files={**files, "Dockerfile": "FROM x"}) == ["more", "job"]
    assert names(text + job, files=files, settings={"MORE": "yes"}) == ["more", "job"]
    assert names(text + job, files=files, settings={"MORE": "no"}) == ["job"]
