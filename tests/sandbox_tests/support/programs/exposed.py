"""A firewall that opens SSH to the internet."""

import pulumi
import pulumi_digitalocean as digitalocean

cloud = digitalocean.Provider("cloud")
digitalocean.Firewall(
    "wall",
    name="wall",
    inbound_rules=[
        digitalocean.FirewallInboundRuleArgs(
            protocol="tcp", port_range="22", source_addresses=pulumi.Config().require_object("sources")
        )
    ],
    opts=pulumi.ResourceOptions(provider=cloud),
)
