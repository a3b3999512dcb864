"""Droplets."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from tests.sandbox.digitalocean.models.base import Record


class Droplet(Record):
    """A machine as the API knows it. Addresses are leased at once but shown only when `status` is no longer `new`."""

    kind: ClassVar[str] = "droplet"
    secret_fields: ClassVar[frozenset[str]] = frozenset({"user_data"})
    id: int
    name: str
    region: str
    size: str
    image: str
    vcpus: int
    memory: int
    disk: int
    status: str = "new"
    created_at: str
    features: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    vpc_uuid: str
    public_ipv4: str
    anchor_ipv4: str
    private_ipv4: str
    public_ipv6: str | None = None
    user_data: str = Field(default="", repr=False)
    #: Addresses of pods, if the droplet is a node of a Kubernetes cluster.
    pod_cidr: str | None = None
    #: Public keys as they were when the droplet was made; later changes of the account's keys do not touch it.
    ssh_keys: list[str] = Field(default_factory=list)

    @property
    def key(self) -> str:
        return str(self.id)

    @property
    def urn(self) -> str:
        """The name that projects know the droplet by."""
        return f"do:droplet:{self.id}"
