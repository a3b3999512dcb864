"""Protected tags and repositories of the container registry: rules, and whom they keep from pushing and deleting."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from gitlab.exceptions import GitlabError

from tests.sandbox.gitlab.web.core import access, cleanup
from tests.sandbox_tests.support.gitlab_projects import running_job
from tests.sandbox_tests.support.gitlab_registry import Place, gitlab_with_registry
from tests.sandbox_tests.support.registry_service import Client, Registry, error_of, folder, signer

pytestmark = pytest.mark.real_time("the distribution is written in Go")

LAYER = b"layer " * 1000
MAINTAINERS = {"minimum_access_level_for_push": "maintainer", "minimum_access_level_for_delete": "maintainer"}
RELEASED = {"tag_name_pattern": "^(?:latest|main)$", **MAINTAINERS}
PROTECTED = (401, "PROTECTED_TAG", "insufficient permissions to push or delete protected tag")
NOT_FOUND = (
    "The resource that you are attempting to access does not exist or you don't have permission to perform this action"
)
LIST = """
query ($path: ID!) {
  project(fullPath: $path) {
    containerProtectionTagRules(first: 100) {
      nodes { id tagNamePattern minimumAccessLevelForPush minimumAccessLevelForDelete immutable }
    }
  }
}
"""
CREATE = """
mutation ($input: createContainerProtectionTagRuleInput!) {
  createContainerProtectionTagRule(input: $input) { errors }
}
"""
DELETE = """
mutation ($input: DeleteContainerProtectionTagRuleInput!) {
  deleteContainerProtectionTagRule(input: $input) { errors }
}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with gitlab_with_registry(tmp_path_factory.mktemp("place")) as found:
        yield found


@pytest.fixture
def project(place: Place) -> Any:
    """A project whose tags `latest` and `main` are for maintainers."""
    made = place.project()
    tag_rules(place, made, **RELEASED)
    return made


def path_of(project: Any, kind: str = "tag") -> str:
    return f"/projects/{project.id}/registry/protection/{kind}/rules"


def tag_rules(place: Place, project: Any, client: Any = None, **rule: str) -> Any:
    """Make a rule; None, and only the list, without one."""
    client = client or place.instance.client()
    return client.http_post(path_of(project), post_data=rule) if rule else client.http_get(path_of(project))


def repository_rules(place: Place, project: Any, client: Any = None, **rule: str) -> Any:
    client = client or place.instance.client()
    path = path_of(project, "repository")
    return client.http_post(path, post_data=rule) if rule else client.http_get(path)


def refusal(action: Any) -> tuple[int | None, str]:
    with pytest.raises(GitlabError) as found:
        action()
    return found.value.response_code, str(found.value.error_message)


