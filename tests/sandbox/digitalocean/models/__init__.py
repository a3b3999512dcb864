"""What the emulated account holds: one class per kind of resource, one row of the store per record."""

from tests.sandbox.digitalocean.models.account import Account, Grant, SpacesKey, SshKey, Tag
from tests.sandbox.digitalocean.models.action import Action
from tests.sandbox.digitalocean.models.base import Record, now
from tests.sandbox.digitalocean.models.catalog import Catalog, Image, Region, Size
from tests.sandbox.digitalocean.models.database import (
    DatabaseAuthority,
    DatabaseCluster,
    DatabaseRule,
    DatabaseUser,
    MaintenanceWindow,
)
from tests.sandbox.digitalocean.models.domain import Domain, DomainRecord
from tests.sandbox.digitalocean.models.droplet import Droplet
from tests.sandbox.digitalocean.models.kubernetes import (
    AutoscalerConfiguration,
    ControlPlaneFirewall,
    KubernetesCluster,
    KubernetesToken,
    MaintenancePolicy,
    Node,
    NodePool,
    Taint,
)
from tests.sandbox.digitalocean.models.monitoring import (
    AlertPolicy,
    CheckState,
    Incident,
    Mail,
    Notifications,
    Outage,
    SlackChannel,
    SlackMessage,
    UptimeAlert,
    UptimeCheck,
)
from tests.sandbox.digitalocean.models.network import Firewall, FirewallRule, Lease, ReservedIp, RuleTarget, Vpc
from tests.sandbox.digitalocean.models.project import Project, ProjectMember
from tests.sandbox.digitalocean.models.snapshot import Snapshot
from tests.sandbox.digitalocean.models.volume import Volume

__all__ = [
    "Account",
    "Action",
    "AlertPolicy",
    "AutoscalerConfiguration",
    "Catalog",
    "CheckState",
    "ControlPlaneFirewall",
    "DatabaseAuthority",
    "DatabaseCluster",
    "DatabaseRule",
    "DatabaseUser",
    "Domain",
    "DomainRecord",
    "Droplet",
    "Firewall",
    "FirewallRule",
    "Grant",
    "Image",
    "Incident",
    "KubernetesCluster",
    "KubernetesToken",
    "Lease",
    "Mail",
    "MaintenancePolicy",
    "MaintenanceWindow",
    "Node",
    "NodePool",
    "Notifications",
    "Outage",
    "Project",
    "ProjectMember",
    "Record",
    "Region",
    "ReservedIp",
    "RuleTarget",
    "Size",
    "SlackChannel",
    "SlackMessage",
    "Snapshot",
    "SpacesKey",
    "SshKey",
    "Tag",
    "Taint",
    "UptimeAlert",
    "UptimeCheck",
    "Volume",
    "Vpc",
    "now",
]
