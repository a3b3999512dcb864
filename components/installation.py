"""An installation: all components of an environment, and how they depend on each other."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pulumi
import pulumi_command as command
import pulumi_digitalocean as digitalocean
import pulumi_gitlab
import pulumi_random as random
import pulumi_tls as tls

from components.account import Account, read_account
from components.alerts import Alerts, AlertsArgs
from components.backup import Backup, BackupArgs
from components.ca_bundle import ca_bundle
from components.cost import as_output as cost_output
from components.cost import cost_report, monthly_cost
from components.database_plan import plan_clusters
from components.delivery import Delivery, DeliveryArgs
from components.dns_records import DnsRecords, DnsRecordsArgs
from components.gitlab import METRICS, GitLab, GitLabArgs
from components.gitlab_connection import GitLabConnection
from components.gitlab_server import GitLabServer, GitLabServerArgs
from components.groups import Groups, GroupsArgs
from components.keys import AdminKey
from components.known_resources import StateReader
from components.lost_answers import SSH_KEY, once
from components.managed_databases import DatabaseServers, ManagedDatabases, ManagedDatabasesArgs
from components.network import Network, NetworkArgs
from components.object_buckets import FileBuckets, ObjectBuckets, ObjectBucketsArgs
from components.object_migration import ObjectMigration, ObjectMigrationArgs
from components.object_storage import ObjectStorage
from components.pipeline_reader import pipeline_errors
from components.public_access import PublicAccess, PublicAccessArgs
from components.registry_beginning import RegistryBeginning, RegistryBeginningArgs
from components.registry_bucket import RegistryBucket, RegistryBucketArgs
from components.registry_configuration import RegistryConfiguration, RegistryConfigurationArgs
from components.registry_settings import RegistrySettings
from components.remote import Machine
from components.settings import Reading, Settings, Storage
from components.settings.gitlab_names import ADMINISTRATOR
from components.signing import SigningKey
from components.site import Site
from components.stack_readme import stack_readme
from components.state import DeploymentPlan, DeploymentState, conflicts

#: How what the last update has left is read, if there was one, once the provider for DigitalOcean is declared.
DeployedReader = Callable[[StateReader, digitalocean.Provider], DeploymentState | None]


@dataclass(frozen=True)
class Plan:
    """An installation before anything of it is registered, except the providers. Plain data, not a component.

    `prefix` begins the names of everything in the cloud; `options` have the providers of all components; `cost` are US
    dollars per month by item.
    """

    prefix: str
    settings: Settings
    has_spaces_key: bool
    account: Account
    deployment: DeploymentPlan
    cost: Mapping[str, float]
    cloud: digitalocean.Provider
    options: pulumi.ResourceOptions

    @classmethod
    def read(
        cls, reading: Reading, read_deployed: DeployedReader, parent: pulumi.ComponentResource | None = None
    ) -> Self:
        """Check all that can be refused. `parent` is that of everything; without one it is the stack.

        Raises:
            SettingsError: with every reason why the installation cannot be what the settings say.
        """
        prefix = f"{pulumi.get_project()}-{pulumi.get_stack()}"
        # Every resource has one of these providers, or one that is created further down. An API token in the
        # environment stays there: it is neither in the program nor in the state. One in the stack file is in both,
        # encrypted.
        state = StateReader()
        token = pulumi.Config("digitalocean").get_secret("token")
        below = pulumi.ResourceOptions(parent=parent)
        hooks = pulumi.ResourceOptions(parent=parent, hooks=state.hooks())
        cloud = digitalocean.Provider("digitalocean", token=token, opts=hooks)
        deployed = read_deployed(state, cloud)
        # Their plugins start while the account answers.
        others = [
            command.Provider("command", opts=below),
            random.Provider("random", opts=below),
            tls.Provider("tls", opts=below),
        ]
        account = read_account(reading, deployed, prefix, cloud, state)
        refused = [] if reading.errors else conflicts(deployed, reading.settings)
        config = reading.complete([*refused, *account.errors, *pipeline_errors(reading)])
        recovery = account.recovery
        deployment = DeploymentPlan.after(
            deployed, config, recovery.projects, recovery.groups, account.objects_region, clusters=account.databases
        )
        caches = any(runner.keeps_caches for runner in config.runners)
        has_bucket = deployment.has_bucket or deployment.has_backups or deployment.has_objects or caches
        databases = plan_clusters(config, account.databases, deployment.databases)
        cost = monthly_cost(config, account.prices, has_bucket=has_bucket, databases=databases)
        if pulumi.runtime.is_dry_run():
            pulumi.log.info(cost_report(cost, deployed.monthly_cost if deployed else {}))
        options = pulumi.ResourceOptions(parent=parent, providers=[cloud, *others])
        return cls(prefix, config, reading.has_spaces_key, account, deployment, cost, cloud, options)


class Installation:
    """GitLab, its registry and everything under them.

    Owns the choice of components and how they are wired together. Refuses to be a component: in the program, they hang
    on the stack itself. `outputs` are for the stack.
    """

    outputs: Mapping[str, Any]

    def __init__(self, plan: Plan) -> None:
        """Declare everything that is planned."""
        self._plan = plan
        self._site = self._declare_site()
        self._server = self._declare_server()
        names = DnsRecords(
            "dns",
            DnsRecordsArgs(
                plan.settings, self._server.address, plan.deployment.has_domain, plan.account.recovery.domain
            ),
            plan.options,
        )
        self._fqdn = names.fqdn
        self._storage = self._declare_storage()
        self._registry_settings = RegistrySettings(
            self._fqdn, plan.settings.registry.port, self._storage, plan.settings.registry.keep_untagged
        )
        self._objects = self._declare_objects() if plan.deployment.has_objects else None
        self._databases = self._declare_databases() if plan.deployment.databases else None
        self._gitlab = self._declare_gitlab()
        self._access = self._declare_public_access()
        self._registry = self._declare_registry()
        self._backup = self._declare_backup() if plan.deployment.has_backups else None
        self._signing = None
        if plan.deployment.has_signing_key:
            self._signing = SigningKey("signing", plan.options, keep=plan.settings.keep_data)
        self._connection = self._declare_connection() if self._uses_gitlab else None
        self._groups = self._declare_groups()
        self._delivery = self._declare_delivery()
        alerts = self._declare_alerts() if plan.settings.alerts.enabled else None
        if self._objects and plan.settings.uses_object_storage:
            self._declare_migration(self._objects, alerts)
        self.outputs = self._of_parts() | self._of_the_whole()

    @property
    def _further_machines(self) -> Mapping[str, Sequence[Machine]]:
        """Those of runners, and those that projects are deployed to."""
        if self._delivery is None:
            return {}
        found = {f"runner-{name}": runner.machines for name, runner in self._delivery.runners.items()}
        runners = {name: machines for name, machines in found.items() if machines}
        targets = [target for one in self._delivery.targets.values() for target in one.values()]
        return {**runners, **{target.name: [target.machine] for target in targets}}

    @property
    def _clusters(self) -> Mapping[str, pulumi.Output[str]]:
        """The IDs of the clusters of runners, by the names of these."""
        runners = self._delivery.runners if self._delivery else {}
        return {name: runner.cluster_id for name, runner in runners.items() if runner.cluster_id is not None}

    @property
    def _used_files(self) -> FileBuckets | None:
        """The Spaces that GitLab's files are in; None if they are on the volume."""
        return self._objects.files if self._objects and self._plan.settings.uses_object_storage else None

    @property
    def _uses_gitlab(self) -> bool:
        """Whether anything in GitLab is declared, or looked for before it is deleted."""
        plan = self._plan
        return bool(plan.settings.projects or plan.settings.groups or plan.deployment.removed_groups)

    def _declare_site(self) -> Site:
        plan, config = self._plan, self._plan.settings
        admin_key = AdminKey("admin-key", plan.options, keep=config.keep_data)
        network_args = NetworkArgs(
            plan.prefix,
            config.region,
            plan.account.vpc,
            config.server.vpc_cidr,
            config.admin_cidrs,
            has_clusters=bool(plan.deployment.databases) or any(runner.is_cluster for runner in config.runners),
        )
        return Site(
            prefix=plan.prefix,
            region=config.region,
            network=Network("network", network_args, plan.options),
            admin_key=admin_key,
            ssh_key=digitalocean.SshKey(
                "ssh-key",
                name=f"{plan.prefix}-admin",
                public_key=admin_key.public_key,
                opts=pulumi.ResourceOptions(
                    parent=plan.options.parent, provider=plan.cloud, hooks=once(SSH_KEY, "ssh-key")
                ),
            ),
            authorized_keys=config.server.authorized_keys,
            keep_data=config.keep_data,
            images=plan.account.images,
        )

    def _declare_server(self) -> GitLabServer:
        config, recovery = self._plan.settings, self._plan.account.recovery
        public_ports = (80, 443, config.registry.port)
        args = GitLabServerArgs(self._site, config.server, config.fqdn, public_ports, recovery.volume, recovery.address)
        return GitLabServer("server", args, self._plan.options)

    def _declare_objects(self) -> ObjectBuckets:
        plan = self._plan
        args = ObjectBucketsArgs(
            prefix=plan.prefix,
            region=plan.deployment.objects_region,
            keep_data=plan.settings.keep_data,
            in_use=plan.settings.uses_object_storage,
            own_key=plan.has_spaces_key,
            existing=plan.account.recovery.objects,
        )
        return ObjectBuckets("object-buckets", args, plan.options)

    def _declare_migration(self, objects: ObjectBuckets, alerts: Alerts | None) -> None:
        """Declared last: other steps on the server would have to wait for it, and it may take hours."""
        parts = (self._registry, self._access, self._backup, self._groups, self._delivery, alerts)
        args = ObjectMigrationArgs(self._server.machine, objects.files, ready=[one for one in parts if one is not None])
        ObjectMigration("object-migration", args, self._plan.options)

    def _declare_databases(self) -> ManagedDatabases:
        plan, databases = self._plan, self._plan.settings.databases
        args = ManagedDatabasesArgs(
            site=self._site,
            clusters=plan_clusters(plan.settings, plan.account.databases, plan.deployment.databases),
            maintenance=(databases.maintenance_day, databases.maintenance_hour),
            existing=plan.account.recovery.databases,
        )
        return ManagedDatabases("databases", args, plan.options)

    def _declare_gitlab(self) -> GitLab:
        beginning = RegistryBeginning(
            "registry-beginning",
            RegistryBeginningArgs(self._server.machine, self._registry_settings),
            self._plan.options,
        )
        args = GitLabArgs(
            machine=self._server.machine,
            fqdn=self._fqdn,
            address=self._server.address,
            settings=self._plan.settings,
            today=datetime.datetime.now(tz=datetime.UTC).date(),
            before=[beginning.begun],
            files=self._objects.files if self._objects else None,
            databases=self._databases.servers if self._databases else DatabaseServers(),
            registry_database=self._registry_settings.database,
        )
        return GitLab("gitlab", args, self._plan.options)

    def _declare_public_access(self) -> PublicAccess:
        plan = self._plan
        args = PublicAccessArgs(
            plan.prefix,
            self._server.machine.droplet,
            plan.settings.registry.port,
            closed_until=[self._gitlab.sign_up_off],
        )
        return PublicAccess("public-access", args, plan.options)

    def _declare_storage(self) -> ObjectStorage | None:
        plan, registry = self._plan, self._plan.settings.registry
        storage = ObjectStorage.from_settings(registry.s3) if registry.s3 else None
        if plan.deployment.has_bucket:
            args = RegistryBucketArgs(
                plan.prefix,
                plan.deployment.spaces_region,
                plan.settings.keep_data,
                plan.has_spaces_key,
                plan.account.recovery.registry,
            )
            bucket = RegistryBucket("registry-bucket", args, plan.options)
            if registry.storage is Storage.SPACES:
                storage = bucket.storage
        return storage

    def _declare_registry(self) -> RegistryConfiguration:
        args = RegistryConfigurationArgs(
            machine=self._server.machine,
            settings=self._registry_settings,
            public_ports=self._server.public_ports,
            admin_user=ADMINISTRATOR,
            api_token=self._gitlab.api_token,
            gitlab_ready=self._gitlab.ready,
        )
        return RegistryConfiguration("registry", args, self._plan.options)

    def _declare_backup(self) -> Backup:
        plan = self._plan
        args = BackupArgs(
            prefix=plan.prefix,
            region=plan.deployment.backups_region,
            keep_data=plan.settings.keep_data,
            own_key=plan.has_spaces_key,
            settings=plan.settings.backup,
            machine=self._server.machine,
            fqdn=self._fqdn,
            storage=self._storage,
            files=self._used_files,
            ready=[self._registry],
            existing=plan.account.recovery.backup,
        )
        return Backup("backup", args, plan.options)

    def _declare_groups(self) -> Groups | None:
        plan, groups = self._plan, self._plan.settings.groups
        if self._connection is None or not (groups or plan.deployment.removed_groups):
            return None
        args = GroupsArgs(
            site=self._site,
            gitlab=self._connection,
            groups=groups,
            known_ids=plan.deployment.known_groups,
            removed_ids=plan.deployment.removed_groups,
            leaving_ids=plan.deployment.leaving_ids,
        )
        return Groups("groups", args, plan.options)

    def _declare_delivery(self) -> Delivery | None:
        plan, config = self._plan, self._plan.settings
        if self._connection is None or not config.projects:
            return None
        args = DeliveryArgs(
            site=self._site,
            gitlab=self._connection,
            projects=config.projects,
            runners=config.runners,
            known_ids=plan.deployment.known_ids,
            moved_ids=plan.deployment.moved_ids,
            group_ids=self._groups.ids if self._groups else {},
            supply_chain=config.supply_chain,
            notifications=config.alerts.pipelines,
            signing_key=self._signing.private_key if self._signing else None,
            registry=f"{config.fqdn}:{config.registry.port}",
            kubernetes=plan.account.kubernetes,
            own_key=plan.has_spaces_key,
        )
        return Delivery("delivery", args, plan.options)

    def _declare_connection(self) -> GitLabConnection:
        roots = self._plan.settings.certificate.trusted_roots
        return GitLabConnection(
            url=self._gitlab.url,
            api_token=self._gitlab.api_token,
            server=self._server.machine,
            registry=self._registry.address,
            ca_certificate=roots,
            # Configuring the registry restarts GitLab, and the public ports open last: no request is made before.
            provider=pulumi_gitlab.Provider(
                "gitlab",
                base_url=pulumi.Output.concat(self._gitlab.url, "/api/v4/"),
                token=self._gitlab.api_token,
                cacert_file=ca_bundle(roots),
                early_auth_check=False,
                opts=pulumi.ResourceOptions(
                    parent=self._plan.options.parent, depends_on=[self._registry, self._access]
                ),
            ),
        )

    def _declare_alerts(self) -> Alerts:
        plan, backup = self._plan, self._plan.settings.backup
        args = AlertsArgs(
            prefix=plan.prefix,
            settings=plan.settings.alerts,
            url=self._gitlab.url,
            registry=self._registry.address,
            machines={"server": [self._server.machine], **self._further_machines},
            clusters=self._clusters,
            databases=self._databases.used if self._databases else {},
            backup_hours=backup.max_age_hours if backup.enabled else None,
            token_expires=self._gitlab.api_token_expires,
            ready=[self._registry, self._access, *([self._backup] if self._backup else [])],
        )
        return Alerts("alerts", args, plan.options)

    def _of_parts(self) -> dict[str, Any]:
        """Outputs of what some installations do not have."""
        outputs: dict[str, Any] = {}
        if self._backup:
            outputs["backup"] = self._backup.output
        if files := self._used_files:
            outputs["object_storage"] = {"region": files.region, "buckets": files.names()}
        if self._databases and self._databases.used:
            outputs["databases"] = dict(self._databases.used)
        if self._signing:
            outputs["signing_public_key"] = self._signing.public_key
        if self._plan.settings.gitlab.metrics:
            # On the server.
            outputs["metrics"] = METRICS
        if self._delivery:
            outputs["projects"] = self._delivery.as_output()
        return outputs

    def _of_the_whole(self) -> dict[str, Any]:
        plan, config, gitlab, server = self._plan, self._plan.settings, self._gitlab, self._server
        nothing = pulumi.Output.from_input(dict[str, str]())
        project_ids = self._delivery.project_ids() if self._delivery else nothing
        group_ids = self._groups.group_ids() if self._groups else nothing
        return {
            "deployed": pulumi.Output.all(gitlab.version, project_ids, group_ids).apply(
                lambda known: plan.deployment.completed(*known)
            ),
            # Pulumi Cloud shows an output of this name as the page of the stack.
            "readme": stack_readme(pulumi.get_project(), pulumi.get_stack(), config),
            "mail": config.smtp.as_output() if config.smtp else None,
            "sign_in_callbacks": config.sign_in_callbacks() or None,
            "monthly_cost": cost_output(plan.cost),
            "gitlab_url": gitlab.url,
            "gitlab_version": gitlab.version,
            # What the tools have to trust beside the public authorities.
            "ca_certificate": config.certificate.trusted_roots,
            "gitlab_admin_user": ADMINISTRATOR,
            "gitlab_admin_password": gitlab.admin_password,
            "gitlab_api_token": gitlab.api_token,
            # From then on, `refresh` and `destroy` work only after the next `up`.
            "gitlab_api_token_expires": gitlab.api_token_expires,
            "registry": self._registry.address,
            "docker_login": self._registry.login_line,
            "registry_storage": self._storage.as_output() if self._storage else None,
            "server_address": server.address,
            "server_ssh_user": server.machine.user,
            "server_ssh_private_key": self._site.admin_key.private_key,
            "server_ssh_host_key": server.host_public_key,
        }
