"""Imports a project that was created by hand."""

import pulumi
import pulumi_gitlab as gitlab

config = pulumi.Config()
provider = gitlab.Provider("gitlab", base_url=config.require("baseUrl"), token=config.require_secret("token"))
gitlab.Project(
    "old",
    name="old",
    description=config.require("description"),
    container_expiration_policy={"enabled": False},
    opts=pulumi.ResourceOptions(provider=provider, import_="root/old"),
)
