"""A project in GitLab: its settings, its initial files and its pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pulumi
import pulumi_gitlab as gitlab
from pydantic.alias_generators import to_camel

from components import gitlab_leftovers, versions
from components.build_pipeline import pipeline_of
from components.component import Component
from components.environment import Environment, EnvironmentArgs
from components.gitlab_connection import GitLabConnection
from components.gitlab_leftovers import before_create, prepare_tag_rule, refuse_project, remove_variable
from components.members import Members, MembersArgs
from components.namespaces import namespace_of_project
from components.notifications import Notifications as PipelineNotifications
from components.notifications import NotificationsArgs
from components.project_checks import PIPELINE_FILE, require_pipeline
from components.remote import run_script
from components.rendering import render
from components.settings import Builder, Notifications, ProjectSettings, SupplyChain
from components.settings.gitlab_names import ref_slug
from components.signing import SIGNING_KEY
from components.target import Target

_APPLICATION: Final = Path(__file__).resolve().parent / "application"
#: Of a new project, and what its cleanup policy keeps.
_DEFAULT_BRANCH: Final = "main"
_KEPT_IMAGES: Final = 10
_KEPT_TAGS: Final = "v?[0-9]+[.][0-9].*"
#: The properties of a project that GitLab has a value for, whether the stack file sets them or not.
_PROPERTIES: Final = tuple(
    to_camel(name) for name, one in vars(gitlab.ProjectArgs).items() if isinstance(one, property)
)
#: Where Buildah keeps layers of the protected default branch, beside the image; the pipeline's template has it, too.
_PROTECTED_CACHE: Final = "/cache-protected"
#: The tags that cosign gives to signatures and attestations, which the cleanup policy keeps.
_SIGNATURES: Final = r"sha256-[0-9a-f]{64}\.(?:sig|att)"
#: Access level, as GitLab's API names it.
_MAINTAINER: Final = "maintainer"


@dataclass(frozen=True)
class ProjectArgs:
    """Inputs of `Project`. `registry_mirror` is the URL of a mirror of Docker Hub; `mark` says whose the variables are.

    `protected_tag` is the tag of jobs of protected branches, if a runner takes no others; `on_cluster` is whether one
    of the runners has a cluster.
    With `keep_data` the project outlives a destroy. `known_id` is its ID if an earlier update created it and it was
    kept; it is found again by that ID. `moved_id` is its ID if it has to move to another namespace. `group_ids` are
    those of the stack's own groups, by path in lowercase. `supply_chain` is the stack's, `signing_key` the key of a
    project that signs with it, and `notifications` who hears of its pipelines.
    """

    gitlab: GitLabConnection
    settings: ProjectSettings
    builder: Builder
    registry_mirror: str | None
    protected_tag: str | None
    on_cluster: bool
    mark: str
    keep_data: bool
    known_id: str | None
    moved_id: str | None
    group_ids: Mapping[str, pulumi.Output[int]]
    supply_chain: SupplyChain
    signing_key: pulumi.Output[str] | None
    notifications: Notifications | None


class Project(Component):
    """A project whose images are built by its own runners and no others.

    Owns the project, the protection of its default branch and of the tags that it releases, its variables, a deploy
    token that can only pull images, one that can push them if the settings ask for it, the sample application if they
    ask for that, its environments, and the pipeline. The application is committed once and belongs to its developers
    from then on; the pipeline is kept as declared. Files stay when they leave the stack.

    An imported project keeps what the settings do not set, and is never deleted: when it leaves the stack it loses the
    variables and the deploy token that the stack created, and keeps everything else. Refuses to own runners, and
    members that the settings do not name.
    """

    project_id: pulumi.Output[int]
    url: pulumi.Output[str]
    image: pulumi.Output[str]
    deploy_username: pulumi.Output[str]
    deploy_token_id: pulumi.Output[str]
    push_username: pulumi.Output[str] | None
    push_token_id: pulumi.Output[str] | None
    #: By name; see `declare_environments`.
    environments: dict[str, Environment]

    def __init__(self, name: str, args: ProjectArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the project without its pipeline, which `commit_pipeline` adds.

        Raises:
            pulumi.RunError: the group of the settings does not exist, or GitLab does not move the project there; raised
                when GitLab has answered.
        """
        super().__init__("Project", name, opts)
        self._args = args
        project = self._project()
        known = args.settings.default_branch or (None if args.settings.imported else _DEFAULT_BRANCH)
        self._branch = pulumi.Output.from_input(known or project.default_branch)
        if args.settings.protects_default_branch:
            self._protect_branch(project)
        if args.settings.protects_tags:
            self._protect_tags(project)
        self._set_variables(project)
        if args.signing_key is not None:
            self._set_variable(
                project, SIGNING_KEY, args.signing_key, masked=True, protected=True, variable_type="file"
            )
        token = self._deploy_token(project, "pull", "read_registry")
        # Clients ask the registry what it has before they push, which takes the right to read.
        pushes = args.settings.receive_images
        push = self._deploy_token(project, "push", "read_registry", "write_registry") if pushes else None
        if args.settings.members:
            self._add_members(project)
        if args.notifications is not None and args.notifications.enabled:
            self._notify(args.notifications, project)
        self._resource, self._seeded = project, self._commit_sample(project)

        self.project_id = project.id.apply(int)
        self.url = project.web_url
        path = project.path_with_namespace
        self.image = pulumi.Output.concat(args.gitlab.registry, "/", path.apply(str.lower))
        self.deploy_username = token.username
        self.deploy_token_id = token.id
        self.push_username = push.username if push else None
        self.push_token_id = push.id if push else None
        self.environments = {}
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
            default_branch=settings.default_branch or (None if settings.imported else _DEFAULT_BRANCH),
            initialize_with_readme=None if settings.imported else True,
            # GitLab would start a pipeline of its own at the first file that it knows how to build.
            auto_devops_enabled=False,
            # No job may run on a runner that cannot build images, or that others use.
            shared_runners_enabled=False,
            group_runners_enabled=False,
            container_registry_access_level="enabled",
            container_expiration_policy=self._cleanup_policy(),
            opts=self.child_options(
                provider=self._args.gitlab.provider,
                deleted_with=self._args.gitlab.server.droplet,
                import_=settings.import_id or self._args.known_id,
                ignore_changes=self._unmanaged(),
                # A project that existed before the stack stays when the stack is destroyed, and so does kept data.
                retain=settings.imported or self._args.keep_data,
                hooks=before_create(self, "project", self._args.gitlab, self._args.mark, refuse_project),
            ),
        )

    def _cleanup_policy(self) -> gitlab.ProjectContainerExpirationPolicyArgs:
        settings = self._args.settings
        kept = ["latest", ref_slug(settings.default_branch or _DEFAULT_BRANCH), settings.keep_tags or _KEPT_TAGS]
        kept += [_SIGNATURES] if self._args.signing_key is not None else []
        # Complete, because GitLab fills in whatever is missing, and every preview would show a difference.
        return gitlab.ProjectContainerExpirationPolicyArgs(
            enabled=settings.cleanup is not False,
            cadence="1d",
            keep_n=settings.keep_images or _KEPT_IMAGES,
            older_than="30d",
            name_regex_delete=".*",
            # GitLab puts no group around it: without one, what begins with `latest` would be kept as well.
            name_regex_keep=f"(?:{'|'.join(kept)})",
        )

    def _unmanaged(self) -> list[str]:
        """Properties that keep their present values: of an imported project, all that the stack file does not set."""
        settings = self._args.settings
        if not settings.imported:
            # It matters only at creation; for a project that is found again it would be a difference.
            return ["initializeWithReadme"]
        asked = {
            "containerExpirationPolicy": settings.sets_cleanup_policy or None,
            "defaultBranch": settings.default_branch,
            "description": settings.description,
            "namespaceId": settings.group,
            "visibilityLevel": settings.visibility,
        }
        return sorted(name for name in _PROPERTIES if asked.get(name) is None)

    def _namespace(self) -> pulumi.Output[int | None] | None:
        settings, args = self._args.settings, self._args
        moved_id = args.moved_id or (settings.import_id if settings.group else None)
        return namespace_of_project(self, args.gitlab, settings.group, moved_id, args.group_ids)

    def _protect_branch(self, project: gitlab.Project) -> None:
        gitlab.BranchProtection(
            self.child_name("protection"),
            project=project.id,
            branch=self._branch,
            push_access_level=_MAINTAINER,
            merge_access_level=_MAINTAINER,
            allow_force_push=False,
            # A changed level replaces it; created first, the deletion of the old one would remove the new protection.
            opts=self.child_options(
                provider=self._args.gitlab.provider, deleted_with=project, delete_before_replace=True
            ),
        )

    def _protect_tags(self, project: gitlab.Project) -> None:
        """Let only maintainers, and jobs in their name, push what the default branch releases.

        GitLab has five rules a project, so there is one for these tags and one for those of the settings.
        """
        released = self._branch.apply(lambda branch: f"latest|{ref_slug(branch)}")
        wanted: dict[str, pulumi.Input[str]] = {"released-tags": released}
        if self._args.settings.protected_tags is not None:
            wanted["protected-tags"] = self._args.settings.protected_tags
        for suffix, tags in wanted.items():
            gitlab.ProjectContainerTagProtection(
                self.child_name(suffix),
                project=project.id,
                # GitLab and the registry look for it anywhere in a name.
                tag_name_regex=pulumi.Output.concat("^(?:", tags, ")$"),
                minimum_access_level_for_push=_MAINTAINER.upper(),
                minimum_access_level_for_delete=_MAINTAINER.upper(),
                opts=self.child_options(
                    provider=self._args.gitlab.provider,
                    deleted_with=self._owner(project),
                    # Created first, it would be the old rule, taken over and then deleted.
                    delete_before_replace=True,
                    hooks=before_create(self, suffix, self._args.gitlab, self._args.mark, prepare_tag_rule),
                ),
            )

    def _set_variables(self, project: gitlab.Project) -> None:
        for key, one in self._args.settings.variables.items():
            value = pulumi.Output.secret(one.value.get_secret_value())
            self._set_variable(project, key, value, masked=one.masked, protected=one.protected)

    def _set_variable(
        self,
        project: gitlab.Project,
        key: str,
        value: pulumi.Output[str],
        *,
        masked: bool,
        protected: bool,
        variable_type: str | None = None,
    ) -> None:
        suffix = f"variable-{key}"
        gitlab.ProjectVariable(
            self.child_name(suffix),
            project=project.id,
            key=key,
            description=self._args.mark,
            value=value,
            masked=masked,
            protected=protected,
            variable_type=variable_type,
            # A dollar sign in a value is not expanded.
            raw=True,
            opts=self.child_options(
                provider=self._args.gitlab.provider,
                deleted_with=self._owner(project),
                hooks=before_create(self, suffix, self._args.gitlab, self._args.mark, remove_variable),
            ),
        )

    def _deploy_token(self, project: gitlab.Project, name: str, *scopes: str) -> gitlab.ProjectDeployToken:
        return gitlab.ProjectDeployToken(
            self.child_name("deploy-token" if name == "pull" else f"deploy-token-{name}"),
            project=project.id,
            name=name,
            username=f"{self._args.settings.path}-{name}",
            scopes=list(scopes),
            opts=self.child_options(
                provider=self._args.gitlab.provider,
                # On kept data it stays valid, for those who pull with it, and hands its value on; see `Delivery`.
                deleted_with=self._owner(project),
                # Who replaces it wants another value; created first, it would take over that of its predecessor.
                delete_before_replace=True,
                additional_secret_outputs=["token"],
            ),
        )

    def _add_members(self, project: gitlab.Project) -> None:
        args, path = self._args, self._args.settings.path
        members = MembersArgs(
            gitlab=args.gitlab,
            members=args.settings.members,
            place=f"projects[{path}].members",
            project_id=project.id.apply(int),
            mark=args.mark,
            owner=self._owner(project),
        )
        Members(self.child_name("members"), members, self.child_options())

    def _notify(self, settings: Notifications, project: gitlab.Project) -> None:
        # A destroy asks nothing of GitLab, and a kept project keeps notifying: the next update sets it again.
        args = NotificationsArgs(self._args.gitlab, settings, project.id.apply(int), self._owner(project))
        PipelineNotifications(self.child_name("notifications"), args, self.child_options())

    def declare_environments(self, registry_token: pulumi.Output[str], targets: Mapping[str, Target]) -> None:
        """Declare the environments of the settings; `registry_token` is the value of the deploy token that pulls.

        `targets` are the machines of those that have one of the stack, by the names of the environments.
        """
        for settings in self._args.settings.deploy:
            self.environments[settings.name] = Environment(
                self.child_name(f"environment-{settings.slug}"),
                EnvironmentArgs(
                    gitlab=self._args.gitlab,
                    settings=settings,
                    project=self._args.settings.path,
                    project_id=self.project_id,
                    registry_user=self.deploy_username,
                    registry_token=registry_token,
                    mark=self._args.mark,
                    owner=self._owner(self._resource),
                    target=targets.get(settings.name),
                ),
                self.child_options(),
            )

    def commit_pipeline(self, machines: Sequence[pulumi.Resource]) -> None:
        """Commit the pipeline's file, if the settings ask for it and the branch does not have it already.

        Its commit starts the pipeline, so it waits until runners can take its jobs with their present configuration and
        targets let them in, all of which are `machines`, and deploy jobs have their variables.
        """
        if self._args.settings.has_pipeline:
            # A `gitlab.RepositoryFile` commits again whenever it is created, even if nothing is different.
            run_script(
                self,
                "pipeline",
                machine=self._args.gitlab.server,
                file="commit-pipeline.sh",
                libraries=["gitlab.sh"],
                values={
                    "BRANCH": self._branch_of_the_pipeline(),
                    "FILE": PIPELINE_FILE,
                    "GITLAB_URL": self._args.gitlab.url,
                    "PIPELINE": self._pipeline(),
                    "PROJECT_ID": self._resource.id,
                },
                secrets={"API_TOKEN": self._args.gitlab.api_token},
                timeout_seconds=300,
                depends_on=[*self._seeded, *machines, *self._protect_cache(), *self.environments.values()],
            )

    def _protect_cache(self) -> list[pulumi.Resource]:
        """Let only those who may change the default branch push what Buildah builds it from.

        Whatever the builder is, so that nobody has filled the repository by the time that it becomes Buildah.
        """
        if not self._args.settings.protects_default_branch:
            return []
        connection, project = self._args.gitlab, self._resource
        removal = gitlab_leftovers.remove_repository_rule
        rule = gitlab.ProjectContainerRepositoryProtection(
            self.child_name("cache-protection"),
            project=project.id,
            repository_path_pattern=pulumi.Output.concat(project.path_with_namespace, _PROTECTED_CACHE),
            minimum_access_level_for_push=_MAINTAINER,
            minimum_access_level_for_delete=_MAINTAINER,
            opts=self.child_options(
                provider=connection.provider,
                deleted_with=self._owner(project),
                hooks=before_create(self, "cache-protection", connection, self._args.mark, removal),
            ),
        )
        return [rule]

    def _branch_of_the_pipeline(self) -> pulumi.Output[str]:
        """The default branch, once it is known that GitLab would run the pipeline of an imported project."""
        project, path = self._resource, self._args.settings.path
        if not self._args.settings.imported:
            return self._branch
        found = pulumi.Output.all(project.archived, project.container_registry_access_level, project.ci_config_path)
        checked = found.apply(lambda values: require_pipeline(path, *values))
        return pulumi.Output.all(self._branch, checked).apply(lambda both: str(both[0]))

    def _commit_sample(self, project: gitlab.Project) -> list[pulumi.Resource]:
        """Commit the sample application, over no file of a developer: a replaced server finds the files that it had."""
        if not self._args.settings.has_sample:
            return []
        first_commit = json.dumps(
            {
                "branch": self._args.settings.default_branch or _DEFAULT_BRANCH,
                "commit_message": "Add the sample application",
                "actions": [_action(path, content) for path, content in sample_application().items()],
            }
        )
        values = {
            "COMMIT": first_commit,
            "GITLAB_URL": self._args.gitlab.url,
            "PROJECT_ID": project.id,
        }
        return [
            run_script(
                self,
                "sample",
                machine=self._args.gitlab.server,
                file="seed-project.sh",
                libraries=["gitlab.sh"],
                values=values,
                secrets={"API_TOKEN": self._args.gitlab.api_token},
                timeout_seconds=300,
            )
        ]

    def _owner(self, project: gitlab.Project) -> pulumi.Resource:
        """What a resource inside the project is deleted with: a kept project stays in GitLab when it leaves the stack.

        On kept data it stays as well when the server is destroyed: the next update removes it from there.
        """
        is_kept = self._args.settings.imported or self._args.keep_data
        return self._args.gitlab.server.droplet if is_kept else project

    def _pipeline(self) -> str:
        args = self._args
        runners = (args.builder, args.registry_mirror, args.protected_tag)
        return pipeline_of(args.settings, *runners, args.supply_chain, on_cluster=args.on_cluster)


def sample_application() -> Mapping[str, str]:
    """Return the files of the sample application by their paths, in the order in which they are committed."""
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(_APPLICATION.iterdir()) if path.is_file()}
    return {**files, "Dockerfile": render("Dockerfile.j2", node_version=versions.NODE)}


def _action(path: str, content: str) -> dict[str, str]:
    # GitLab has created one file with the project.
    return {"action": "update" if path == "README.md" else "create", "file_path": path, "content": content}
