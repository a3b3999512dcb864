"""Projects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Kind, Resource, made
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.names import camel, fields, from_api, or_none, own_names, to_api
from tests.sandbox.plugins.gitlab.session import ApiError, project_path, segment, session_of

_LEVELS = (
    "analytics_access_level",
    "builds_access_level",
    "container_registry_access_level",
    "environments_access_level",
    "feature_flags_access_level",
    "forking_access_level",
    "infrastructure_access_level",
    "issues_access_level",
    "merge_requests_access_level",
    "model_experiments_access_level",
    "model_registry_access_level",
    "monitor_access_level",
    "package_registry_access_level",
    "pages_access_level",
    "releases_access_level",
    "repository_access_level",
    "requirements_access_level",
    "security_and_compliance_access_level",
    "snippets_access_level",
    "wiki_access_level",
)
_FLAGS = (
    "allow_merge_on_skipped_pipeline",
    "auto_devops_enabled",
    "autoclose_referenced_issues",
    "ci_display_pipeline_variables",
    "ci_forward_deployment_enabled",
    "ci_forward_deployment_rollback_allowed",
    "ci_push_repository_for_job_token_allowed",
    "ci_separated_caches",
    "emails_enabled",
    "group_runners_enabled",
    "keep_latest_artifact",
    "lfs_enabled",
    "only_allow_merge_if_all_discussions_are_resolved",
    "only_allow_merge_if_pipeline_succeeds",
    "packages_enabled",
    "printing_merge_request_link_enabled",
    "remove_source_branch_after_merge",
    "request_access_enabled",
    "resolve_outdated_diff_discussions",
    "shared_runners_enabled",
)
_NUMBERS = ("build_timeout", "ci_default_git_depth", "ci_delete_pipelines_in_seconds", "max_artifacts_size")
_CHOICES = {
    "auto_cancel_pending_pipelines": ("enabled", "disabled"),
    "auto_devops_deploy_strategy": ("continuous", "manual", "timed_incremental"),
    "build_git_strategy": ("clone", "fetch"),
    "ci_pipeline_variables_minimum_override_role": ("developer", "maintainer", "owner", "no_one_allowed"),
    "merge_method": ("merge", "rebase_merge", "ff"),
    "squash_option": ("never", "always", "default_on", "default_off"),
}
_TEXTS = (
    "ci_config_path",
    "description",
    "issue_branch_template",
    "merge_commit_template",
    "squash_commit_template",
    "suggestion_commit_message",
)
#: What the API takes only when a project is changed.
_ONLY_BY_CHANGE = {
    camel(name)
    for name in (
        "ci_default_git_depth",
        "ci_delete_pipelines_in_seconds",
        "ci_display_pipeline_variables",
        "ci_forward_deployment_enabled",
        "ci_forward_deployment_rollback_allowed",
        "ci_id_token_sub_claim_components",
        "ci_pipeline_variables_minimum_override_role",
        "ci_push_repository_for_job_token_allowed",
        "ci_separated_caches",
        "issue_branch_template",
        "keep_latest_artifact",
        "max_artifacts_size",
    )
}
_POLICY = {
    "cadence": "cadence",
    "enabled": "enabled",
    "keepN": "keep_n",
    "nameRegexDelete": "name_regex_delete",
    "nameRegexKeep": "name_regex_keep",
    "olderThan": "older_than",
}
_POLICY_FIELDS: Fields = {
    "cadence": Field(computed=True, choices=("1d", "7d", "14d", "1month", "3month")),
    "enabled": Field(Kind.BOOLEAN, computed=True),
    "keepN": Field(Kind.INTEGER, computed=True),
    "nameRegexDelete": Field(computed=True),
    "nameRegexKeep": Field(computed=True),
    "nextRunAt": Field(computed=True),
    "olderThan": Field(computed=True),
}
#: Names of the program and of the API where something has the same form in both.
_NAMES = {
    **own_names((*_LEVELS, *_FLAGS, *_NUMBERS, *_CHOICES, *_TEXTS)),
    **own_names(("ci_id_token_sub_claim_components", "default_branch", "name", "path", "topics")),
    "visibilityLevel": "visibility",
}
_OUTPUTS = own_names(
    (
        "avatar_url",
        "empty_repo",
        "http_url_to_repo",
        "path_with_namespace",
        "runners_token",
        "ssh_url_to_repo",
        "web_url",
    )
)
_FOLLOW_THE_PATH = ("httpUrlToRepo", "pathWithNamespace", "sshUrlToRepo", "webUrl")


def _policy_normal(policy: Properties) -> Properties:
    """Nothing, an empty text and 0 images to keep mean the same: that the policy does not say."""
    return {name: value for name, value in policy.items() if value is False or value not in (None, "", 0)}


def _policy_body(policy: Properties) -> Properties:
    # That it is off has to be said as well: nothing would leave it on.
    return to_api(_POLICY, policy)


def _policy_state(policy: Properties) -> Properties:
    # The API takes `name_regex_delete`, and returns the same as `name_regex`.
    returned = {**policy, "name_regex_delete": policy.get("name_regex_delete") or policy.get("name_regex")}
    return {**from_api(_POLICY, returned), "nextRunAt": policy.get("next_run_at")}


def project_state(project: Properties) -> Properties:
    """Inputs and outputs of a project that the API returned."""
    state = from_api({**_NAMES, **_OUTPUTS}, project)
    state["archived"] = bool(project.get("archived"))
    state["namespaceId"] = project["namespace"]["id"]
    state["publicJobs"] = project.get("public_jobs")
    if project.get("container_expiration_policy"):
        state["containerExpirationPolicy"] = _policy_state(project["container_expiration_policy"])
    return state


def find_project(call: Call, key: str) -> Properties | None:
    """A project by number or full path; None also if it only waits for its deletion."""
    found: Properties | None = session_of(call).find(project_path(key))
    return None if found is None or found.get("marked_for_deletion_on") else found


class Project(Resource):
    """A project with its repository. Of the official one's inputs it has those of the Community Edition."""

    full_name = "gitlab:index/project:Project"
    autoname = True
    inputs: ClassVar[Fields] = {
        "name": Field(),
        "path": Field(computed=True),
        "namespaceId": Field(Kind.INTEGER, computed=True),
        "defaultBranch": Field(computed=True),
        "visibilityLevel": Field(choices=("private", "internal", "public"), computed=True),
        "archived": Field(Kind.BOOLEAN, normal=or_none),
        "publicJobs": Field(Kind.BOOLEAN, computed=True),
        "topics": Field(Kind.LIST, items=Kind.STRING, unordered=True, computed=True),
        "ciIdTokenSubClaimComponents": Field(Kind.LIST, items=Kind.STRING, computed=True),
        "containerExpirationPolicy": Field(Kind.MAP, fields=_POLICY_FIELDS, normal=_policy_normal, computed=True),
        **fields(Kind.STRING, _LEVELS, choices=("disabled", "private", "enabled", "public"), computed=True),
        **fields(Kind.BOOLEAN, _FLAGS, computed=True),
        **fields(Kind.INTEGER, _NUMBERS, computed=True),
        **{camel(name): Field(choices=choices, computed=True) for name, choices in _CHOICES.items()},
        **fields(Kind.STRING, _TEXTS),
        # How the provider makes and removes it; GitLab knows nothing of these.
        "initializeWithReadme": Field(Kind.BOOLEAN),
        "skipWaitForDefaultBranchProtection": Field(Kind.BOOLEAN),
        "archiveOnDestroy": Field(Kind.BOOLEAN),
        "permanentlyDeleteOnDestroy": Field(Kind.BOOLEAN),
    }
    outputs = (*_OUTPUTS, *(name for name, field in inputs.items() if field.computed))
    secret_outputs = frozenset({"runnersToken"})

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        first = {name: value for name, value in inputs.items() if name not in _ONLY_BY_CHANGE}
        project = session_of(call).post("/projects", self._body(first))
        identifier = str(project["id"])
        with made(identifier, {**inputs, **project_state(project)}):
            return identifier, self._complete(call, project, inputs)

    def _complete(self, call: Call, project: Properties, inputs: Properties) -> Properties:
        path = project_path(project["id"])
        if inputs.get("archived"):
            session_of(call).post(f"{path}/archive")
        if not inputs.get("skipWaitForDefaultBranchProtection") and _protects_default_branch(call, project):
            _wait_for_protection(call, project)
        second = to_api(_NAMES, {name: inputs[name] for name in _ONLY_BY_CHANGE & inputs.keys()})
        if second:
            session_of(call).put(path, second)
        return project_state(session_of(call).get(path))

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = find_project(call, identifier)
        return None if found is None else (str(found["id"]), project_state(found))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        session, path = session_of(call), project_path(identifier)
        changed = {name for name, _ in self.differences(old, inputs)}
        body = self._body({name: inputs.get(name) for name in changed - {"namespaceId"}})
        # A text that the program no longer gives is to be empty.
        body |= {_NAMES[name]: "" for name in changed & own_names(_TEXTS).keys() if inputs.get(name) is None}
        # The API wants something to change.
        session.put(path, {"name": inputs["name"], **body})
        if "namespaceId" in changed:
            session.put(f"{path}/transfer", {"namespace": inputs["namespaceId"]})
        if "archived" in changed:
            session.post(f"{path}/{'archive' if inputs.get('archived') else 'unarchive'}")
        return project_state(session.get(path))

    def unknown_during(self, old: Properties, inputs: Properties) -> Iterable[str]:
        changed = {name for name, _ in self.differences(old, inputs)}
        return _FOLLOW_THE_PATH if changed & {"path", "namespaceId"} else ()

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        path = project_path(identifier)
        if state.get("archiveOnDestroy"):
            session_of(call).post(f"{path}/archive")
            return
        remove(call, path, "path_with_namespace", for_good=bool(state.get("permanentlyDeleteOnDestroy")))

    def _body(self, inputs: Properties) -> Properties:
        body = to_api({**_NAMES, "namespaceId": "namespace_id"}, inputs)
        if inputs.get("initializeWithReadme"):
            body["initialize_with_readme"] = True
        if inputs.get("publicJobs") is not None:
            # Written and read under different names.
            body["public_builds"] = inputs["publicJobs"]
        if inputs.get("containerExpirationPolicy"):
            body["container_expiration_policy_attributes"] = _policy_body(inputs["containerExpirationPolicy"])
        return body


