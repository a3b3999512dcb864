"""Slipway: GitLab, its registry and everything under them, as one dependency graph."""

from __future__ import annotations

import datetime

import pulumi
import pulumi_command as command
import pulumi_digitalocean as digitalocean
import pulumi_random as random
import pulumi_tls as tls

from components import gitlab, gitlab_server, settings
from components.deployment import Deployment
from components.dns_records import DnsRecords, DnsRecordsArgs
from components.gitlab import GitLab, GitLabArgs
from components.gitlab_server import GitLabServer, GitLabServerArgs
from components.keys import Keys
from components.network import Network, NetworkArgs
from components.registry_bucket import RegistryBucket, RegistryBucketArgs
from components.registry_configuration import ObjectStorage, RegistryConfiguration, RegistryConfigurationArgs

# Everything that can be refused is refused here, before anything is registered.
config = settings.of_stack()
planned = Deployment.next(config, Deployment.read())

prefix = f"{pulumi.get_project()}-{pulumi.get_stack()}"
public_ports = (80, 443, config.registry.port)

# No resource has a provider that is not named here. The API token stays in the environment: neither the program nor
# the state has it.
options = pulumi.ResourceOptions(
    providers=[
        command.Provider("command"),
        digitalocean.Provider("digitalocean"),
        random.Provider("random"),
        tls.Provider("tls"),
    ]
)

keys = Keys("keys", options)
network = Network(
    "network",
    NetworkArgs(
        prefix=prefix,
        region=config.region,
        vpc_cidr=config.server.vpc_cidr,
        admin_cidrs=config.admin_cidrs,
        public_ports=public_ports,
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
        keys=keys,
        network=network,
        public_ports=public_ports,
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

pulumi.export("deployed", git.version.apply(planned.remember))
pulumi.export("gitlab_url", git.url)
pulumi.export("gitlab_version", git.version)
pulumi.export("gitlab_admin_user", gitlab.ADMIN_USER)
pulumi.export("gitlab_admin_password", git.admin_password)
pulumi.export("gitlab_api_token", git.api_token)
pulumi.export("registry", registry.address)
pulumi.export("docker_login", registry.login_line)
pulumi.export("registry_storage", storage.as_output() if storage else None)
pulumi.export("server_address", server.address)
pulumi.export("server_ssh_user", gitlab_server.ADMIN_USER)
pulumi.export("server_ssh_private_key", keys.admin_private_key)
pulumi.export("server_ssh_host_key", keys.host_public_key)
