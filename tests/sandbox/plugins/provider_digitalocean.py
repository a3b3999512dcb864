"""Provider `digitalocean`: its configuration, resources and functions."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.plugins.base.framework import Field, Fields, Kind, Provider
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.base.server import main
from tests.sandbox.plugins.digitalocean import (
    account,
    databases,
    domains,
    droplets,
    functions,
    kubernetes,
    monitoring,
    network,
    node_pools,
    snapshots,
    spaces,
    volumes,
)
from tests.sandbox.plugins.digitalocean.session import Session


class DigitalOcean(Provider):
    """The provider. Configuring it makes no request."""

    name = "digitalocean"
    distribution = "pulumi-digitalocean"
    config: ClassVar[Fields] = {
        "token": Field(),
        "apiEndpoint": Field(),
        "spacesAccessId": Field(),
        "spacesSecretKey": Field(),
        "spacesEndpoint": Field(),
        "httpRetryMax": Field(Kind.INTEGER),
        "httpRetryWaitMin": Field(Kind.NUMBER),
        "httpRetryWaitMax": Field(Kind.NUMBER),
    }
    resources = (
        account.Project(),
        account.ProjectResources(),
        account.SpacesKey(),
        account.SshKey(),
        account.Tag(),
        databases.DatabaseCluster(),
        databases.DatabaseDb(),
        databases.DatabaseFirewall(),
        databases.DatabaseUser(),
        domains.DnsRecord(),
        domains.Domain(),
        droplets.Droplet(),
        kubernetes.KubernetesCluster(),
        node_pools.KubernetesNodePool(),
        monitoring.MonitorAlert(),
        monitoring.UptimeAlert(),
        monitoring.UptimeCheck(),
        network.Firewall(),
        network.ReservedIp(),
        network.ReservedIpAssignment(),
        network.Vpc(),
        snapshots.DropletSnapshot(),
        spaces.SpacesBucket(),
        spaces.SpacesBucketObject(),
        volumes.Volume(),
        volumes.VolumeAttachment(),
    )
    functions = (
        functions.GetAccount(),
        databases.GetDatabaseCa(),
        functions.GetDomain(),
        functions.GetDroplets(),
        functions.GetImage(),
        kubernetes.GetKubernetesCluster(),
        kubernetes.GetKubernetesVersions(),
        functions.GetProject(),
        functions.GetRecord(),
        functions.GetRecords(),
        functions.GetRegion(),
        functions.GetRegions(),
        functions.GetReservedIp(),
        functions.GetSizes(),
        functions.GetSshKey(),
        functions.GetVpc(),
    )

    def configure(self, config: Properties) -> Session:
        """Clients for the API and for Spaces."""
        return Session(config)


if __name__ == "__main__":
    main(DigitalOcean())
