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
_BRANCH: Final = "main"
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
    belongs to its developers from then on; the pipeline is kept as declared. Refuses to own runners and people.
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
            visibility_level=settings.visibility,
            default_branch=_BRANCH,
            initialize_with_readme=settings.import_id is None,
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
                name_regex_keep=f"latest|{_BRANCH}",
            ),
            opts=self.child_options(
                deleted_with=self._args.dies_with,
                import_=settings.import_id,
                # What was there before the stack stays when the stack goes.
                keep=settings.import_id is not None,
            ),
        )

    def _namespace(self) -> pulumi.Output[int] | None:
        group = self._args.settings.group
        if group is None:
            return None
        return gitlab.get_group_output(full_path=group, opts=pulumi.InvokeOptions(parent=self)).apply(
            lambda found: int(found.group_id or 0)
        )

    def _protect_branch(self, project: gitlab.Project) -> None:
        gitlab.BranchProtection(
            self.child_name("protection"),
            project=project.id,
            branch=_BRANCH,
            push_access_level=_MAINTAINER,
            merge_access_level=_MAINTAINER,
            allow_force_push=False,
            # Made anew where a level changes; made first, it would take away the protection of the one before.
            opts=self.child_options(deleted_with=project, delete_before_replace=True),
        )

    def _set_variables(self, project: gitlab.Project) -> None:
        for key, variable in self._args.settings.variables.items():
            gitlab.ProjectVariable(
                self.child_name(f"variable-{_dashed(key)}"),
                project=project.id,
                key=key,
                value=pulumi.Output.secret(variable.value.get_secret_value()),
                masked=variable.masked,
                protected=variable.protected,
                opts=self.child_options(deleted_with=project),
            )

    def _deploy_token(self, project: gitlab.Project) -> gitlab.ProjectDeployToken:
        return gitlab.ProjectDeployToken(
            self.child_name("deploy-token"),
            project=project.id,
            name="pull",
            username=f"{self._args.settings.path}-pull",
            scopes=["read_registry"],
            opts=self.child_options(deleted_with=project, additional_secret_outputs=["token"]),
        )

    def begin(self, runners: Sequence[pulumi.Resource]) -> None:
        """Commit the pipeline, which starts it, once these runners can take its jobs as it means them."""
        self._file(self._resource, ".gitlab-ci.yml", self._pipeline(), [self._last_commit, *runners])

    def _commit(self, project: gitlab.Project) -> pulumi.Resource:
        """One commit a file, one after the other: GitLab refuses a commit on a branch that has moved meanwhile."""
        previous: pulumi.Resource = project
        if self._args.settings.sample:
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
            branch=_BRANCH,
            file_path=path,
            content=base64.b64encode(content.encode()).decode(),
            encoding="base64",
            commit_message=f"Add {path}",
            overwrite_on_create=True,
            # Removed with the project and not one by one, each a commit that starts a pipeline.
            opts=self.child_options(deleted_with=project, depends_on=depends_on, ignore_changes=ignore_changes),
        )

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


def _dashed(text: str) -> str:
    """A part of a logical name: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
