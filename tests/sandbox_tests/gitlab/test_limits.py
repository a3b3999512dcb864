"""What GitLab refuses of the values that a stack file sets, each with GitLab's status and words."""

from __future__ import annotations

from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabHttpError

pytestmark = pytest.mark.new_instance


def refusal(client: gitlab.Gitlab, path: str, **values: Any) -> Any:
    """The message of a 400."""
    with pytest.raises(GitlabHttpError) as caught:
        client.http_post(path, post_data=values)
    assert caught.value.response_code == 400
    return caught.value.error_message


def test_a_runner_has_fifty_tags_at_most(client: gitlab.Gitlab) -> None:
    project = client.projects.create({"name": "many-tags"})
    values = {"runner_type": "project_type", "project_id": project.id}
    tags = [f"tag{number}" for number in range(51)]
    assert refusal(client, "/user/runners", **values, tag_list=",".join(tags)) == {
        "tags_list": ["Too many tags specified. Please limit the number of tags to 50"]
    }
    assert client.http_post("/user/runners", post_data={**values, "tag_list": ",".join(tags[:50])})


@pytest.mark.parametrize("field", ["description", "maintenance_note"])
def test_texts_of_a_runner_have_a_limit(client: gitlab.Gitlab, field: str) -> None:
    values = {"runner_type": "instance_type", field: "x" * 1025}
    assert refusal(client, "/user/runners", **values) == {field: ["is too long (maximum is 1024 characters)"]}


def test_the_description_of_a_project_has_a_limit(client: gitlab.Gitlab) -> None:
    wrong = {"description": ["is too long (maximum is 2000 characters)"]}
    assert refusal(client, "/projects", name="long", description="x" * 2001) == wrong
    assert client.http_post("/projects", post_data={"name": "long", "description": "x" * 2000})


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("*", "no argument for repetition operator: *"),
        ("a**", "bad repetition operator: **"),
        ("(", "missing ): ("),
        ("[", "missing ]: ["),
        ("(?!dev)", "invalid perl operator: (?!"),
        ("(a)\\1", "invalid escape sequence: \\1"),
        ("a{1001}", "invalid repetition size: {1001}"),
    ],
)
def test_a_pattern_of_the_cleanup_policy_is_one_of_re2(client: gitlab.Gitlab, pattern: str, words: str) -> None:
    policy = {"enabled": True, "name_regex": ".*", "name_regex_keep": pattern}
    path = "container_expiration_policy.name_regex_keep"
    assert refusal(client, "/projects", name="cleaned", container_expiration_policy_attributes=policy) == {
        path: [f"not valid RE2 syntax: {words}"]
    }


def test_a_variable_has_ten_thousand_characters_at_most(client: gitlab.Gitlab) -> None:
    project = client.projects.create({"name": "long-variable"})
    path = f"/projects/{project.id}/variables"
    assert refusal(client, path, key="LONG", value="x" * 10_001) == {
        "value": ["is too long (maximum is 10000 characters)"]
    }
    assert client.http_post(path, post_data={"key": "LONG", "value": "x" * 10_000})
