"""Objects of the stack that an earlier life has left in GitLab: deleted before they are created again."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import pulumi
import pytest

from components.gitlab_leftovers import (
    GitLabApi,
    before_create,
    mark_of,
    prepare_tag_rule,
    refuse_group,
    refuse_project,
    remove_group_member,
    remove_member,
    remove_repository_rule,
    remove_runners,
    remove_variable,
)

MARK = mark_of("slipway-production")


class GitLab(BaseHTTPRequestHandler):
    """Serves lists two items a page or as a whole, single things by their path, and records what is deleted."""

    things: ClassVar[dict[str, Any]] = {}
    deleted: ClassVar[list[str]] = []
    queries: ClassVar[list[dict[str, list[str]]]] = []

    def do_GET(self) -> None:
        path, query = self._asked()
        found = self.things.get(path)
        if found is None:
            self._answer(404, {})
        elif isinstance(found, list) and "page" in query:
            page = int(query["page"][0])
            following = str(page + 1) if len(found) > 2 * page else ""
            self._answer(200, found[2 * (page - 1) : 2 * page], following)
        else:
            self._answer(200, found)

    def do_DELETE(self) -> None:
        path, query = self._asked()
        self.deleted.append(path)
        self.queries.append(query)
        self._answer(404 if path.endswith("/gone") else 403 if path.endswith("/forbidden") else 204, {})

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        assert self.headers["PRIVATE-TOKEN"] == "glpat-of-a-test"
        return unquote(parts.path.removeprefix("/api/v4")), parse_qs(parts.query)

    def _answer(self, status: int, body: Any, following: str = "") -> None:
        self.send_response(status)
        self.send_header("X-Next-Page", following)
        self.end_headers()
        if status != 204:
            self.wfile.write(json.dumps(body).encode())


@pytest.fixture
def api() -> Iterator[GitLabApi]:
    GitLab.things.clear()
    GitLab.deleted.clear()
    GitLab.queries.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), GitLab)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield GitLabApi(f"http://127.0.0.1:{server.server_port}", "glpat-of-a-test", None)
    server.shutdown()
    server.server_close()
    thread.join()


def variable(key: str, description: str | None = MARK, scope: str = "*") -> dict[str, Any]:
    return {"key": key, "environment_scope": scope, "description": description}


def test_a_variable_that_the_stack_left_is_deleted_also_from_a_later_page(api: GitLabApi) -> None:
    GitLab.things["/projects/12/variables"] = [variable("A"), variable("B"), variable("C"), variable("KEY")]
    remove_variable(api, {"project": "12", "key": "KEY"}, MARK)
    assert GitLab.deleted == ["/projects/12/variables/KEY"]


def test_of_variables_with_one_key_only_that_of_the_same_environment_is_deleted(api: GitLabApi) -> None:
    GitLab.things["/projects/12/variables"] = [variable("KEY", None), variable("KEY", scope="production")]
    wanted = {"project": "12", "key": "KEY", "environmentScope": "staging"}
    assert not remove_variable(api, wanted, MARK)
    assert remove_variable(api, {**wanted, "environmentScope": "production"}, MARK)
    assert GitLab.deleted == ["/projects/12/variables/KEY"]


def test_a_variable_of_somebody_else_is_refused_and_stays(api: GitLabApi) -> None:
    for description in (None, "", mark_of("slipway-staging")):
        GitLab.things["/projects/12/variables"] = [variable("KEY", description)]
        with pytest.raises(RuntimeError, match=r"has a variable KEY that this stack did not create; .* Delete it"):
            remove_variable(api, {"project": "12", "key": "KEY"}, MARK)
    GitLab.things["/projects/12/variables"] = [variable("KEY", None, scope="review/*")]
    remove_variable(api, {"project": "12", "key": "KEY"}, MARK)
    assert GitLab.deleted == []


@pytest.mark.parametrize(
    ("change", "is_deleted"),
    [
        ({}, True),
        ({"maintenance_note": None}, False),
        ({"description": "another"}, False),
        # Created in another project, and enabled for this one: it moves there, and is not a leftover.
        ({"projects": [{"id": 7}, {"id": 12}]}, False),
    ],
)
def test_only_a_runner_that_the_stack_created_in_the_project_is_deleted(
    api: GitLabApi, change: dict[str, Any], *, is_deleted: bool
) -> None:
    runner = {"id": 5, "description": "builder", "maintenance_note": MARK, "projects": [{"id": 12}], **change}
    GitLab.things["/projects/12/runners"] = [{"id": 5}]
    GitLab.things["/runners/5"] = runner
    # Numbers arrive as floating point numbers on the wire.
    remove_runners(api, {"projectId": 12.0, "description": "builder"}, MARK)
    assert GitLab.deleted == (["/runners/5"] if is_deleted else [])


RULES = "/projects/12/registry/protection/tag/rules"
TAGS = {
    "project": "12",
    "tagNameRegex": "^(?:latest|main)$",
    "minimumAccessLevelForPush": "MAINTAINER",
    "minimumAccessLevelForDelete": "MAINTAINER",
}


def tag_rule(number: int, pattern: str, push: str = "maintainer", delete: str = "maintainer") -> dict[str, Any]:
    levels = {"minimum_access_level_for_push": push, "minimum_access_level_for_delete": delete}
    return {"id": number, "tag_name_pattern": pattern, **levels}


@pytest.mark.parametrize(
    ("push", "delete", "is_deleted"),
    [("maintainer", "maintainer", False), ("owner", "maintainer", True), ("maintainer", "admin", True)],
)
def test_a_rule_for_the_same_tags_is_deleted_only_if_its_levels_differ(
    api: GitLabApi, push: str, delete: str, *, is_deleted: bool
) -> None:
    GitLab.things[RULES] = [tag_rule(1, "^v", "owner"), tag_rule(2, "^(?:latest|main)$", push, delete)]
    prepare_tag_rule(api, TAGS, MARK)
    assert GitLab.deleted == ([f"{RULES}/2"] if is_deleted else [])


def test_a_project_with_as_many_tag_rules_as_gitlab_allows_is_reported_before_the_provider_waits_for_another(
    api: GitLabApi,
) -> None:
    GitLab.things[RULES] = [tag_rule(number, f"v{number}") for number in range(4)]
    prepare_tag_rule(api, TAGS, MARK)
    GitLab.things[RULES] = [tag_rule(number, f"v{number}") for number in range(5)]
    with pytest.raises(RuntimeError, match=r"has 5 rules for protected tags, .* Delete one in GitLab"):
        prepare_tag_rule(api, TAGS, MARK)
    GitLab.things[RULES][4] = tag_rule(4, "^(?:latest|main)$")
    prepare_tag_rule(api, TAGS, MARK)
    assert GitLab.deleted == []


def test_a_runner_that_a_repeated_request_has_made_first_is_deleted_and_the_stacks_own_stays(api: GitLabApi) -> None:
    GitLab.things["/projects/12/runners"] = [{"id": 5}, {"id": 6}]
    for number in (5, 6):
        runner = {"id": number, "description": "builder", "maintenance_note": MARK, "projects": [{"id": 12}]}
        GitLab.things[f"/runners/{number}"] = runner
    assert remove_runners(api, {"projectId": 12.0, "description": "builder"}, MARK, "6")
    assert GitLab.deleted == ["/runners/5"]


@pytest.mark.parametrize("group", [None, 9.0])
def test_a_project_that_is_there_already_is_named_with_the_line_that_imports_it(
    api: GitLabApi, group: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulumi.get_stack", lambda: "production")
    monkeypatch.setattr("pulumi.get_project", lambda: "slipway")
    here = {"id": 9, "full_path": "web"} if group else {"id": 1, "full_path": "root"}
    found = {"id": 7, "path": "Hello", "path_with_namespace": f"{here['full_path']}/hello", "namespace": here}
    elsewhere = {**found, "id": 8, "namespace": {"id": 3, "full_path": "team/root"}}
    GitLab.things["/projects"] = [elsewhere, {**found, "path": "hello-2"}]
    inputs = {"path": "hello", "namespaceId": group}
    assert not refuse_project(api, inputs, MARK)
    GitLab.things["/projects"].append(found)
    with pytest.raises(RuntimeError) as refusal:
        refuse_project(api, inputs, MARK)
    urn = "urn:pulumi:production::slipway::"
    assert (
        "\npulumi import --stack production --generate-code=false --protect=false gitlab:index/project:Project "
        f"delivery-hello-project 7 --parent 'parent={urn}slipway:index:Delivery$slipway:index:Project::delivery-hello' "
        f"--provider 'provider={urn}pulumi:providers:gitlab::gitlab'\n"
    ) in str(refusal.value)
    assert not refuse_project(api, inputs, MARK, "7")
    assert GitLab.deleted == []


def test_what_is_gone_meanwhile_is_no_error_and_a_refusal_is(api: GitLabApi) -> None:
    api.delete("/projects/12/deploy_tokens/gone")
    with pytest.raises(RuntimeError, match=r"GitLab refused DELETE http://127.*/forbidden: 403"):
        api.delete("/projects/12/deploy_tokens/forbidden")
    with pytest.raises(RuntimeError, match=r"GitLab refused GET .*: 404"):
        api.get("/runners/5")
    with pytest.raises(RuntimeError, match=r"GitLab did not respond to GET http://127\.0\.0\.1:9/"):
        GitLabApi("http://127.0.0.1:9", "glpat-of-a-test", None).get("/runners/5")


def test_a_rule_for_the_same_repositories_is_removed_and_no_other(api: GitLabApi) -> None:
    rules = [{"id": 3, "repository_path_pattern": "root/a/cache-protected"}, {"id": 4, "repository_path_pattern": "b"}]
    path = "/projects/42/registry/protection/repository/rules"
    GitLab.things[path] = rules
    remove_repository_rule(api, {"project": "42", "repositoryPathPattern": "root/a/cache-protected"}, MARK)
    assert GitLab.deleted == [f"{path}/3"]


def test_a_membership_that_the_user_has_already_ends_and_no_other(api: GitLabApi) -> None:
    GitLab.things["/projects/4/members"] = [{"id": 11}, {"id": 12}, {"id": 13}]
    inputs = {"project": "4", "userId": 13.0}
    assert not remove_member(api, inputs, MARK, "4:13")
    assert GitLab.deleted == []
    assert remove_member(api, inputs, MARK)
    assert GitLab.deleted == ["/projects/4/members/13"]
    assert not remove_member(api, {**inputs, "userId": 14.0}, MARK)


def test_a_membership_of_a_group_ends_without_those_inside_of_the_group(api: GitLabApi) -> None:
    GitLab.things["/groups/7/members"] = [{"id": 11}, {"id": 12}, {"id": 13}]
    inputs = {"groupId": 7.0, "userId": 13.0}
    assert not remove_group_member(api, inputs, MARK, "7:13")
    assert remove_group_member(api, inputs, MARK)
    assert (GitLab.deleted, GitLab.queries) == (["/groups/7/members/13"], [{"skip_subresources": ["true"]}])
    assert not remove_group_member(api, {**inputs, "userId": 14.0}, MARK)


def group(number: int, full_path: str, parent: int | None = None, **more: Any) -> dict[str, Any]:
    return {"id": number, "path": full_path.rpartition("/")[2], "full_path": full_path, "parent_id": parent, **more}


def test_a_group_of_the_same_path_is_refused_with_the_ways_to_have_it(
    api: GitLabApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulumi, "get_stack", lambda: "production")
    monkeypatch.setattr(pulumi, "get_project", lambda: "slipway")
    GitLab.things["/groups"] = [group(5, "old/Apps", 4), group(6, "apps"), group(8, "Team/Apps", 7)]
    assert not refuse_group(api, {"path": "other", "parentId": 7.0}, MARK)
    assert not refuse_group(api, {"path": "apps", "parentId": 7.0}, MARK, "8")
    with pytest.raises(
        RuntimeError, match=r"the group apps \(ID 6\) exists in GitLab and is not in this stack's state"
    ):
        refuse_group(api, {"path": "apps"}, MARK)
    with pytest.raises(RuntimeError) as caught:
        refuse_group(api, {"path": "apps", "parentId": 7.0}, MARK)
    assert "gitlab:index/group:Group groups-team/apps-group 8 " in str(caught.value)
    assert "::slipway:index:Groups$slipway:index:Group::groups-team/apps'" in str(caught.value)
    assert 'import it with importId: "8" instead' in str(caught.value)
    GitLab.things["/groups"] = [group(8, "team", marked_for_deletion_on="2026-11-20")]
    with pytest.raises(RuntimeError, match=r"the group team \(ID 8\) waits for its deletion .* Restore it in GitLab"):
        refuse_group(api, {"path": "team"}, MARK)
    assert GitLab.deleted == []


def test_the_hooks_of_an_object_look_for_leftovers_before_after_and_once_it_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, Any, str, str | None]] = []

    def removal(api: GitLabApi, inputs: Any, mark: str, own: str | None) -> bool:
        asked.append((api.url, inputs, mark, own))
        if inputs.get("refused"):
            raise RuntimeError("GitLab refused it")
        return True

    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    # Outside of a program there is no engine to register them with.
    for kind in ("ResourceHook", "ErrorHook"):
        monkeypatch.setattr(pulumi, kind, lambda _, callback: SimpleNamespace(callback=callback))
    values = {"url": "https://gitlab.example.test", "api_token": "glpat", "ca_certificate": None}
    connection: Any = SimpleNamespace(**values)
    component: Any = SimpleNamespace(child_name="hello-{}".format)
    hooks = before_create(component, "key", connection, MARK, removal)

    def called(hook: Any, identifier: str, inputs: dict[str, Any]) -> object:
        return asyncio.run(hook.callback(pulumi.ResourceHookArgs("urn", identifier, "hello-key", "type", inputs)))

    def failed(*errors: str, **inputs: Any) -> object:
        [hook] = hooks.on_error or []
        args = pulumi.ErrorHookArgs(
            "urn", "", "hello-key", "type", inputs, failed_operation="create", errors=list(errors)
        )
        return asyncio.run(hook.callback(args))  # type: ignore[arg-type]

    called((hooks.before_create or [])[0], "", {"key": "KEY"})
    called((hooks.after_create or [])[0], "7", {"key": "KEY"})
    url = "https://gitlab.example.test"
    assert asked == [(url, {"key": "KEY"}, MARK, None), (url, {"key": "KEY"}, MARK, "7")]
    assert failed("unexpected EOF") is True
    assert failed("EOF", "EOF", "EOF") is False
    # The error of the create itself is the one that counts.
    assert failed("unexpected EOF", refused=True) is False
    assert said == ["GitLab refused it"]


def test_rules_and_variables_that_exist_by_now_are_the_objects_themselves(api: GitLabApi) -> None:
    for removal in (remove_repository_rule, remove_variable, prepare_tag_rule):
        assert removal(api, {"project": "12"}, MARK, "1") is False
    assert GitLab.deleted == []
