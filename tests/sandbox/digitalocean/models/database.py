"""Managed databases: clusters, their users and databases, and who may reach them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from tests.sandbox.digitalocean.models.base import Record

Engine = Literal["pg", "valkey"]


class DatabaseAuthority(Record):
    """The authority that signs the certificates of an account's clusters; made with the first of them."""

    kind: ClassVar[str] = "database_authority"
    secret_fields: ClassVar[frozenset[str]] = frozenset({"private_key"})
    certificate: str
    private_key: str = Field(repr=False)

    @property
    def key(self) -> str:
        return "account"


class DatabaseRule(BaseModel):
    """A trusted source. `value` is an address or a range, a tag, or the ID of a droplet."""

    uuid: str
    type: str
    value: str
    created_at: str


class DatabaseUser(BaseModel):
    """A role. `doadmin`, or for Valkey `default`, comes with the cluster."""

    name: str
    role: Literal["primary", "normal"] = "normal"
    password: str = Field(repr=False)


class MaintenanceWindow(BaseModel):
    """When the service may install updates: day of the week, and hour in UTC."""

    day: str = "tuesday"
    hour: str = "02:00:00"


class DatabaseCluster(Record):
    """A managed PostgreSQL or Valkey. `node` is the machine that it runs on."""

    kind: ClassVar[str] = "database_cluster"
    secret_fields: ClassVar[frozenset[str]] = frozenset({"users"})
    id: str
    name: str
    engine: Engine
    version: str
    size: str
    num_nodes: int
    region: str
    status: str = "creating"
    vpc_uuid: str
    storage_size_mib: int
    tags: list[str] = Field(default_factory=list)
    users: list[DatabaseUser] = Field(default_factory=list, repr=False)
    databases: list[str] = Field(default_factory=list)
    rules: list[DatabaseRule] = Field(default_factory=list)
    window: MaintenanceWindow = Field(default_factory=MaintenanceWindow)
    eviction_policy: str = "noeviction"
    node: int
    public_ipv4: str
    anchor_ipv4: str
    private_ipv4: str
    created_at: str

    @property
    def key(self) -> str:
        return self.id

    @property
    def urn(self) -> str:
        """The name that projects know the cluster by."""
        return f"do:dbaas:{self.id}"

    @property
    def port(self) -> int:
        """Where it listens, as the service has it."""
        return {"pg": 25060, "valkey": 25061}[self.engine]

    def host(self, *, private: bool = False) -> str:
        """Its name, for the internet or for the VPC."""
        return f"{'private-' if private else ''}{self.name}-do-user-258992-0.m.db.ondigitalocean.com"