def graphql(place: Place, query: str, client: Any = None, **variables: Any) -> Any:
    token = (client or place.instance.client()).private_token
    answer = httpx.post(
        f"{place.instance.url}/api/graphql",
        json={"query": query, "variables": variables},
        headers={"authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def push(place: Place, login: tuple[str, str], repository: str, tag: str) -> httpx.Response:
    with place.client(login, repository, "pull,push") as client:
        return client.put(tag, client.image(LAYER))


def test_without_a_rule_the_job_of_a_developer_on_any_branch_can_push_latest(place: Place) -> None:
    project = place.project()
    user_id, _, _ = place.member(project, access.DEVELOPER)
    job = ("gitlab-ci-token", running_job(place.instance, project, user_id))
    assert push(place, job, project.path_with_namespace, "latest").status_code == 201


def test_a_developer_and_their_jobs_cannot_push_a_protected_tag_to_any_repository(place: Place, project: Any) -> None:
    user_id, _, login = place.member(project, access.DEVELOPER)
    job = ("gitlab-ci-token", running_job(place.instance, project, user_id))
    for one in (login, job):
        for repository in (project.path_with_namespace, f"{project.path_with_namespace}/cache"):
            assert error_of(push(place, one, repository, "latest")) == PROTECTED
            assert error_of(push(place, one, repository, "main")) == PROTECTED
            assert push(place, one, repository, "latest-try").status_code == 201


def test_maintainers_administrators_and_their_jobs_can_push_a_protected_tag(place: Place, project: Any) -> None:
    user_id, _, login = place.member(project, access.MAINTAINER)
    jobs = [("gitlab-ci-token", running_job(place.instance, project, who)) for who in (user_id, 1)]
    for one in (login, ("any", place.instance.token), *jobs):
        assert push(place, one, project.path_with_namespace, "latest").status_code == 201


def test_a_rule_for_owners_keeps_maintainers_out_and_one_for_administrators_owners(place: Place) -> None:
    project = place.project()
    levels = {"minimum_access_level_for_push": "owner", "minimum_access_level_for_delete": "admin"}
    tag_rules(place, project, tag_name_pattern="^v", **levels)
    _, _, maintainer = place.member(project, access.MAINTAINER)
    _, _, owner = place.member(project, access.OWNER)
    repository = project.path_with_namespace
    assert error_of(push(place, maintainer, repository, "v1")) == PROTECTED
    assert push(place, owner, repository, "v1").status_code == 201
    with place.client(owner, repository) as client:
        assert error_of(client.http.delete(f"/v2/{repository}/manifests/v1")) == PROTECTED


def test_a_deploy_token_has_no_user_and_is_not_restricted(place: Place, project: Any) -> None:
    scopes = ["read_registry", "write_registry"]
    token = project.deploytokens.create({"name": "push", "scopes": scopes})
    assert push(place, (token.username, token.token), project.path_with_namespace, "latest").status_code == 201


def test_a_developer_cannot_delete_a_protected_tag_nor_any_manifest_by_its_digest(place: Place, project: Any) -> None:
    user_id, api, _ = place.member(project, access.DEVELOPER)
    repository, root = project.path_with_namespace, ("any", place.instance.token)
    digests = [push(place, root, repository, tag).headers["docker-content-digest"] for tag in ("latest", "other")]
    job = ("gitlab-ci-token", running_job(place.instance, project, user_id))
    with place.client(job, repository) as client:
        assert error_of(client.http.delete(f"/v2/{repository}/manifests/latest")) == PROTECTED
        for digest in digests:
            status, code, _ = error_of(client.http.delete(f"/v2/{repository}/manifests/{digest}"))
            assert (status, code) == (401, "PROTECTED_MANIFEST")
        assert client.http.delete(f"/v2/{repository}/manifests/gone").status_code == 404
        assert client.http.delete(f"/v2/{repository}/manifests/other").status_code == 202
    [found] = api.projects.get(project.id).repositories.list(get_all=True)
    assert refusal(lambda: found.tags.delete("latest")) == (403, "403 Forbidden")
    with place.client(root, repository) as client:
        assert client.tags() == ["latest"]


def test_a_maintainer_below_a_rule_cannot_delete_a_repository_with_tags_whatever_their_names(place: Place) -> None:
    project = place.project()
    levels = {"minimum_access_level_for_push": "maintainer", "minimum_access_level_for_delete": "owner"}
    tag_rules(place, project, tag_name_pattern="^v", **levels)
    _, api, login = place.member(project, access.MAINTAINER)
    push(place, login, project.path_with_namespace, "other").raise_for_status()
    repositories = api.projects.get(project.id).repositories
    [found] = repositories.list(get_all=True)
    assert refusal(found.delete) == (403, "403 Forbidden")
    place.instance.client().projects.get(project.id).repositories.delete(found.id)


def test_a_cleanup_policy_deletes_no_protected_tag(place: Place) -> None:
    policy = {"enabled": True, "cadence": "1d", "keep_n": 1, "older_than": "7d", "name_regex": ".*"}
    project = place.project(container_expiration_policy_attributes=policy)
    tag_rules(place, project, tag_name_pattern="^stable", **MAINTAINERS)
    root, repository = ("any", place.instance.token), project.path_with_namespace
    for tag in ("stable-1", "newest", "older", "oldest"):
        push(place, root, repository, tag).raise_for_status()
    deleted = cleanup.run_due(place.instance.config, datetime.now(UTC) + timedelta(days=40))
    assert len([name for name in deleted if name.startswith(repository)]) == 2
    with place.client(root, repository) as client:
        assert "stable-1" in client.tags()


def test_rules_for_tags_are_for_maintainers_alone(place: Place, project: Any) -> None:
    _, developer, _ = place.member(project, access.DEVELOPER)
    _, stranger = place.instance.new_user()
    for client, status in ((developer, 403), (stranger, 404)):
        assert refusal(lambda client=client: tag_rules(place, project, client))[0] == status
        assert refusal(lambda client=client: tag_rules(place, project, client, **RELEASED))[0] == status
    _, maintainer, _ = place.member(project, access.MAINTAINER)
    [rule] = tag_rules(place, project, maintainer)
    assert rule == {"id": rule["id"], "project_id": project.id, **RELEASED}
    changed = maintainer.http_request(
        "PATCH", f"{path_of(project)}/{rule['id']}", post_data={"minimum_access_level_for_push": "owner"}
    ).json()
    assert (changed["minimum_access_level_for_push"], changed["tag_name_pattern"]) == ("owner", "^(?:latest|main)$")
    maintainer.http_delete(f"{path_of(project)}/{rule['id']}")
    assert tag_rules(place, project) == []


def test_a_wrong_rule_for_tags_is_refused(place: Place, project: Any) -> None:
    def refused(**changes: str) -> tuple[int | None, str]:
        return refusal(lambda: tag_rules(place, project, **(RELEASED | changes)))

    assert refused() == (422, "['Tag name pattern has already been taken']")
    status, words = refused(tag_name_pattern="v(?!1)")
    assert (status, words) == (422, "['Tag name pattern not valid RE2 syntax: invalid perl operator: (?!']")
    words = "['Tag name pattern is too long (maximum is 100 characters)']"
    assert refused(tag_name_pattern="a" * 101) == (422, words)
    status, words = refused(tag_name_pattern="v", minimum_access_level_for_push="developer")
    assert (status, words) == (400, "minimum_access_level_for_push does not have a valid value")
    assert refusal(lambda: tag_rules(place, project, tag_name_pattern="v"))[0] == 400


def test_a_project_has_five_rules_for_tags_at_most(place: Place) -> None:
    project = place.project()
    for number in range(5):
        tag_rules(place, project, tag_name_pattern=f"v{number}", **MAINTAINERS)
    refused = refusal(lambda: tag_rules(place, project, tag_name_pattern="v5", **MAINTAINERS))
    assert refused == (422, "Maximum number of protection rules have been reached.")
    given = {"projectPath": project.path_with_namespace, "tagNamePattern": "v5"}
    levels = {"minimumAccessLevelForPush": "OWNER", "minimumAccessLevelForDelete": "OWNER"}
    answer = graphql(place, CREATE, input={**given, **levels})
    words = "Maximum number of protection rules have been reached."
    assert answer["data"]["createContainerProtectionTagRule"]["errors"] == [words]


def test_without_the_registrys_metadata_database_no_tag_can_be_protected(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with gitlab_with_registry(tmp_path_factory.mktemp("legacy"), database=False) as legacy:
        refused = refusal(lambda: tag_rules(legacy, legacy.project(), **RELEASED))
    assert refused == (422, "GitLab container registry API not supported")


def test_rules_for_tags_are_made_listed_and_deleted_with_graphql(place: Place) -> None:
    project = place.project()
    levels = {"minimumAccessLevelForPush": "MAINTAINER", "minimumAccessLevelForDelete": "OWNER"}
    given = {"projectPath": project.path_with_namespace, "tagNamePattern": "^v", **levels}
    made = graphql(place, CREATE, input=given)
    assert made == {"data": {"createContainerProtectionTagRule": {"errors": []}}}
    [rule] = graphql(place, LIST, path=project.path_with_namespace)["data"]["project"]["containerProtectionTagRules"][
        "nodes"
    ]
    assert {**rule, "id": ""} == {"id": "", "tagNamePattern": "^v", "immutable": False, **levels}
    again = graphql(place, CREATE, input=given)["data"]["createContainerProtectionTagRule"]
    assert again == {"errors": ["Tag name pattern has already been taken"]}
    gone = graphql(place, DELETE, input={"id": rule["id"]})
    assert gone == {"data": {"deleteContainerProtectionTagRule": {"errors": []}}}
    missing = graphql(place, DELETE, input={"id": rule["id"]})
    assert missing["data"] == {"deleteContainerProtectionTagRule": None}
    assert [error["message"] for error in missing["errors"]] == [NOT_FOUND]


def test_graphql_refuses_what_the_stand_in_does_not_have_and_who_may_not_ask(place: Place, project: Any) -> None:
    unknown = graphql(place, '{ project(fullPath: "a") { issues { nodes { id } } } }')
    assert [error["message"] for error in unknown["errors"]] == ["Field 'issues' doesn't exist on type 'Project'"]
    assert "errors" in graphql(place, "{ project")
    _, developer, _ = place.member(project, access.DEVELOPER)
    seen = graphql(place, LIST, developer, path=project.path_with_namespace)["data"]["project"]
    assert seen == {"containerProtectionTagRules": {"nodes": []}}
    given = {"projectPath": project.path_with_namespace, "tagNamePattern": "^v"}
    refused = graphql(place, CREATE, developer, input=given)
    assert refused["errors"][0]["message"] == NOT_FOUND
    _, stranger = place.instance.new_user()
    assert graphql(place, LIST, stranger, path=project.path_with_namespace)["data"] == {"project": None}
    wrong = httpx.post(f"{place.instance.url}/api/graphql", json={}, headers={"authorization": "Bearer wrong"})
    assert wrong.status_code == 401


def test_a_protected_repository_refuses_the_token_for_a_push_and_not_for_a_pull(place: Place) -> None:
    project = place.project()
    cache, rule = f"{project.path_with_namespace}/cache", {"minimum_access_level_for_push": "maintainer"}
    repository_rules(place, project, repository_path_pattern=f"{project.path_with_namespace}/c*", **rule)
    user_id, _, login = place.member(project, access.DEVELOPER)
    job = ("gitlab-ci-token", running_job(place.instance, project, user_id))
    for one in (login, job):
        answer = place.answer(one, f"repository:{cache}:pull,push")
        assert error_of(answer) == (403, "DENIED", "Pushing to protected repository path forbidden")
        assert place.answer(one, f"repository:{cache}:pull").status_code == 200
        assert push(place, one, project.path_with_namespace, "latest").status_code == 201
    _, _, maintainer = place.member(project, access.MAINTAINER)
    token = project.deploytokens.create({"name": "push", "scopes": ["read_registry", "write_registry"]})
    for one in (maintainer, ("any", place.instance.token), (token.username, token.token)):
        assert push(place, one, cache, "latest").status_code == 201


def test_rules_for_repositories_are_changed_and_deleted_and_wrong_ones_refused(place: Place) -> None:
    project = place.project()
    pattern, rule = f"{project.path_with_namespace}*", {"minimum_access_level_for_push": "maintainer"}
    made = repository_rules(place, project, repository_path_pattern=pattern, **rule)
    assert made["minimum_access_level_for_delete"] is None
    client, path = place.instance.client(), path_of(project, "repository")
    change = {"minimum_access_level_for_push": "", "minimum_access_level_for_delete": "owner"}
    changed = client.http_request("PATCH", f"{path}/{made['id']}", post_data=change).json()
    assert (changed["minimum_access_level_for_push"], changed["minimum_access_level_for_delete"]) == (None, "owner")
    for other, words in {
        pattern: "has already been taken",
        "elsewhere/*": "should start with the project's full path",
        f"{project.path_with_namespace}/A": "should be a valid container repository path with optional wildcard",
    }.items():
        status, said = refusal(
            lambda other=other: repository_rules(place, project, repository_path_pattern=other, **rule)
        )
        assert status == 422
        assert words in said
    without = refusal(lambda: repository_rules(place, project, repository_path_pattern=pattern))
    assert without[0] == 400
    client.http_delete(f"{path}/{made['id']}")
    assert repository_rules(place, project) == []
    assert refusal(lambda: client.http_delete(f"{path}/{made['id']}"))[0] == 404


@pytest.mark.parametrize("database", [False, True], ids=["legacy", "database"])
def test_the_registry_refuses_what_the_patterns_of_a_token_deny(tmp_path_factory: Any, database: bool) -> None:
    directory = tmp_path_factory.mktemp("registry")

    def with_patterns(client: Client, *patterns: str) -> None:
        denied = {"tag_deny_access_patterns": {"push": list(patterns), "delete": list(patterns)}}
        client.http.headers.update(signer().token(client.name, "pull", "push", "delete", meta=denied))

    with Registry(directory, folder(directory).options).serving(database) as client:
        digest = client.push("latest", secrets.token_bytes(10))
        manifest = client.image(LAYER)
        with_patterns(client, "^v1", "^latest$")
        assert error_of(client.put("latest", manifest)) == PROTECTED
        assert error_of(client.http.delete(f"/v2/{client.name}/manifests/latest")) == PROTECTED
        assert error_of(client.http.delete(f"/v2/{client.name}/manifests/{digest}"))[1] == "PROTECTED_MANIFEST"
        with_patterns(client, *"abcdef")
        assert error_of(client.put("latest", manifest))[:2] == (400, "TAG_PATTERN_COUNT")
        with_patterns(client, "a" * 101)
        assert error_of(client.put("latest", manifest))[:2] == (400, "INVALID_TAG_PROTECTION_PATTERN")
        with_patterns(client)
        assert client.put("latest", manifest).status_code == 201
