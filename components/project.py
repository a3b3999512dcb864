"""A project in GitLab: its settings, its first files and its pipeline."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pulumi
import pulumi_gitlab as gitlab

from components import versions
from components.component import Component
from components.remote import Machine, run_script
from components.rendering import render
from components.settings import Builder, ExtraStage, ProjectSettings

_APPLICATION: Final = Path(__file__).resolve().parent / "application"
#: Access levels by the names that GitLab's API takes.
_MAINTAINER: Final = "maintainer"


@dataclass(frozen=True)
class ProjectArgs:
    """Inputs of `Project`. `registry` is `host:port`; `server` is the machine that GitLab is on.

    `keep_data` tells that the project outlives a destroy; `known_id` is its number where an earlier update has made
    it, by which it is found again.
    """

    settings: ProjectSettings
    builder: Builder
    gitlab_url: pulumi.Input[str]
    api_token: pulumi.Input[str]
    registry: pulumi.Input[str]
    registry_mirror: str | None
    server: Machine
    keep_data: bool
    known_id: str | None


class Project(Component):
    """A project whose images are built by its own runners and by no other.

    Owns the project, the protection of its default branch, its variables, a deploy token that can do nothing but pull
    images, the sample application where it is asked for, and the pipeline. The application is put there once and
    belongs to its developers from then on; the pipeline is kept as declared. Files stay when they leave the stack.

    One that is adopted is never removed: it leaves the stack without its variables and its deploy token, and keeps all
    else. Refuses to own runners and people.
    """

    project_id: pulumi.Output[int]
    url: pulumi.Output[str]
    image: pulumi.Output[str]
    deploy_username: pulumi.Output[str]
    deploy_token: pulumi.Output[str]

    def __init__(self, name: str, args: ProjectArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the project; what is left to do is `begin`."""
        super().__init__("Project", name, opts)
        self._args = args
        project = self._project()
        self._protect_branch(project)
        self._set_variables(project)
        token = self._deploy_token(project)
        self._resource, self._seeded = project, self._seed(project)

        self.project_id = project.id.apply(int)
        self.url = project.web_url
        path = project.path_with_namespace
        self.image = pulumi.Output.concat(args.registry, "/", path.apply(str.lower))
        self.deploy_username = token.username
        self.deploy_token = pulumi.Output.secret(token.token)
        self.register_outputs({"url": self.url, "image": self.image})

    def _project(self) -> gitlab.Project:
        settings = self._args.settings
        return gitlab.Project(
            self.child_name("project"),
            name=settings.path,
            path=settings.path,
            namespace_id=self._namespace(),
            description=settings.description,
            visibility_level=settings.visibility or (None if settings.imported else "private"),
            default_branch=settings.default_branch,
            initialize_with_readme=None if settings.imported else True,
            # GitLab would begin with a pipeline of its own at the first file that it knows how to build.
            auto_devops_enabled=False,
            # A job must not land on a runner that cannot build images, or that others use.
            shared_runners_enabled=False,
            group_runners_enabled=False,
            container_registry_access_level="enabled",
            # Named in full: what is left out here, GitLab fills in, and the difference would never settle.
            container_expiration_policy=gitlab.ProjectContainerExpirationPolicyArgs(
                enabled=True,
                cadence="1d",
                keep_n=settings.keep_images,
                older_than="30d",
                name_regex_delete=".*",
                name_regex_keep=f"latest|{_slug(settings.default_branch)}",
            ),
            opts=self.child_options(
                deleted_with=self._args.server.droplet,
                import_=settings.import_id or self._args.known_id,
                ignore_changes=self._left_alone(),
                # What was there before the stack stays when the stack goes, and what is data as well.
                retain=settings.imported or self._args.keep_data,
            ),
        )

    def _left_alone(self) -> list[str]:
        """What an adopted project keeps as it was, because the stack file does not say otherwise."""
        settings = self._args.settings
        if not settings.imported:
            # It says how a project begins, and nothing of one that is found again.
            return ["initializeWithReadme"]
        said = {"description": settings.description, "visibilityLevel": settings.visibility}
        return ["name", *(name for name, value in said.items() if value is None)]

    def _namespace(self) -> pulumi.Output[int] | None:
        group = self._args.settings.group
        if group is None:
            return None
        # Searched for, because what is asked for by name and is not there ends the program with a traceback.
        found = gitlab.get_groups_output(search=group, opts=pulumi.InvokeOptions(parent=self))
        return found.apply(lambda answer: _number(group, {one.full_path: one.group_id for one in answer.groups}))

    def _protect_branch(self, project: gitlab.Project) -> None:
        gitlab.BranchProtection(
            self.child_name("protection"),
            project=project.id,
            branch=self._args.settings.default_branch,
            push_access_level=_MAINTAINER,
            merge_access_level=_MAINTAINER,
            allow_force_push=False,
            # Made anew where a level changes; made first, it would take away the protection of the one before.
            opts=self.child_options(deleted_with=project, delete_before_replace=True),
        )

    def _set_variables(self, project: gitlab.Project) -> None:
        for key, variable in self._args.settings.variables.items():
            gitlab.ProjectVariable(
                self.child_name(f"variable-{key}"),
                project=project.id,
                key=key,
                value=pulumi.Output.secret(variable.value.get_secret_value()),
                masked=variable.masked,
                protected=variable.protected,
                # A dollar sign in a password is a dollar sign.
                raw=True,
                opts=self.child_options(deleted_with=self._owner(project)),
            )

    def _deploy_token(self, project: gitlab.Project) -> gitlab.ProjectDeployToken:
        return gitlab.ProjectDeployToken(
            self.child_name("deploy-token"),
            project=project.id,
            name="pull",
            username=f"{self._args.settings.path}-pull",
            scopes=["read_registry"],
            opts=self.child_options(deleted_with=self._owner(project), additional_secret_outputs=["token"]),
        )

    def begin(self, runners: Sequence[pulumi.Resource]) -> None:
        """Commit the pipeline, which starts it, once these runners can take its jobs as it means them."""
        if self._args.settings.has_pipeline:
            gitlab.RepositoryFile(
                self.child_name("file-gitlab-ci-yml"),
                project=self._resource.id,
                branch=self._args.settings.default_branch,
                file_path=".gitlab-ci.yml",
                content=base64.b64encode(self._pipeline().encode()).decode(),
                encoding="base64",
                create_commit_message="Add the pipeline",
                update_commit_message="Change the pipeline",
                delete_commit_message="Remove the pipeline",
                overwrite_on_create=True,
                # When it leaves the stack it is its developers': it is not removed by a commit of ours.
                opts=self.child_options(deleted_with=self._resource, depends_on=[*self._seeded, *runners], retain=True),
            )

    def _seed(self, project: gitlab.Project) -> list[pulumi.Resource]:
        """Put the sample application there, and over nothing: a machine that was replaced finds what it had."""
        if not self._args.settings.has_sample:
            return []
        first_commit = json.dumps(
            {
                "branch": self._args.settings.default_branch,
                "commit_message": "Add the sample application",
                "actions": [_action(path, content) for path, content in sample_application().items()],
            }
        )
        values = {
            "API_TOKEN": self._args.api_token,
            "COMMIT": first_commit,
            "GITLAB_URL": self._args.gitlab_url,
            "PROJECT_ID": project.id,
        }
        return [
            run_script(
                self,
                "sample",
                machine=self._args.server,
                file="seed-project.sh",
                libraries=["gitlab.sh"],
                values=values,
                timeout_seconds=300,
            )
        ]

    def _owner(self, project: gitlab.Project) -> pulumi.Resource | None:
        """What takes a thing of the stack with it: not a project that stays, nor a machine whose data does."""
        if self._args.keep_data:
            return None
        return self._args.server.droplet if self._args.settings.imported else project

    def _pipeline(self) -> str:
        args = self._args
        return pipeline(args.builder, args.settings.extra_stages, args.registry_mirror)


