"""Imports a project that was created by hand, and ignores everything that the program says about it."""

import pulumi
import pulumi_gitlab as gitlab
from pydantic.alias_generators import to_camel

config = pulumi.Config()
provider = gitlab.Provider("gitlab", base_url=config.require("baseUrl"), token=config.require_secret("token"))
properties = [to_camel(name) for name, value in vars(gitlab.ProjectArgs).items() if isinstance(value, property)]
project = gitlab.Project(
    "old",
    name="another",
    path="another",
    default_branch="main",
    shared_runners_enabled=False,
    container_registry_access_level="enabled",
    container_expiration_policy={"enabled": True, "keep_n": 1, "name_regex_delete": ".*"},
    opts=pulumi.ResourceOptions(provider=provider, import_=config.require("id"), ignore_changes=properties),
)
pulumi.export("branch", project.default_branch)
