"""Managed PostgreSQL and Valkey: the clusters, what GitLab needs in them, and who may reach them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.database_engines import POSTGRESQL, VALKEY
from components.database_plan import ClusterPlan, database_cluster_name
from components.lost_answers import DATABASE, DATABASE_CLUSTER, DATABASE_USER, once, once_in_cluster
from components.rendering import script
from components.site import Site

#: GitLab's own name for its database.
GITLAB_DATABASE: Final = "gitlabhq_production"
#: The user that owns everything in it.
_USER: Final = "gitlab"
#: As the API calls them.
_ENGINES: Final = {POSTGRESQL: "pg", VALKEY: "valkey"}
#: The provider has no other limit: it waits 30 minutes for a cluster that is resized, whatever is asked for.
_PATIENCE: Final = pulumi.CustomTimeouts(create="45m")


@dataclass(frozen=True)
class PostgresqlServer:
    """How the server reaches PostgreSQL. GitLab `uses` it, or it is there until GitLab has its tables back."""

    uses: bool
    host: pulumi.Input[str]
    port: pulumi.Input[str]
    user: pulumi.Input[str]
    password: pulumi.Input[str] = field(repr=False)
    admin_user: pulumi.Input[str]
    admin_password: pulumi.Input[str] = field(repr=False)
    ca_certificate: pulumi.Input[str]
    #: In MiB.
    storage: pulumi.Input[str]


@dataclass(frozen=True)
class ValkeyServer:
    """How the server reaches Valkey. GitLab `uses` it, or it is there until the update after that one."""

    uses: bool
    host: pulumi.Input[str]
    port: pulumi.Input[str]
    password: pulumi.Input[str] = field(repr=False)
    ca_certificate: pulumi.Input[str]


@dataclass(frozen=True)
class DatabaseServers:
    """The managed databases of a stack; None for those that it does not have."""

    postgresql: PostgresqlServer | None = None
    valkey: ValkeyServer | None = None

    @property
    def preparation(self) -> dict[str, pulumi.Input[str]]:
        """What the step that prepares them has to know, without the passwords."""
        tables = self.postgresql
        return {
            **self._valkey,
            "DATABASE_ADMIN_USER": tables.admin_user if tables else "",
            "DATABASE_CA": tables.ca_certificate if tables else "",
            "DATABASE_HOST": tables.host if tables else "",
            "DATABASE_NAME": GITLAB_DATABASE,
            "DATABASE_PORT": tables.port if tables else "",
            "DATABASE_USER": tables.user if tables else "",
            "USES_DATABASE": _yes(tables),
        }

    @property
    def configuration(self) -> dict[str, pulumi.Input[str]]:
        """What GitLab's configuration has to know, without the password: the rest is on the server by then."""
        tables = self.postgresql
        return {
            **self._valkey,
            "DATABASE_HOST": tables.host if tables else "",
            "DATABASE_STORAGE_MIB": tables.storage if tables else "",
            "USES_DATABASE": _yes(tables),
        }

    @property
    def _valkey(self) -> dict[str, pulumi.Input[str]]:
        memory = self.valkey
        return {
            "KEYS_PROGRAM": script("database/keys.py"),
            "USES_VALKEY": _yes(memory),
            "VALKEY_CA": memory.ca_certificate if memory else "",
            "VALKEY_HOST": memory.host if memory else "",
            "VALKEY_PORT": memory.port if memory else "",
        }

    @property
    def passwords(self) -> dict[str, pulumi.Input[str]]:
        """All passwords, for the step that prepares them."""
        tables = self.postgresql
        return {
            "DATABASE_ADMIN_PASSWORD": tables.admin_password if tables else "",
            "DATABASE_PASSWORD": tables.password if tables else "",
            **self.valkey_password,
        }

    @property
    def valkey_password(self) -> dict[str, pulumi.Input[str]]:
        """The password of Valkey, for both steps."""
        return {"VALKEY_PASSWORD": self.valkey.password if self.valkey else ""}

    @property
    def places(self) -> pulumi.Output[dict[str, dict[str, str]]]:
        """Host, port and user of each that GitLab uses, by engine."""
        found: dict[str, pulumi.Output[dict[str, str]]] = {}
        if self.postgresql and self.postgresql.uses:
            tables = self.postgresql
            found[POSTGRESQL] = pulumi.Output.all(host=tables.host, port=tables.port, user=tables.user)
        if self.valkey and self.valkey.uses:
            found[VALKEY] = pulumi.Output.all(host=self.valkey.host, port=self.valkey.port)
        return pulumi.Output.all(**found)

    @property
    def used_passwords(self) -> dict[str, pulumi.Input[str]]:
        """The passwords that `gitlab.rb` reads, by their names there."""
        found: dict[str, pulumi.Input[str]] = {}
        if self.postgresql and self.postgresql.uses:
            found[f"databases.{POSTGRESQL}"] = self.postgresql.password
        if self.valkey and self.valkey.uses:
            found[f"databases.{VALKEY}"] = self.valkey.password
        return found

    @property
    def exist(self) -> bool:
        """Whether there is one."""
        return self.postgresql is not None or self.valkey is not None


