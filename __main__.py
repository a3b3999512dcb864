"""Slipway: GitLab, its registry and everything under them, as one dependency graph."""

from __future__ import annotations

import datetime

import pulumi
import pulumi_command as command
import pulumi_digitalocean as digitalocean
import pulumi_random as random
import pulumi_tls as tls
from pulumi_gitlab import Provider

from components import gitlab, settings
from components.delivery import Delivery, DeliveryArgs
from components.dns_records import DnsRecords, DnsRecordsArgs
from components.gitlab import GitLab, GitLabArgs
from components.gitlab_server import GitLabServer, GitLabServerArgs
from components.keys import AdminKey
from components.network import Network, NetworkArgs
from components.object_storage import ObjectStorage
from components.public_access import PublicAccess, PublicAccessArgs
from components.registry_bucket import RegistryBucket, RegistryBucketArgs
from components.registry_configuration import RegistryConfiguration, RegistryConfigurationArgs
from components.state import Deployment

# Everything that can be refused is refused here, before anything is registered.
config = settings.of_stack()
planned = Deployment.next(config, Deployment.read())

prefix = f"{pulumi.get_project()}-{pulumi.get_stack()}"
public_ports = (443, config.registry.port)

# No resource has a provider that is not named here. The API token stays in the environment: neither the program nor
# the state has it.
cloud = digitalocean.Provider("digitalocean")
options = pulumi.ResourceOptions(
    providers=[
        cloud,
        command.Provider("command"),
        random.Provider("random"),
        tls.Provider("tls"),
    ]
)

admin_key = AdminKey("admin-key", options)
ssh_key = digitalocean.SshKey(
    "ssh-key", name=f"{prefix}-admin", public_key=admin_key.public_key, opts=pulumi.ResourceOptions(provider=cloud)
)
network = Network(
    "network",
    NetworkArgs(
        prefix=prefix,
        region=config.region,
        vpc_cidr=config.server.vpc_cidr,
        admin_cidrs=config.admin_cidrs,
    ),
    options,
)
server = GitLabServer(
    "server",
    GitLabServerArgs(
        prefix=prefix,
        region=config.region,
        size=config.server.size,
        image=config.server.image,
        volume_size_gb=config.server.volume_size_gb,
        fqdn=config.fqdn,
        admin_key=admin_key,
        ssh_key=ssh_key,
        network=network,
        public_ports=(80, *public_ports),
        authorized_keys=config.server.authorized_keys,
        keep_data=config.keep_data,
    ),
    options,
)
names = DnsRecords(
    "dns",
    DnsRecordsArgs(
        domain=config.domain,
        hostname=config.hostname,
        address=server.address,
        ttl=config.dns.ttl,
        create_domain=planned.has_domain,
        issuer=config.certificate.issuer,
        keep_data=config.keep_data,
    ),
    options,
)
git = GitLab(
    "gitlab",
    GitLabArgs(
        machine=server.machine,
        fqdn=names.fqdn,
        address=server.address,
        version=config.gitlab.version,
        packages=config.gitlab.packages,
        certificate=config.certificate,
        memory_gb=config.server.memory_gb,
        today=datetime.datetime.now(tz=datetime.UTC).date(),
    ),
    options,
)
access = PublicAccess(
    "public-access",
    PublicAccessArgs(
        prefix=prefix,
        network=network,
        droplet=server.machine.droplet,
        ports=public_ports,
        closed_until=[git.sign_up_off],
    ),
    options,
)

storage = ObjectStorage.given(config.registry.s3) if config.registry.s3 else None
if planned.has_bucket:
    bucket_args = RegistryBucketArgs(prefix=prefix, region=planned.spaces_region, keep_data=config.keep_data)
    bucket = RegistryBucket("registry-bucket", bucket_args, options)
    if config.registry.storage is settings.Storage.SPACES:
        storage = bucket.storage

registry = RegistryConfiguration(
    "registry",
    RegistryConfigurationArgs(
        machine=server.machine,
        fqdn=names.fqdn,
        port=config.registry.port,
        storage=storage,
        admin_user=gitlab.ADMIN_USER,
        api_token=git.api_token,
        gitlab_ready=git.ready,
    ),
    options,
)

project_ids = pulumi.Output.from_input(dict[str, str]())
if config.projects:
    # GitLab restarts when its registry is configured, and answers when its port is open: nothing is asked before.
    forge = Provider(
        "gitlab",
        base_url=pulumi.Output.concat(git.url, "/api/v4/"),
        token=git.api_token,
        early_auth_check=False,
        opts=pulumi.ResourceOptions(depends_on=[registry, access]),
    )
    delivery = Delivery(
        "delivery",
        DeliveryArgs(
            prefix=prefix,
            region=config.region,
            projects=config.projects,
            runners=config.runners,
            admin_key=admin_key,
            ssh_key=ssh_key,
            authorized_keys=config.server.authorized_keys,
            network=network,
            server=server.machine,
            gitlab_url=git.url,
            api_token=git.api_token,
            registry=registry.address,
            authority=config.certificate.ca_certificate,
            keep_data=config.keep_data,
            known_projects=planned.projects,
        ),
        pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(providers=[forge])),
    )
    project_ids = delivery.project_ids()
    pulumi.export("projects", delivery.as_output())

pulumi.export("deployed", pulumi.Output.all(git.version, project_ids).apply(lambda both: planned.remember(*both)))
pulumi.export("gitlab_url", git.url)
pulumi.export("gitlab_version", git.version)
pulumi.export("gitlab_admin_user", gitlab.ADMIN_USER)
pulumi.export("gitlab_admin_password", git.admin_password)
pulumi.export("gitlab_api_token", git.api_token)
pulumi.export("registry", registry.address)
pulumi.export("docker_login", registry.login_line)
pulumi.export("registry_storage", storage.as_output() if storage else None)
pulumi.export("server_address", server.address)
pulumi.export("server_ssh_user", server.machine.user)
pulumi.export("server_ssh_private_key", admin_key.private_key)
pulumi.export("server_ssh_host_key", server.host_public_key)
