"""What a developer, a maintainer and a job can do with protected branches, as GitLab decides it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabError

from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest

pytestmark = pytest.mark.usefixtures("emptied")

JOB = "job:\n  script: [make]\n  cache: [{key: deps, paths: [deps]}, {key: shared, paths: [x], unprotect: true}]\n"
ROUTED = """
workflow:
  rules:
    - if: $CI_COMMIT_REF_PROTECTED == "true"
      variables: {KIND: release}
    - when: always
variables: {KIND: ""}
job:
  tags: [$KIND]
  script: [make]
"""
WRONG_NAMES = [
    "a..b",
    "a b",
    "~x",
    "x.lock",
    "/a",
    "a/",
    "-x",
    "a\0b",
    "a@{b",
    "a\\b",
    "a//b",
    ".a",
    "a:b",
    " ",
    "a\nb",
]


def developer_of(instance: Instance, project: Any) -> Any:
    number, other = instance.new_user()
    project.members.create({"user_id": number, "access_level": gitlab.const.AccessLevel.DEVELOPER})
    return other.projects.get(project.id)


def refused(failing: Callable[..., object], *arguments: Any) -> tuple[int | None, str]:
    with pytest.raises(GitlabError) as refusal:
        failing(*arguments)
    return refusal.value.response_code, str(refusal.value.error_message)


def test_what_git_does_not_take_as_a_branch_is_refused_everywhere(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    actions = [{"action": "create", "file_path": "x", "content": "x"}]
    for name in WRONG_NAMES:
        assert refused(project.branches.create, {"branch": name, "ref": "main"}) == (400, "Branch name is invalid")
        change = {"branch": name, "start_branch": "main", "commit_message": "Change", "actions": actions}
        words = f"Something went wrong when we tried to create '{name}' for you: Branch name is invalid"
        assert refused(project.commits.create, change) == (400, words)
        assert refused(project.tags.create, {"tag_name": name, "ref": "main"}) == (400, "Tag name invalid")


def test_a_project_with_a_wrong_default_branch_is_refused_and_leaves_nothing(client: gitlab.Gitlab) -> None:
    for name in set(WRONG_NAMES) - {"-x"}:
        data = {"name": "hello", "initialize_with_readme": True, "default_branch": name}
        code, words = refused(client.projects.create, data)
        assert (code, "Failed to create repository" in words) == (400, True), name
    assert client.projects.list(get_all=True) == []


def test_a_developer_can_do_nothing_that_changes_a_protected_branch(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    commit(project, {".gitlab-ci.yml": JOB})
    theirs = developer_of(instance, project)
    push = "You are not allowed to push into this branch"
    assert refused(commit, theirs, {"x": "y"})[1].endswith(push)
    assert refused(
        theirs.files.create, {"file_path": "z", "branch": "main", "content": "z", "commit_message": "z"}
    ) == (
        400,
        push,
    )
    assert refused(theirs.branches.delete, "main")[0] == 405
    starting = refused(theirs.pipelines.create, {"ref": "main"})
    assert (starting[0], "sufficient permission to run a pipeline on 'main'" in starting[1]) == (400, True)
    plan = {"description": "nightly", "ref": "main", "cron": "0 1 * * *"}
    assert "not authorized to create the pipeline schedule" in refused(theirs.pipelineschedules.create, plan)[1]
    assert refused(theirs.protectedbranches.delete, "main")[0] == 403
    assert refused(theirs.protectedbranches.create, {"name": "feature"})[0] == 403
    assert refused(theirs.variables.list)[0] == 403
    assert refused(theirs.runners.list)[0] == 403
    commit(theirs, {"x": "y"}, branch="feature")
    request = theirs.mergerequests.create({"source_branch": "feature", "target_branch": "main", "title": "x"})
    assert refused(request.merge)[0] == 401


def test_a_developer_can_not_make_the_default_branch_theirs(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    theirs = developer_of(instance, project)
    theirs.default_branch = "feature"
    assert refused(theirs.save)[0] == 403
    theirs = developer_of(instance, project)
    theirs.ci_separated_caches = False
    assert refused(theirs.save)[0] == 403


def test_caches_of_protected_branches_and_of_maintainers_are_out_of_a_developers_reach(
    client: gitlab.Gitlab, instance: Instance
) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    theirs = developer_of(instance, project)

    def keys() -> list[str]:
        job = runner.take()
        job.succeed()
        return [cache["key"] for cache in job.payload["cache"]]

    commit(project, {".gitlab-ci.yml": JOB})
    assert keys() == ["deps-protected", "shared-non_protected"]
    commit(project, {".gitlab-ci.yml": JOB}, branch="of-a-maintainer")
    assert keys() == ["deps-protected", "shared-non_protected"]
    forged = JOB.replace("key: deps", "key: deps-protected")
    commit(theirs, {".gitlab-ci.yml": forged}, branch="of-a-developer")
    assert keys() == ["deps-protected-non_protected", "shared-non_protected"]
    project.ci_separated_caches = False
    project.save()
    commit(theirs, {".gitlab-ci.yml": forged}, branch="of-a-developer")
    assert keys() == ["deps-protected", "shared"]


def test_a_tag_that_a_variable_names_sends_jobs_of_protected_branches_to_a_runner_of_their_own(
    client: gitlab.Gitlab,
) -> None:
    project = make_project(client)
    common = make_runner(client, project)
    release = make_runner(client, project, access_level="ref_protected", tag_list="release", run_untagged=False)
    commit(project, {".gitlab-ci.yml": ROUTED})
    assert newest(project).jobs.list()[0].tag_list == ["release"]
    assert common.request() is None
    release.take().succeed()
    commit(project, {".gitlab-ci.yml": ROUTED}, branch="feature")
    assert release.request() is None
    common.take().succeed()
    unknown = ROUTED.replace('variables: {KIND: ""}', "")
    commit(project, {".gitlab-ci.yml": unknown}, branch="feature")
    assert newest(project).jobs.list()[0].tag_list == ["$KIND"]


def test_a_job_of_a_protected_branch_may_run_on_any_runner_of_its_project(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    common = make_runner(client, project)
    make_runner(client, project, access_level="ref_protected")
    commit(project, {".gitlab-ci.yml": "job:\n  script: [make]\n"})
    assert common.take().payload["git_info"]["protected"] is True


def test_the_access_level_of_a_runner_is_changed_in_place_and_refused_if_unknown(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    make_runner(client, project, access_level="ref_protected")
    [entry] = project.runners.list(get_all=True)
    assert client.runners.get(entry.id).access_level == "ref_protected"
    client.runners.update(entry.id, {"access_level": "not_protected"})
    assert client.runners.get(entry.id).access_level == "not_protected"
    assert refused(client.runners.update, entry.id, {"access_level": "protected"})[0] == 400


def test_git_refuses_a_developer_what_the_api_refuses(
    client: gitlab.Gitlab, instance: Instance, tmp_path: Path
) -> None:
    project = make_project(client)
    number, _ = instance.new_user("dev")
    project.members.create({"user_id": number, "access_level": gitlab.const.AccessLevel.DEVELOPER})
    token = instance.new_token(["write_repository"], username="dev")
    url = instance.url.replace("://", f"://dev:{token}@") + f"/{project.path_with_namespace}.git"

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        settings = ["-c", "user.name=d", "-c", "user.email=d@example.com"]
        return subprocess.run(["git", *settings, *words], cwd=tmp_path, capture_output=True, text=True, check=False)

    git("clone", "-q", url, ".")
    git("commit", "-q", "--allow-empty", "-m", "Mine")
    push = git("push", "origin", "HEAD:main")
    assert "not allowed to push code to protected branches" in push.stderr
    git("reset", "-q", "--hard", "HEAD~1")
    git("commit", "-q", "--amend", "-m", "Rewritten")
    assert "not allowed to force push code to a protected branch" in git("push", "-f", "origin", "HEAD:main").stderr
    assert "default branch of a project cannot be deleted" in git("push", "origin", ":main").stderr
    assert git("push", "origin", "HEAD:feature").returncode == 0
