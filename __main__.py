"""Slipway: GitLab, its registry and everything under them, as one dependency graph."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_digitalocean as digitalocean
import pulumi_gitlab
import pulumi_random as random
import pulumi_tls as tls

from components import settings
from components.account import read_account
from components.alerts import Alerts, AlertsArgs
from components.backup import Backup, BackupArgs
from components.ca_bundle import ca_bundle
from components.cost import as_output as cost_output
from components.cost import cost_report, monthly_cost
from components.delivery import Delivery, DeliveryArgs
from components.dns_records import DnsRecords, DnsRecordsArgs
from components.exports import export
from components.gitlab import ADMIN_USER, GitLab, GitLabArgs
from components.gitlab_connection import GitLabConnection
from components.gitlab_server import GitLabServer, GitLabServerArgs
from components.keys import AdminKey
from components.known_resources import StateReader
from components.lost_answers import SSH_KEY, once
from components.network import Network, NetworkArgs
from components.object_storage import ObjectStorage
from components.pipeline_reader import pipeline_errors
from components.public_access import PublicAccess, PublicAccessArgs
from components.registry_bucket import RegistryBucket, RegistryBucketArgs
from components.registry_configuration import RegistryConfiguration, RegistryConfigurationArgs
from components.remote import Machine
from components.signing import SigningKey
from components.site import Site
from components.stack_readme import stack_readme
from components.state import DeploymentPlan, DeploymentState, conflicts

prefix = f"{pulumi.get_project()}-{pulumi.get_stack()}"
reading = settings.of_stack()
deployed = DeploymentState.read()

# Every resource has one of these providers, or one that is created further down. An API token in the environment stays
# there: it is neither in the program nor in the state. One in the stack file is in both, encrypted.
state = StateReader()
token = pulumi.Config("digitalocean").get_secret("token")
cloud = digitalocean.Provider("digitalocean", token=token, opts=pulumi.ResourceOptions(hooks=state.hooks()))
# Everything that can be refused is refused here, in one report and before any resource is registered.
account = read_account(reading, deployed, prefix, cloud, state)
refused = [] if reading.errors else conflicts(deployed, reading.settings)
config = reading.complete([*refused, *account.errors, *pipeline_errors(reading)])
recovery = account.recovery
plan = DeploymentPlan.after(deployed, config, recovery.projects)
cost = monthly_cost(config, account.prices, has_bucket=plan.has_bucket or plan.has_backups)
if pulumi.runtime.is_dry_run():
    pulumi.log.info(cost_report(cost, deployed.monthly_cost if deployed else {}))
providers = [cloud, command.Provider("command"), random.Provider("random"), tls.Provider("tls")]
options = pulumi.ResourceOptions(providers=providers)

public_ports = (80, 443, config.registry.port)
admin_key = AdminKey("admin-key", options, keep=config.keep_data)
network_args = NetworkArgs(prefix, config.region, account.vpc, config.server.vpc_cidr, config.admin_cidrs)
site = Site(
    prefix=prefix,
    region=config.region,
    network=Network("network", network_args, options),
    admin_key=admin_key,
    ssh_key=digitalocean.SshKey(
        "ssh-key",
        name=f"{prefix}-admin",
        public_key=admin_key.public_key,
        opts=pulumi.ResourceOptions(provider=cloud, hooks=once(SSH_KEY, "ssh-key")),
    ),
    authorized_keys=config.server.authorized_keys,
    keep_data=config.keep_data,
)

server_args = GitLabServerArgs(site, config.server, config.fqdn, public_ports, recovery.volume, recovery.address)
server = GitLabServer("server", server_args, options)
names = DnsRecords("dns", DnsRecordsArgs(config, server.address, plan.has_domain, recovery.domain), options)
gitlab_args = GitLabArgs(
    machine=server.machine,
    fqdn=names.fqdn,
    address=server.address,
    settings=config,
    today=datetime.datetime.now(tz=datetime.UTC).date(),
)
gitlab = GitLab("gitlab", gitlab_args, options)
access_args = PublicAccessArgs(prefix, server.machine.droplet, config.registry.port, closed_until=[gitlab.sign_up_off])
access = PublicAccess("public-access", access_args, options)

storage = ObjectStorage.from_settings(config.registry.s3) if config.registry.s3 else None
if plan.has_bucket:
    bucket_args = RegistryBucketArgs(
        prefix, plan.spaces_region, config.keep_data, reading.has_spaces_key, recovery.registry
    )
    bucket = RegistryBucket("registry-bucket", bucket_args, options)
    if config.registry.storage is settings.Storage.SPACES:
        storage = bucket.storage
registry_args = RegistryConfigurationArgs(
    machine=server.machine,
    fqdn=names.fqdn,
    port=config.registry.port,
    public_ports=server.public_ports,
    storage=storage,
    keep_untagged=config.registry.keep_untagged,
    admin_user=ADMIN_USER,
    api_token=gitlab.api_token,
    gitlab_ready=gitlab.ready,
)
registry = RegistryConfiguration("registry", registry_args, options)

project_ids = pulumi.Output.from_input(dict[str, str]())
outputs: dict[str, Any] = {}
backups: list[Backup] = []
machines: dict[str, Sequence[Machine]] = {"server": [server.machine]}
if plan.has_backups:
    backup_args = BackupArgs(
        prefix=prefix,
        region=plan.backups_region,
        keep_data=config.keep_data,
        own_key=reading.has_spaces_key,
        settings=config.backup,
        machine=server.machine,
        fqdn=names.fqdn,
        storage=storage,
        ready=[registry],
        existing=recovery.backup,
    )
    backups.append(Backup("backup", backup_args, options))
    outputs["backup"] = backups[0].output

signing_key = None
if plan.has_signing_key:
    signing = SigningKey("signing", options, keep=config.keep_data)
    signing_key, outputs["signing_public_key"] = signing.private_key, signing.public_key

if config.projects:
    connection = GitLabConnection(
        url=gitlab.url,
        api_token=gitlab.api_token,
        server=server.machine,
        registry=registry.address,
        ca_certificate=config.certificate.trusted_roots,
        # Configuring the registry restarts GitLab, and the public ports open last: no request is made before.
        provider=pulumi_gitlab.Provider(
            "gitlab",
            base_url=pulumi.Output.concat(gitlab.url, "/api/v4/"),
            token=gitlab.api_token,
            cacert_file=ca_bundle(config.certificate.trusted_roots),
            early_auth_check=False,
            opts=pulumi.ResourceOptions(depends_on=[registry, access]),
        ),
    )
    delivery_args = DeliveryArgs(
        site=site,
        gitlab=connection,
        projects=config.projects,
        runners=config.runners,
        known_ids=plan.known_ids,
        moved_ids=plan.moved_ids,
        supply_chain=config.supply_chain,
        signing_key=signing_key,
    )
    delivery = Delivery("delivery", delivery_args, options)
    project_ids = delivery.project_ids()
    outputs["projects"] = delivery.as_output()
    machines |= {f"runner-{one}": runner.machines for one, runner in delivery.runners.items()}

if config.alerts.enabled:
    alerts_args = AlertsArgs(
        prefix=prefix,
        settings=config.alerts,
        url=gitlab.url,
        registry=registry.address,
        machines=machines,
        backup_hours=config.backup.max_age_hours if config.backup.enabled else None,
        token_expires=gitlab.api_token_expires,
        ready=[registry, access, *backups],
    )
    Alerts("alerts", alerts_args, options)

outputs |= {
    "deployed": pulumi.Output.all(gitlab.version, project_ids).apply(lambda both: plan.completed(*both)),
    # Pulumi Cloud shows an output of this name as the page of the stack.
    "readme": stack_readme(pulumi.get_project(), pulumi.get_stack(), config),
    "mail": config.smtp.as_output() if config.smtp else None,
    "sign_in_callbacks": config.sign_in_callbacks() or None,
    "monthly_cost": cost_output(cost),
    "gitlab_url": gitlab.url,
    "gitlab_version": gitlab.version,
    # What the tools have to trust beside the public authorities.
    "ca_certificate": config.certificate.trusted_roots,
    "gitlab_admin_user": ADMIN_USER,
    "gitlab_admin_password": gitlab.admin_password,
    "gitlab_api_token": gitlab.api_token,
    # From then on, `refresh` and `destroy` work only after the next `up`.
    "gitlab_api_token_expires": gitlab.api_token_expires,
    "registry": registry.address,
    "docker_login": registry.login_line,
    "registry_storage": storage.as_output() if storage else None,
    "server_address": server.address,
    "server_ssh_user": server.machine.user,
    "server_ssh_private_key": admin_key.private_key,
    "server_ssh_host_key": server.host_public_key,
}
export(outputs)
