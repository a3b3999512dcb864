"""Projects of the GitLab stand-in with their pipelines, as a user with python-gitlab makes and sees them."""

from __future__ import annotations

from typing import Any

import gitlab
from gitlab.v4.objects import Project

from tests.sandbox.gitlab.web.core import db, job_tokens
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_runner_client import Runner

TUTORIAL = """
image: docker:latest
services:
- docker:dind
stages:
- build
- test
- release
variables:
  TEST_IMAGE: gitlab.example.com:5555/root/hello:$CI_COMMIT_REF_NAME
  RELEASE_IMAGE: gitlab.example.com:5555/root/hello:latest
before_script:
  - docker login -u gitlab-ci-token -p $CI_JOB_TOKEN gitlab.example.com:5555
build:
  stage: build
  script:
    - docker build --pull -t $TEST_IMAGE .
    - docker push $TEST_IMAGE
test:
  stage: test
  script:
    - docker pull $TEST_IMAGE
    - docker run $TEST_IMAGE npm test
release:
  stage: release
  script:
    - docker pull $TEST_IMAGE
    - docker tag $TEST_IMAGE $RELEASE_IMAGE
    - docker push $RELEASE_IMAGE
  only:
    - main
"""


def make_project(client: gitlab.Gitlab, name: str = "hello", **more: Any) -> Any:
    return client.projects.create(
        {"name": name, "initialize_with_readme": True, "shared_runners_enabled": False, **more}
    )


def commit(project: Any, files: dict[str, str], branch: str = "main", message: str = "Change") -> Any:
    there = branch in {found.name for found in project.branches.list(get_all=True)}
    tree = project.repository_tree(recursive=True, get_all=True, ref=branch if there else "main")
    known = {entry["path"] for entry in tree}
    actions = [
        {"action": "update" if path in known else "create", "file_path": path, "content": content}
        for path, content in files.items()
    ]
    data = {"branch": branch, "commit_message": message, "actions": actions}
    if not there:
        data["start_branch"] = "main"
    return project.commits.create(data)


def make_runner(client: gitlab.Gitlab, project: Any, **more: Any) -> Runner:
    wanted = {"runner_type": "project_type", "project_id": project.id, "description": "docker-builder", **more}
    made = client.http_post("/user/runners", post_data=wanted)
    assert isinstance(made, dict)
    return Runner(client.url, made["token"])


def statuses(pipeline: Any) -> dict[str, str]:
    return {job.name: job.status for job in pipeline.jobs.list(get_all=True)}


def newest(project: Any) -> Any:
    return project.pipelines.get(project.pipelines.list(per_page=1, get_all=False)[0].id)


def running_job(instance: Instance, project: Project, user_id: int = 1) -> str:
    """A job of the project that a runner has taken; its token."""
    now = db.now()
    with db.connect(instance.config.database) as connection:
        pipeline = db.insert(
            connection,
            "ci_pipelines",
            iid=1,
            project_id=project.id,
            user_id=user_id,
            ref="main",
            sha="0" * 40,
            before_sha="0" * 40,
            source="push",
            status="running",
            created_at=now,
            updated_at=now,
        )
        job = db.insert(
            connection,
            "ci_jobs",
            pipeline_id=pipeline,
            project_id=project.id,
            user_id=user_id,
            name="build",
            stage="build",
            stage_index=0,
            status="running",
            options="{}",
            timeout=3600,
            created_at=now,
        )
        return job_tokens.issue(connection, instance.config, job)
