"""What the service offers: regions, sizes and images.

Slugs, sizes and prices (US dollars) as published by the service; an hour costs a 672nd of a month. The lists contain
what a small installation chooses from.
"""

from __future__ import annotations

from dataclasses import dataclass

HOURS_IN_MONTH = 672


@dataclass(frozen=True)
class Region:
    """A data centre. `available` is whether droplets can be made there."""

    slug: str
    name: str
    available: bool = True


@dataclass(frozen=True)
class Size:
    """A droplet size: memory in MB, disk in GB, transfer in TB, price in dollars a month."""

    slug: str
    vcpus: int
    memory: int
    disk: int
    transfer: float
    price_monthly: float
    description: str
    regions: tuple[str, ...]

    @property
    def price_hourly(self) -> float:
        """Dollars an hour, rounded as the API rounds."""
        return round(self.price_monthly / HOURS_IN_MONTH, 5)


@dataclass(frozen=True)
class Image:
    """A public base image."""

    id: int
    slug: str
    name: str
    distribution: str
    created_at: str
    min_disk_size: int = 7
    size_gigabytes: float = 0.6


REGIONS = (
    Region("nyc1", "New York 1"),
    Region("sfo1", "San Francisco 1", available=False),
    Region("nyc2", "New York 2"),
    Region("ams2", "Amsterdam 2", available=False),
    Region("sgp1", "Singapore 1"),
    Region("lon1", "London 1"),
    Region("nyc3", "New York 3"),
    Region("ams3", "Amsterdam 3"),
    Region("fra1", "Frankfurt 1"),
    Region("tor1", "Toronto 1"),
    Region("sfo2", "San Francisco 2"),
    Region("blr1", "Bangalore 1"),
    Region("sfo3", "San Francisco 3"),
    Region("syd1", "Sydney 1"),
    Region("atl1", "Atlanta 1"),
)
REGION_FEATURES = ("backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer", "private_networking")

_OPEN = tuple(region.slug for region in REGIONS if region.available)
#: The smallest size and the premium ones are not offered everywhere.
_SMALL = ("nyc1", "sgp1", "lon1", "ams3", "fra1", "sfo3", "syd1")
_PREMIUM = tuple(slug for slug in _OPEN if slug not in {"nyc2", "sfo2"})

# slug, vcpus, memory, disk, transfer, dollars a month, class, regions
_SIZES: tuple[tuple[str, int, int, int, float, float, str, tuple[str, ...]], ...] = (
    ("s-1vcpu-512mb-10gb", 1, 512, 10, 0.5, 4.0, "Basic", _SMALL),
    ("s-1vcpu-1gb", 1, 1024, 25, 1.0, 6.0, "Basic", _OPEN),
    ("s-1vcpu-1gb-amd", 1, 1024, 25, 1.0, 7.0, "Basic AMD", _PREMIUM),
    ("s-1vcpu-1gb-intel", 1, 1024, 25, 1.0, 7.0, "Basic Intel", _PREMIUM),
    ("s-1vcpu-2gb", 1, 2048, 50, 2.0, 12.0, "Basic", _OPEN),
    ("s-1vcpu-2gb-amd", 1, 2048, 50, 2.0, 14.0, "Basic AMD", _PREMIUM),
    ("s-1vcpu-2gb-intel", 1, 2048, 50, 2.0, 14.0, "Basic Intel", _PREMIUM),
    ("s-2vcpu-2gb", 2, 2048, 60, 3.0, 18.0, "Basic", _OPEN),
    ("s-2vcpu-2gb-amd", 2, 2048, 60, 3.0, 21.0, "Basic AMD", _PREMIUM),
    ("s-2vcpu-2gb-intel", 2, 2048, 60, 3.0, 21.0, "Basic Intel", _PREMIUM),
    ("s-2vcpu-4gb", 2, 4096, 80, 4.0, 24.0, "Basic", _OPEN),
    ("s-2vcpu-4gb-amd", 2, 4096, 80, 4.0, 28.0, "Basic AMD", _PREMIUM),
    ("s-2vcpu-4gb-intel", 2, 4096, 80, 4.0, 28.0, "Basic Intel", _PREMIUM),
    ("c-2", 2, 4096, 25, 4.0, 42.0, "CPU-Optimized", _PREMIUM),
    ("s-4vcpu-8gb", 4, 8192, 160, 5.0, 48.0, "Basic", _OPEN),
    ("s-4vcpu-8gb-amd", 4, 8192, 160, 5.0, 56.0, "Basic AMD", _PREMIUM),
    ("s-4vcpu-8gb-intel", 4, 8192, 160, 5.0, 56.0, "Basic Intel", _PREMIUM),
    ("g-2vcpu-8gb", 2, 8192, 25, 4.0, 63.0, "General Purpose", _PREMIUM),
    ("c-4", 4, 8192, 50, 5.0, 84.0, "CPU-Optimized", _PREMIUM),
    ("m-2vcpu-16gb", 2, 16384, 50, 4.0, 84.0, "Memory-Optimized", _PREMIUM),
    ("s-8vcpu-16gb", 8, 16384, 320, 6.0, 96.0, "Basic", _OPEN),
    ("s-8vcpu-16gb-amd", 8, 16384, 320, 6.0, 112.0, "Basic AMD", _PREMIUM),
    ("s-8vcpu-16gb-intel", 8, 16384, 320, 6.0, 112.0, "Basic Intel", _PREMIUM),
    ("g-4vcpu-16gb", 4, 16384, 50, 5.0, 126.0, "General Purpose", _PREMIUM),
    ("c-8", 8, 16384, 100, 6.0, 168.0, "CPU-Optimized", _PREMIUM),
    ("m-4vcpu-32gb", 4, 32768, 100, 6.0, 168.0, "Memory-Optimized", _PREMIUM),
    ("g-8vcpu-32gb", 8, 32768, 100, 6.0, 252.0, "General Purpose", _PREMIUM),
)

IMAGES = (
    Image(133514033, "debian-12-x64", "12 x64", "Debian", "2023-06-20T16:31:03Z"),
    Image(195932981, "debian-13-x64", "13 x64", "Debian", "2025-08-12T18:02:11Z"),
    Image(154094964, "ubuntu-24-04-x64", "24.04 (LTS) x64", "Ubuntu", "2024-04-25T20:25:43Z"),
)


class Catalog:
    """Look-ups in what is offered. `images` are the slugs that the machinery behind the API can boot."""

    def __init__(self, images: tuple[str, ...]) -> None:
        known = {image.slug: image for image in IMAGES}
        if unknown := [slug for slug in images if slug not in known]:
            raise ValueError(f"no such image: {', '.join(unknown)}; known are {', '.join(known)}")
        self.images = {slug: known[slug] for slug in images}
        self.regions = {region.slug: region for region in REGIONS}
        self.sizes = {row[0]: Size(*row) for row in _SIZES}

    def image(self, wanted: str | int) -> Image | None:
        """An image by slug or by number."""
        if isinstance(wanted, str) and not wanted.isdigit():
            return self.images.get(wanted)
        return next((image for image in self.images.values() if image.id == int(wanted)), None)

    def sizes_in(self, region: str) -> list[str]:
        """Slugs of the sizes that are offered in a region."""
        return [size.slug for size in self.sizes.values() if region in size.regions]
