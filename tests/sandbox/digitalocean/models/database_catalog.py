"""What the service offers of managed databases.

Versions as `GET /v2/databases/options` lists them; sizes, prices and connection limits as published on
https://docs.digitalocean.com/products/databases/postgresql/details/pricing and .../details/limits. A part of them:
what a small installation chooses from.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatabaseSize:
    """Nodes of a cluster. Memory in MB; the smallest and largest storage in GiB; dollars a month for one node."""

    slug: str
    vcpus: int
    memory: int
    storage: tuple[int, int]
    #: PostgreSQL has 25 connections a GiB of memory, three of which the service keeps for itself.
    price_monthly: float
    #: How many nodes a cluster may have.
    layouts: tuple[int, ...]

    @property
    def connections(self) -> int:
        """Connections that a PostgreSQL of this size accepts from its users."""
        return self.memory // 1024 * 25 - 3


VERSIONS = {"pg": ("14", "15", "16", "17", "18"), "valkey": ("8",)}
DEFAULT_VERSIONS = {"pg": "18", "valkey": "8"}
#: Versions that the sandbox can run: those of Debian 13.
RUN_HERE = {"pg": ("17",), "valkey": ("8",)}
REGIONS = ("ams3", "atl1", "blr1", "fra1", "lon1", "nyc1", "nyc3", "sfo2", "sfo3", "sgp1", "syd1", "tor1")
SIZES = {
    size.slug: size
    for size in (
        DatabaseSize("db-s-1vcpu-1gb", 1, 1024, (10, 30), 15.15, (1,)),
        DatabaseSize("db-s-1vcpu-2gb", 1, 2048, (30, 60), 30.45, (1, 2, 3)),
        DatabaseSize("db-s-2vcpu-4gb", 2, 4096, (60, 120), 60.90, (1, 2, 3)),
        DatabaseSize("db-s-4vcpu-8gb", 4, 8192, (140, 280), 122.10, (1, 2, 3)),
        DatabaseSize("db-s-6vcpu-16gb", 6, 16384, (290, 580), 244.15, (1, 2, 3)),
    )
}
EVICTION_POLICIES = (
    "noeviction",
    "allkeys_lru",
    "allkeys_random",
    "volatile_lru",
    "volatile_random",
    "volatile_ttl",
)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