@dataclass(frozen=True)
class ManagedDatabasesArgs:
    """Inputs of `ManagedDatabases`. `clusters` are those that the stack has, by engine.

    `maintenance` is the day and the hour at which DigitalOcean may install updates. `existing` are IDs of clusters that
    are taken over, by engine.
    """

    site: Site
    clusters: Mapping[str, ClusterPlan]
    maintenance: tuple[str, int]
    existing: Mapping[str, str] = field(default_factory=dict)


class ManagedDatabases(Component):
    """Clusters that DigitalOcean runs for GitLab, in the stack's network, and closed to all but the server.

    Owns the clusters, their trusted sources (the tag of the server), GitLab's database and a user for GitLab, which is
    no administrator. A cluster without trusted sources is open to the internet: they are declared before anything else
    in it, and deleted with it, never before it. With kept data, all of this outlives a destroy.

    Refuses to own what is in the databases, and those of the registry: there is one for each storage, and none must go
    away because the storage has changed, so a step on the server creates them.
    """

    servers: DatabaseServers
    #: By engine.
    clusters: Mapping[str, digitalocean.DatabaseCluster]

    def __init__(self, name: str, args: ManagedDatabasesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the clusters and what is in them."""
        super().__init__("ManagedDatabases", name, opts)
        self._args = args
        self.clusters = {engine: self._cluster(engine, plan) for engine, plan in args.clusters.items()}
        closed = {engine: self._firewall(engine, cluster) for engine, cluster in self.clusters.items()}
        self.servers = DatabaseServers(
            self._postgresql(closed[POSTGRESQL]) if POSTGRESQL in closed else None,
            self._valkey(closed[VALKEY]) if VALKEY in closed else None,
        )
        self.register_outputs({"clusters": {engine: one.id for engine, one in self.clusters.items()}})

    @property
    def used(self) -> dict[str, pulumi.Output[str]]:
        """The IDs of the clusters that GitLab uses, by engine."""
        return {engine: one.id for engine, one in self.clusters.items() if self._args.clusters[engine].uses}

    def _cluster(self, engine: str, plan: ClusterPlan) -> digitalocean.DatabaseCluster:
        site, (day, hour) = self._args.site, self._args.maintenance
        return digitalocean.DatabaseCluster(
            self.child_name(engine),
            name=database_cluster_name(site.prefix, engine),
            engine=_ENGINES[engine],
            version=plan.version,
            size=plan.size,
            node_count=plan.nodes,
            storage_size_mib=plan.storage_mib,
            region=site.region,
            private_network_uuid=site.network.vpc_id,
            # GitLab's queue of jobs must not be forgotten for lack of memory.
            eviction_policy="noeviction" if engine == VALKEY else None,
            maintenance_windows=[
                digitalocean.DatabaseClusterMaintenanceWindowArgs(day=day, hour=f"{hour:02}:00:00"),
            ],
            opts=self.child_options(
                keep=site.keep_data,
                import_=self._args.existing.get(engine),
                # Its name is taken until the old one is gone.
                delete_before_replace=True,
                custom_timeouts=_PATIENCE,
                additional_secret_outputs=["password", "privateUri", "uri"],
                hooks=once(DATABASE_CLUSTER, self.child_name(engine)),
            ),
        )

    def _firewall(self, engine: str, cluster: digitalocean.DatabaseCluster) -> digitalocean.DatabaseFirewall:
        suffix = f"{engine}-firewall"
        return digitalocean.DatabaseFirewall(
            self.child_name(suffix),
            cluster_id=cluster.id,
            rules=[digitalocean.DatabaseFirewallRuleArgs(type="tag", value=self._args.site.network.server.tag)],
            opts=self._inside(engine, cluster, once_in_cluster(self.child_name(suffix)), import_name=""),
        )

    def _postgresql(self, closed: digitalocean.DatabaseFirewall) -> PostgresqlServer:
        cluster, plan = self.clusters[POSTGRESQL], self._args.clusters[POSTGRESQL]
        database = digitalocean.DatabaseDb(
            self.child_name("gitlab"),
            cluster_id=cluster.id,
            name=GITLAB_DATABASE,
            opts=self._inside(
                POSTGRESQL, cluster, once_in_cluster(self.child_name("gitlab"), DATABASE), closed, GITLAB_DATABASE
            ),
        )
        user = digitalocean.DatabaseUser(
            self.child_name("user"),
            cluster_id=cluster.id,
            name=_USER,
            opts=self._inside(
                POSTGRESQL, cluster, once_in_cluster(self.child_name("user"), DATABASE_USER), closed, _USER
            ),
        )
        return PostgresqlServer(
            uses=plan.uses,
            host=cluster.private_host,
            port=cluster.port.apply(_text),
            user=user.name,
            password=pulumi.Output.secret(user.password),
            admin_user=cluster.user,
            admin_password=pulumi.Output.secret(cluster.password),
            # Nobody connects before the database is there.
            ca_certificate=self._authority(cluster, database),
            storage=cluster.storage_size_mib.apply(lambda known: str(known or "")),
        )

    def _valkey(self, closed: digitalocean.DatabaseFirewall) -> ValkeyServer:
        cluster, plan = self.clusters[VALKEY], self._args.clusters[VALKEY]
        return ValkeyServer(
            uses=plan.uses,
            host=cluster.private_host,
            port=cluster.port.apply(_text),
            password=pulumi.Output.secret(cluster.password),
            ca_certificate=self._authority(cluster, closed),
        )

    def _authority(self, cluster: digitalocean.DatabaseCluster, after: pulumi.Resource) -> pulumi.Output[str]:
        """The certificate of the account's own authority, which no system trusts. A public one signs for Valkey."""
        options = pulumi.InvokeOutputOptions(parent=self, depends_on=[after])
        found = digitalocean.get_database_ca_output(cluster_id=cluster.id, opts=options)
        return found.apply(lambda known: str(known.certificate))

    def _inside(
        self,
        engine: str,
        cluster: digitalocean.DatabaseCluster,
        hooks: pulumi.ResourceHookBinding,
        after: pulumi.Resource | None = None,
        import_name: str = "",
    ) -> pulumi.ResourceOptions:
        """The options of what is in a cluster, and goes with it. It is imported as CLUSTER,NAME."""
        existing = self._args.existing.get(engine)
        return self.child_options(
            keep=self._args.site.keep_data,
            deleted_with=cluster,
            delete_before_replace=True,
            depends_on=[after] if after else [],
            import_=",".join(filter(None, [existing, import_name])) if existing else None,
            hooks=hooks,
        )


def _yes(server: PostgresqlServer | ValkeyServer | None) -> str:
    return "yes" if server and server.uses else "no"


def _text(port: float) -> str:
    return str(int(port))
