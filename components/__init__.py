"""The components of an installation: one noun a module, each with its inputs beside it."""

from components.delivery import Delivery, DeliveryArgs
from components.dns_records import DnsRecords, DnsRecordsArgs
from components.gitlab import GitLab, GitLabArgs
from components.gitlab_server import GitLabServer, GitLabServerArgs
from components.keys import AdminKey, HostKeys
from components.network import Network, NetworkArgs
from components.project import Project, ProjectArgs
from components.registry_bucket import RegistryBucket, RegistryBucketArgs
from components.registry_configuration import ObjectStorage, RegistryConfiguration, RegistryConfigurationArgs
from components.runner import Runner, RunnerArgs
from components.settings import Settings, SettingsError
from components.state import Deployment

__all__ = [
    "AdminKey",
    "Delivery",
    "DeliveryArgs",
    "Deployment",
    "DnsRecords",
    "DnsRecordsArgs",
    "GitLab",
    "GitLabArgs",
    "GitLabServer",
    "GitLabServerArgs",
    "HostKeys",
    "Network",
    "NetworkArgs",
    "ObjectStorage",
    "Project",
    "ProjectArgs",
    "RegistryBucket",
    "RegistryBucketArgs",
    "RegistryConfiguration",
    "RegistryConfigurationArgs",
    "Runner",
    "RunnerArgs",
    "Settings",
    "SettingsError",
]