def remove(call: Call, path: str, full_path: str, *, for_good: bool) -> None:
    """Delete a project or a group, which marks it, and wait until that is seen; then for good, if that is asked for.

    `full_path` names the property that has its full path: marking changes the path, and removing wants the new one.
    """
    session = session_of(call)
    try:
        session.delete(path)
    except ApiError as error:
        if "already marked for deletion" not in error.message:
            raise
    if for_good:
        marked = session.find(path)
        if marked is not None:
            session.delete(path, {"permanently_remove": "true", "full_path": marked[full_path]})

    def gone() -> bool:
        found = session.find(path)
        return found is None or (not for_good and bool(found.get("marked_for_deletion_on")))

    call.wait_until(f"{path} to be deleted", gone)


def _protects_default_branch(call: Call, project: Properties) -> bool:
    """Whether GitLab is going to protect the default branch by itself; for all but administrators a guess."""
    session = session_of(call)
    if project["namespace"]["kind"] == "group":
        group = session.get(f"/groups/{segment(project['namespace']['id'])}", {"with_projects": "false"})
        return bool(group.get("default_branch_protection") != 0)
    if session.get("/user").get("is_admin"):
        return bool(session.get("/application/settings").get("default_branch_protection") != 0)
    return True


def _wait_for_protection(call: Call, project: Properties) -> None:
    """GitLab protects the default branch some time after it has made it."""
    branch = project.get("default_branch")
    if not branch:
        return
    path = project_path(project["id"], "repository/branches", segment(branch))

    def protected() -> bool:
        found: Any = session_of(call).find(path)
        return found is None or bool(found["protected"])

    call.wait_until(f"branch {branch} of project {project['id']} to be protected", protected)
