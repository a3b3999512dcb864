"""Projects and the resources in them."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.digitalocean.models.base import Record


class Project(Record):
    """A named group of resources. Exactly one is the default."""

    kind: ClassVar[str] = "project"
    id: str
    owner_uuid: str
    owner_id: int
    name: str
    description: str = ""
    purpose: str
    environment: str = ""
    is_default: bool = False
    created_at: str
    updated_at: str

    @property
    def key(self) -> str:
        return self.id


class ProjectMember(Record):
    """That one resource is in one project. A resource without this record is in the default project."""

    kind: ClassVar[str] = "project_member"
    urn: str
    project_id: str
    assigned_at: str

    @property
    def key(self) -> str:
        return self.urn
