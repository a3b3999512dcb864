"""The program's scripts that leave in GitLab what is there already, against the stand-in."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.project import sample_application
from components.rendering import script
from tests.sandbox_tests.support.gitlab_instance import Instance

pytestmark = pytest.mark.new_instance

#: In the place of the library's function that speaks TLS to the machine that it runs on.
PLAIN_HTTP = """
gitlab_api() {
  local path=$1 body=$2
  shift 2
  curl --silent --header "PRIVATE-TOKEN: $API_TOKEN" --output "$body" --write-out '%{http_code}' \
    "$@" "$GITLAB_URL/api/v4/$path" || true
}
"""
PIPELINE = "build:\n  script: [\"echo 'a $b'\"]\n"


@pytest.fixture
def project(instance: Instance) -> Any:
    return instance.client().projects.create({"name": "hello", "initialize_with_readme": True})


def run(instance: Instance, file: str, **values: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the program as a machine does."""
    known = {"API_TOKEN": instance.token, "GITLAB_URL": instance.url, "LIMIT_SECONDS": "60", **values}
    text = "\n".join([script("prelude.sh"), script("gitlab.sh"), PLAIN_HTTP, script(file), "main </dev/null"])
    return subprocess.run(
        ["bash", "-s"], input=text, capture_output=True, text=True, check=False, env={**PATH, **known}
    )


PATH = {"PATH": "/usr/bin:/bin"}


def commits(project: Any) -> list[str]:
    return [commit.title for commit in project.commits.list(get_all=True)]


def commit_pipeline(instance: Instance, project: Any, text: str, **values: str) -> subprocess.CompletedProcess[str]:
    known = {"BRANCH": "main", "FILE": ".gitlab-ci.yml", "PROJECT_ID": str(project.id), **values}
    return run(instance, "commit-pipeline.sh", PIPELINE=text, **known)


def test_a_pipeline_is_committed_once_and_again_only_when_it_differs(instance: Instance, project: Any) -> None:
    for text in (PIPELINE, PIPELINE, f"# Ours.\n{PIPELINE}", f"# Ours.\n{PIPELINE}"):
        done = commit_pipeline(instance, project, text)
        assert done.returncode == 0, done.stderr
        assert project.files.raw(file_path=".gitlab-ci.yml", ref="main").decode() == text
    assert commits(project)[:-1] == ["Change the pipeline", "Add the pipeline"]


def test_a_pipeline_that_somebody_deleted_is_committed_again(instance: Instance, project: Any) -> None:
    commit_pipeline(instance, project, PIPELINE)
    project.files.delete(file_path=".gitlab-ci.yml", branch="main", commit_message="Remove it")
    assert commit_pipeline(instance, project, PIPELINE).returncode == 0
    assert commits(project)[:2] == ["Add the pipeline", "Remove it"]


@pytest.mark.parametrize(
    "values", [{"PROJECT_ID": "99"}, {"API_TOKEN": "glpat-none"}, {"GITLAB_URL": "http://[::1]:1"}]
)
def test_a_pipeline_that_cannot_be_committed_ends_the_step_with_its_cause(
    instance: Instance, project: Any, values: dict[str, str]
) -> None:
    done = commit_pipeline(instance, project, PIPELINE, **values)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert commits(project) == ["Initial commit"]


def seed(instance: Instance, project: Any) -> None:
    files = sample_application()
    actions = [
        {"action": "update" if path == "README.md" else "create", "file_path": path, "content": content}
        for path, content in files.items()
    ]
    commit = {"branch": "main", "commit_message": "Add the sample application", "actions": actions}
    done = run(instance, "seed-project.sh", COMMIT=json.dumps(commit), PROJECT_ID=str(project.id))
    assert (done.returncode, done.stdout) == (0, "seeded\n"), done.stderr


def test_the_sample_is_committed_to_a_project_that_has_no_files_of_its_developers(
    instance: Instance, project: Any
) -> None:
    commit_pipeline(instance, project, PIPELINE)
    for _ in range(2):
        seed(instance, project)
    assert commits(project) == ["Add the sample application", "Add the pipeline", "Initial commit"]


def test_developers_who_replaced_the_sample_do_not_get_it_back(instance: Instance, project: Any) -> None:
    seed(instance, project)
    actions = [{"action": "delete", "file_path": path} for path in sample_application() if path != "README.md"]
    actions += [{"action": "create", "file_path": "main.go", "content": "package main\n"}]
    project.commits.create({"branch": "main", "commit_message": "Rewrite it in Go", "actions": actions})
    seed(instance, project)
    assert commits(project)[0] == "Rewrite it in Go"


def token_of(project: Any, **changes: Any) -> Any:
    given = {"name": "pull", "username": "hello-pull", "scopes": ["read_registry"], **changes}
    return project.deploytokens.create(given)


def keep(instance: Instance, tree: Path, tmp_path: Path, project: Any, number: int) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "keep.rb"
    program.write_text(script("keep-deploy-tokens.rb"))
    return instance.runner(tree, str(program), f"{project.id}:{number}\n")


def test_a_deploy_token_takes_over_the_value_of_its_predecessor(
    instance: Instance, tree: Path, tmp_path: Path, project: Any
) -> None:
    oldest, older = token_of(project), token_of(project)
    others = [
        token_of(project, scopes=["read_repository"]),
        token_of(project, name="ci"),
        token_of(project, username="x"),
    ]
    new = token_of(project)
    for _ in range(2):
        done = keep(instance, tree, tmp_path, project, new.id)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == {f"{project.id}:{new.id}": older.token}
    assert {one.id for one in project.deploytokens.list(get_all=True)} == {new.id, *(one.id for one in others)}
    works = {value: registry_login(instance, "hello-pull", value) for value in (oldest.token, older.token, new.token)}
    assert works == {oldest.token: False, older.token: True, new.token: False}


def test_a_deploy_token_without_a_predecessor_keeps_its_own_value(
    instance: Instance, tree: Path, tmp_path: Path, project: Any
) -> None:
    revoked = token_of(project)
    instance.execute("UPDATE deploy_tokens SET revoked = 1 WHERE id = ?", revoked.id)
    token_of(project, expires_at="2020-01-01")
    new = token_of(project)
    done = keep(instance, tree, tmp_path, project, new.id)
    assert json.loads(done.stdout) == {f"{project.id}:{new.id}": new.token}
    assert registry_login(instance, "hello-pull", revoked.token) is False


def test_a_deploy_token_that_is_gone_is_named(instance: Instance, tree: Path, tmp_path: Path, project: Any) -> None:
    token = token_of(project)
    token.delete()
    done = keep(instance, tree, tmp_path, project, token.id)
    assert done.returncode == 1
    assert f"error: deploy token {token.id} of project {project.id} was deleted in GitLab" in done.stderr


def registry_login(instance: Instance, username: str, password: str) -> bool:
    """Whether GitLab gives out a token for its registry."""
    done = subprocess.run(
        ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--config", "-",
         f"{instance.url}/jwt/auth?service=container_registry"],
        input=f'user = "{username}:{password}"', capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout == "200"
