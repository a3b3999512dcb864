"""A resource of a type, and with properties, that the configuration names."""

import pulumi

config = pulumi.Config()
pulumi.CustomResource(config.require("type"), "refused", config.require_object("properties"))
