"""Provider `gitlab`: its configuration, resources and functions."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.plugins.base.framework import Field, Fields, Kind, Provider
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.base.server import main
from tests.sandbox.plugins.gitlab import (
    branches,
    ci,
    container_protection,
    functions,
    groups,
    integrations,
    members,
    projects,
    settings,
    tokens,
)
from tests.sandbox.plugins.gitlab.session import Session


class GitLab(Provider):
    """The provider. Configuring it makes no request."""

    name = "gitlab"
    distribution = "pulumi-gitlab"
    config: ClassVar[Fields] = {
        "baseUrl": Field(),
        "token": Field(),
        "cacertFile": Field(),
        "insecure": Field(Kind.BOOLEAN),
        "earlyAuthCheck": Field(Kind.BOOLEAN),
        "retries": Field(Kind.INTEGER),
    }
    resources = (
        branches.Branch(),
        branches.BranchProtection(),
        branches.RepositoryFile(),
        ci.ProjectRunnerEnablement(),
        ci.ProjectVariable(),
        ci.UserRunner(),
        container_protection.ProjectContainerRepositoryProtection(),
        container_protection.ProjectContainerTagProtection(),
        groups.Group(),
        integrations.IntegrationSlack(),
        integrations.ProjectIntegrationPipelinesEmail(),
        members.GroupMembership(),
        members.ProjectMembership(),
        projects.Project(),
        settings.ApplicationSettings(),
        tokens.ProjectAccessToken(),
        tokens.ProjectDeployToken(),
    )
    functions = (
        functions.GetCurrentUser(),
        functions.GetGroup(),
        functions.GetGroups(),
        functions.GetMetadata(),
        functions.GetProject(),
        functions.GetUsers(),
    )

    def configure(self, config: Properties) -> Session:
        """Clients for the API."""
        return Session(config)


if __name__ == "__main__":
    main(GitLab())
