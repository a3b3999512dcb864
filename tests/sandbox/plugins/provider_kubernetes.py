"""Provider `kubernetes`: its configuration and resources."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.plugins.base.framework import Field, Fields, Kind, Provider
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.base.server import main
from tests.sandbox.plugins.kubernetes import objects
from tests.sandbox.plugins.kubernetes.session import Session


class Kubernetes(Provider):
    """The provider. Configuring it makes no request, so that a cluster that is not there yet is no error at preview."""

    name = "kubernetes"
    distribution = "pulumi-kubernetes"
    config: ClassVar[Fields] = {
        "kubeconfig": Field(),
        "namespace": Field(),
        "enableServerSideApply": Field(Kind.BOOLEAN, default=True),
        "enableSecretMutable": Field(Kind.BOOLEAN, default=False),
        "enableConfigMapMutable": Field(Kind.BOOLEAN, default=False),
        "deleteUnreachable": Field(Kind.BOOLEAN, default=False),
    }
    resources = (
        objects.ConfigMap(),
        objects.Deployment(),
        objects.Namespace(),
        objects.NetworkPolicy(),
        objects.Role(),
        objects.RoleBinding(),
        objects.Secret(),
        objects.ServiceAccount(),
    )

    def configure(self, config: Properties) -> Session:
        """One session for all resources: what a change of some of them means depends on the configuration."""
        session = Session(config)
        for resource in self.resources:
            resource.session = session
        return session


if __name__ == "__main__":
    main(Kubernetes())
