"""Integrations of projects: mail and messages about pipelines.

Their ID is that of the project. GitLab keeps one that is turned off, so it is gone only with the project.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Failure, Field, Fields, Kind, Resource
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.names import fields, from_api, own_names, to_api
from tests.sandbox.plugins.gitlab.session import project_path, session_of

_BRANCHES = ("all", "default", "protected", "default_and_protected")
_EVENTS = (
    "confidential_issues_events", "confidential_note_events", "issues_events", "merge_requests_events", "note_events",
    "pipeline_events", "push_events", "tag_push_events", "wiki_page_events",
)  # fmt: skip
_CHANNELS = (
    "confidential_issue_channel", "confidential_note_channel", "issue_channel", "merge_request_channel",
    "note_channel", "pipeline_channel", "push_channel", "tag_push_channel", "wiki_page_channel",
)  # fmt: skip


class _Integration(Resource):
    """What integrations have in common: setting one up and changing it are the same request."""

    slug: ClassVar[str]

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        return inputs["project"], self._put(call, inputs["project"], inputs)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(project_path(identifier, "integrations", self.slug))
        return found and (identifier, self.state(identifier, found))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        return self._put(call, identifier, inputs)

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(project_path(identifier, "integrations", self.slug))

    def _put(self, call: Call, project: str, inputs: Properties) -> Properties:
        session_of(call).put(project_path(project, "integrations", self.slug), self.body(inputs))
        return self.state(project, session_of(call).get(project_path(project, "integrations", self.slug)))

    def body(self, inputs: Properties) -> Properties:
        """What the API is sent."""
        raise NotImplementedError

    def state(self, project: str, found: Properties) -> Properties:
        """Inputs and outputs of what the API returned."""
        raise NotImplementedError


class ProjectIntegrationPipelinesEmail(_Integration):
    """Mail about pipelines."""

    full_name = "gitlab:index/projectIntegrationPipelinesEmail:ProjectIntegrationPipelinesEmail"
    slug = "pipelines-email"
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "recipients": Field(Kind.LIST, items=Kind.STRING, required=True, unordered=True),
        "branchesToBeNotified": Field(default="default", choices=_BRANCHES),
        "notifyOnlyBrokenPipelines": Field(Kind.BOOLEAN, default=True),
    }
    _names: ClassVar = own_names(("branches_to_be_notified", "notify_only_broken_pipelines"))

    def body(self, inputs: Properties) -> Properties:
        return {**to_api(self._names, inputs), "recipients": ",".join(inputs["recipients"])}

    def state(self, project: str, found: Properties) -> Properties:
        properties = found["properties"]
        listed = [one.strip() for one in (properties.get("recipients") or "").split(",") if one.strip()]
        # Of one that was turned off the provider reads empty values.
        known = {"branches_to_be_notified": "", "notify_only_broken_pipelines": False, **properties}
        return {"project": project, "recipients": listed, **from_api(self._names, known)}


class IntegrationSlack(_Integration):
    """Messages to Slack. The API never returns the webhook, so the state keeps the program's."""

    full_name = "gitlab:index/integrationSlack:IntegrationSlack"
    slug = "slack"
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "webhook": Field(required=True),
        "username": Field(),
        "branchesToBeNotified": Field(computed=True),
        "notifyOnlyBrokenPipelines": Field(Kind.BOOLEAN, computed=True),
        **fields(Kind.BOOLEAN, _EVENTS, computed=True),
        **fields(Kind.STRING, _CHANNELS),
    }
    outputs = ("jobEvents", *(name for name, field in inputs.items() if field.computed))
    _names: ClassVar = own_names(
        ("branches_to_be_notified", "notify_only_broken_pipelines", "username", *_CHANNELS),
    )
    _events: ClassVar = own_names((*_EVENTS, "job_events"))

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        branches = inputs.get("branchesToBeNotified")
        if isinstance(branches, str) and branches not in _BRANCHES:
            yield Failure("branchesToBeNotified", f"expected one of {', '.join(_BRANCHES)}, got {branches!r}")

    def body(self, inputs: Properties) -> Properties:
        # A channel that is gone has to be sent as an empty one.
        channels = {name: inputs.get(camel) or "" for camel, name in own_names(_CHANNELS).items()}
        return {**channels, **to_api({**self._names, **self._events, "webhook": "webhook"}, inputs)}

    def state(self, project: str, found: Properties) -> Properties:
        known = {name: value for name, value in found["properties"].items() if value != ""}
        return {"project": project, **from_api(self._names, known), **from_api(self._events, found)}
