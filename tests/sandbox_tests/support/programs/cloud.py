"""A machine with everything around it. `size`, `disk` and `port` can change in place, `user_data` cannot."""

import pulumi
import pulumi_digitalocean as do

config = pulumi.Config()
provider = do.Provider("account", token=config.require_secret("token"), api_endpoint=config.require("endpoint"))
here = pulumi.ResourceOptions(provider=provider)
key = do.SshKey("key", public_key=config.require("publicKey"), opts=here)
vpc = do.Vpc("vpc", region="nyc3", ip_range="10.20.0.0/20", opts=here)
volume = do.Volume("volume", region="nyc3", size=config.require_int("disk"), initial_filesystem_type="ext4", opts=here)
machine = do.Droplet(
    "machine",
    image="debian-13-x64",
    size=config.require("size"),
    region="nyc3",
    ssh_keys=[key.id],
    vpc_uuid=vpc.id,
    user_data=config.require_secret("userData"),
    tags=["first", *config.require_object("tags")],
    opts=here,
)
number = machine.id.apply(int)
attachment = do.VolumeAttachment("attachment", droplet_id=number, volume_id=volume.id, opts=here)
address = do.ReservedIp("address", region="nyc3", opts=here)
do.ReservedIpAssignment(
    "assignment",
    ip_address=address.ip_address,
    droplet_id=number,
    opts=pulumi.ResourceOptions(provider=provider, depends_on=[attachment]),
)
everywhere = ["0.0.0.0/0", "::/0"]
do.Firewall(
    "firewall",
    droplet_ids=[number],
    inbound_rules=[
        {"protocol": "tcp", "port_range": config.require("port"), "source_addresses": everywhere},
        {"protocol": "icmp", "source_addresses": everywhere},
    ],
    outbound_rules=[{"protocol": "tcp", "port_range": "all", "destination_addresses": everywhere}],
    opts=here,
)
domain = do.Domain("domain", name="example.com", opts=here)
do.DnsRecord("a", domain=domain.id, type="A", name="git", value=address.ip_address, ttl=60, opts=here)
do.DnsRecord("caa", domain=domain.id, type="CAA", name="@", value="letsencrypt.org.", flags=0, tag="issue", opts=here)
spaces = do.SpacesKey("spaces", grants=[{"bucket": "", "permission": "fullaccess"}], opts=here)
project = do.Project("project", environment="Development", opts=here)
do.ProjectResources("resources", project=project.id, resources=[machine.droplet_urn, volume.volume_urn], opts=here)
sizes = do.get_sizes(
    filters=[{"key": "slug", "values": [config.require("size")]}], opts=pulumi.InvokeOptions(provider=provider)
)
pulumi.export("ip", machine.ipv4_address)
pulumi.export("fqdn", domain.domain_urn)
pulumi.export("memory", sizes.sizes[0].memory)
pulumi.export("secret", spaces.secret_key)
