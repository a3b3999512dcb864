"""Which project a resource is in, and the URNs of resources."""

from __future__ import annotations

import uuid

from tests.sandbox.digitalocean.models import (
    DatabaseCluster,
    Domain,
    Droplet,
    KubernetesCluster,
    Project,
    ProjectMember,
    Record,
    ReservedIp,
    Volume,
    now,
)
from tests.sandbox.digitalocean.state.cloud import Cloud

OWNER_ID = 258992


def owner_uuid(cloud: Cloud) -> str:
    """The account's own id, which is the same for as long as the account has its address."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"mailto:{cloud.config.email}").hex


def default_project(cloud: Cloud) -> Project:
    """The project of everything that is in no other; made when it is first asked for."""
    for project in cloud.store.all(Project):
        if project.is_default:
            return project
    moment = now()
    project = Project(
        id=str(uuid.uuid4()),
        owner_uuid=owner_uuid(cloud),
        owner_id=OWNER_ID,
        name="first-project",
        description="Update your project information under Settings",
        purpose="Just trying out DigitalOcean",
        is_default=True,
        created_at=moment,
        updated_at=moment,
    )
    cloud.store.put(project)
    return project


def join_default_project(cloud: Cloud, urn: str) -> None:
    """Put a new resource where new resources go."""
    join_project(cloud, urn, default_project(cloud).id)


def join_project(cloud: Cloud, urn: str, project_id: str) -> ProjectMember:
    """Put a resource into a project; it leaves the one that it is in."""
    member = ProjectMember(urn=urn, project_id=project_id, assigned_at=now())
    cloud.store.put(member)
    return member


def project_of(cloud: Cloud, urn: str) -> str:
    """The id of the project that a resource is in."""
    member = cloud.store.get(ProjectMember, urn)
    return member.project_id if member else default_project(cloud).id


def leave_projects(cloud: Cloud, urn: str) -> None:
    """A resource is gone."""
    if member := cloud.store.get(ProjectMember, urn):
        cloud.store.delete(member)


def find_resource(cloud: Cloud, type_: str, key: str) -> Record | None:
    """The record behind a resource name, for the types that projects hold (buckets have no record)."""
    models: dict[str, type[Droplet | Volume | Domain | ReservedIp | DatabaseCluster | KubernetesCluster]] = {
        "droplet": Droplet,
        "volume": Volume,
        "dbaas": DatabaseCluster,
        "domain": Domain,
        "floatingip": ReservedIp,
        "reservedip": ReservedIp,
        "kubernetes": KubernetesCluster,
    }
    model = models.get(type_)
    return cloud.store.get(model, key) if model else None
