"""VPCs, firewalls, reserved IPs, and the leases of all addresses."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field

from tests.sandbox.digitalocean.models.base import Record


class Vpc(Record):
    """A private network of one region."""

    kind: ClassVar[str] = "vpc"
    id: str
    name: str
    region: str
    ip_range: str
    description: str = ""
    default: bool = False
    created_at: str

    @property
    def key(self) -> str:
        return self.id

    @property
    def urn(self) -> str:
        """The VPC's uniform resource name."""
        return f"do:vpc:{self.id}"


class RuleTarget(BaseModel):
    """Sources or destinations of a rule: any of them match."""

    addresses: list[str] = Field(default_factory=list)
    droplet_ids: list[int] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    load_balancer_uids: list[str] = Field(default_factory=list)
    kubernetes_ids: list[str] = Field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether the target names nothing at all."""
        return not any((self.addresses, self.droplet_ids, self.tags, self.load_balancer_uids, self.kubernetes_ids))


class FirewallRule(BaseModel):
    """One rule. `ports` is `0` for all ports and for ICMP, else one port or `from-to`."""

    protocol: str
    ports: str
    target: RuleTarget


class Firewall(Record):
    """A cloud firewall. Its tags and droplet IDs are resolved again at every change."""

    kind: ClassVar[str] = "firewall"
    id: str
    name: str
    status: str = "waiting"
    created_at: str
    inbound: list[FirewallRule] = Field(default_factory=list)
    outbound: list[FirewallRule] = Field(default_factory=list)
    droplet_ids: list[int] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)

    @property
    def key(self) -> str:
        return self.id


class ReservedIp(Record):
    """A public address that outlives the droplet it points to."""

    kind: ClassVar[str] = "reserved_ip"
    ip: str
    region: str
    droplet_id: int | None = None

    @property
    def key(self) -> str:
        return self.ip

    @property
    def urn(self) -> str:
        """The name that projects know the address by; it kept the service's old name."""
        return f"do:floatingip:{self.ip}"


class Lease(Record):
    """An address in use. `pool` is `public`, `anchor`, `reserved`, `public6` or the id of a VPC."""

    kind: ClassVar[str] = "lease"
    pool: str
    address: str
    owner: str

    @property
    def key(self) -> str:
        return f"{self.pool} {self.address}"