def pipeline(builder: Builder, extra_stages: Sequence[ExtraStage], registry_mirror: str | None) -> str:
    """The text of `.gitlab-ci.yml`: build, test and release one image, then whatever else is wanted."""
    return render(
        f"gitlab-ci.{builder}.yml.j2",
        docker_version=versions.DOCKER,
        buildah_image=versions.BUILDAH_IMAGE,
        registry_mirror=registry_mirror,
        extra_stages=extra_stages,
    )


def sample_application() -> Mapping[str, str]:
    """The files of the sample application by their paths, in the order in which they are committed."""
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(_APPLICATION.iterdir()) if path.is_file()}
    return {**files, "Dockerfile": render("Dockerfile.j2", node_version=versions.NODE)}


def _number(group: str, numbers: Mapping[str, int]) -> int:
    """The number of a group among those that a search has found; letters of either case are the same in GitLab."""
    for full_path, number in numbers.items():
        if full_path.lower() == group.lower():
            return number
    message = (
        f"There is no group {group} in GitLab; a project could not be made in it. "
        "Make the group first, or take its full path as its address shows it"
    )
    raise pulumi.RunError(message)


def _action(path: str, content: str) -> dict[str, str]:
    # GitLab begins a project with one file.
    return {"action": "update" if path == "README.md" else "create", "file_path": path, "content": content}


def _slug(branch: str) -> str:
    """A branch as GitLab writes it where only small letters, digits and dashes may be (`CI_COMMIT_REF_SLUG`)."""
    return re.sub(r"[^a-z0-9]", "-", branch.lower())[:63].strip("-")
