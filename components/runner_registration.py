"""A runner in GitLab: what all runners have in common, whatever runs their jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gitlab as gitlab
from pulumi_command import remote

from components.component import Component
from components.gitlab_connection import GitLabConnection
from components.gitlab_leftovers import before_create, mark_of, remove_runners
from components.remote import Machine, run_script
from components.settings import RunnerSettings
from components.site import Site


@dataclass(frozen=True)
class RunnerArgs:
    """Inputs of `Runner` and of `KubernetesRunner`.

    The runner is created in the project `project_id`, and enabled for further ones, whose IDs are given by path.
    """

    site: Site
    gitlab: GitLabConnection
    settings: RunnerSettings
    project_id: pulumi.Input[int]
    further_project_ids: Mapping[str, pulumi.Input[int]]


class RunnerComponent(Component):
    """A runner as the rest of the installation sees it: its ID in GitLab, and its machines or its cluster."""

    runner_id: pulumi.Output[str]
    machines: Sequence[Machine]
    cluster_id: pulumi.Output[str] | None = None


def register(component: Component, args: RunnerArgs) -> gitlab.UserRunner:
    """Declare a runner in GitLab, as the children `registration` and `project-PATH` of its component."""
    settings = args.settings
    mark = mark_of(args.site.prefix)
    runner = gitlab.UserRunner(
        component.child_name("registration"),
        runner_type="project_type",
        project_id=args.project_id,
        description=settings.name,
        maintenance_note=mark,
        tag_lists=list(settings.tags),
        untagged=settings.untagged,
        access_level=settings.access_level,
        # GitLab expects a shared runner to be unlocked: only an administrator may share a locked one.
        locked=not args.further_project_ids,
        opts=component.child_options(
            provider=args.gitlab.provider,
            # On kept data it stays in GitLab: the next update removes it from there.
            deleted_with=args.gitlab.server.droplet,
            # Created first, it would take its predecessor for a leftover.
            delete_before_replace=True,
            additional_secret_outputs=["token"],
            hooks=before_create(component, "registration", args.gitlab, mark, remove_runners),
        ),
    )
    for path, project_id in args.further_project_ids.items():
        gitlab.ProjectRunnerEnablement(
            component.child_name(f"project-{path}"),
            project=pulumi.Output.from_input(project_id).apply(str),
            runner_id=runner.id.apply(int),
            opts=component.child_options(provider=args.gitlab.provider, deleted_with=args.gitlab.server.droplet),
        )
    return runner


def wait_until_online(
    component: Component,
    args: RunnerArgs,
    runner: gitlab.UserRunner,
    *,
    registered: pulumi.Input[str],
    depends_on: Sequence[pulumi.Resource],
) -> remote.Command:
    """Wait, as the child `online`, until GitLab has heard of the runner; again if `registered` changes."""
    return run_script(
        component,
        "online",
        machine=args.gitlab.server,
        file="await-runner.sh",
        libraries=["gitlab.sh"],
        values={
            "GITLAB_URL": args.gitlab.url,
            "RUNNER_ID": runner.id,
        },
        secrets={"API_TOKEN": args.gitlab.api_token},
        rerun_on={"registration": registered},
        timeout_seconds=300,
        depends_on=list(depends_on),
    )
