"""Who hears of a project's pipelines: integrations in GitLab, which send a mail, or a message to Slack."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_gitlab as gitlab

from components.component import Component
from components.gitlab_connection import GitLabConnection
from components.settings import Notifications as Settings


@dataclass(frozen=True)
class NotificationsArgs:
    """Inputs of `Notifications`. They are deleted with `owner`."""

    gitlab: GitLabConnection
    settings: Settings
    project_id: pulumi.Output[int]
    owner: pulumi.Resource


class Notifications(Component):
    """The integrations of one project that notify people of its pipelines.

    Owns the integrations `Pipeline status emails` and `Slack notifications`, of which a project has one each: one that
    somebody has set up before is replaced, and is turned off when it leaves the stack. Setting it twice is setting it
    once, so a lost answer leaves nothing behind. Refuses to own how GitLab sends mail, and what people have asked it to
    notify them of.
    """

    def __init__(self, name: str, args: NotificationsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare an integration for each kind of recipient in the settings."""
        super().__init__("Notifications", name, opts)
        settings, project = args.settings, args.project_id.apply(str)
        if settings.email:
            gitlab.ProjectIntegrationPipelinesEmail(
                self.child_name("email"),
                project=project,
                recipients=list(settings.email),
                branches_to_be_notified=settings.branches,
                notify_only_broken_pipelines=settings.only_failed,
                opts=self.child_options(provider=args.gitlab.provider, deleted_with=args.owner),
            )
        if settings.slack:
            gitlab.IntegrationSlack(
                self.child_name("slack"),
                project=project,
                webhook=pulumi.Output.secret(settings.slack.url.get_secret_value()),
                pipeline_channel=settings.slack.channel,
                branches_to_be_notified=settings.branches,
                notify_only_broken_pipelines=settings.only_failed,
                pipeline_events=True,
                # GitLab would send all others as well.
                confidential_issues_events=False,
                confidential_note_events=False,
                issues_events=False,
                merge_requests_events=False,
                note_events=False,
                push_events=False,
                tag_push_events=False,
                wiki_page_events=False,
                opts=self.child_options(
                    provider=args.gitlab.provider, deleted_with=args.owner, additional_secret_outputs=["webhook"]
                ),
            )
        self.register_outputs({})
