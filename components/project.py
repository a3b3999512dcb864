"""A project in GitLab: its settings, its first files and its pipeline."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pulumi
import pulumi_gitlab as gitlab

from components import versions
from components.component import Component
from components.rendering import render
from components.settings import Builder, ExtraStage, ProjectSettings

_APPLICATION: Final = Path(__file__).resolve().parent / "application"
#: Access levels by the names that GitLab's API takes.
_MAINTAINER: Final = "maintainer"


@dataclass(frozen=True)
class ProjectArgs:
    """Inputs of `Project`. `registry` is `host:port`; `dies_with` is the machine that GitLab's data lives on."""

    settings: ProjectSettings
    builder: Builder
    registry: pulumi.Input[str]
    registry_mirror: str | None
    dies_with: pulumi.Resource


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
        self._resource, self._last_commit = project, self._commit(project)

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
            visibility_level=settings.visibility or (None if settings.adopted else "private"),
            default_branch=settings.default_branch,
            initialize_with_readme=None if settings.adopted else True,
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
                name_regex_keep=f"latest|{re.escape(settings.default_branch)}",
            ),
            opts=self.child_options(
                deleted_with=self._args.dies_with,
                import_=settings.import_id,
                ignore_changes=self._left_alone(),
                # What was there before the stack stays when the stack goes.
                retain=settings.adopted,
            ),
        )

    def _left_alone(self) -> list[str]:
        """What an adopted project keeps as it was, because the stack file does not say otherwise."""
        settings = self._args.settings
        if not settings.adopted:
            return []
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
            self._file(self._resource, ".gitlab-ci.yml", self._pipeline(), [self._last_commit, *runners])

    def _commit(self, project: gitlab.Project) -> pulumi.Resource:
        """One commit a file, one after the other: GitLab refuses a commit on a branch that has moved meanwhile."""
        previous: pulumi.Resource = project
        if self._args.settings.has_sample:
            for path, content in sample_application().items():
                previous = self._file(project, path, content, [previous], ignore_changes=["content", "encoding"])
        return previous

    def _file(
        self,
        project: gitlab.Project,
        path: str,
        content: str,
        depends_on: Sequence[pulumi.Resource],
        ignore_changes: list[str] | None = None,
    ) -> gitlab.RepositoryFile:
        return gitlab.RepositoryFile(
            self.child_name(f"file-{_dashed(path)}"),
            project=project.id,
            branch=self._args.settings.default_branch,
            file_path=path,
            content=base64.b64encode(content.encode()).decode(),
            encoding="base64",
            commit_message=f"Add {path}",
            overwrite_on_create=True,
            # A file that leaves the stack is its developers': it is not removed by a commit of ours.
            opts=self.child_options(
                deleted_with=project, depends_on=depends_on, ignore_changes=ignore_changes, retain=True
            ),
        )

    def _owner(self, project: gitlab.Project) -> pulumi.Resource:
        """What takes a thing of the stack with it: not a project that stays."""
        return self._args.dies_with if self._args.settings.adopted else project

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


def _dashed(text: str) -> str:
    """A part of a logical name: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
