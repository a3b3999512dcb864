"""The repositories that machines install packages from. Imports nothing of Pulumi's: the tools ask them too."""

from __future__ import annotations

import gzip
import re
import urllib.request
from collections.abc import Mapping
from typing import Final

from components.trust import trust

#: Of the images that the settings accept: the distribution and the name of its release.
RELEASES: Final[Mapping[str, tuple[str, str]]] = {
    "ubuntu-24-04-x64": ("ubuntu", "noble"),
    "debian-12-x64": ("debian", "bookworm"),
    "debian-13-x64": ("debian", "trixie"),
}
_ARCHITECTURE: Final = "amd64"
_RESPONSE_SECONDS: Final = 5
_LARGEST_BYTES: Final = 64 * 2**20


def index_of(url: str, release: str) -> str:
    """The URL of the list of packages for a release of a distribution."""
    return f"{url}/dists/{release}/main/binary-{_ARCHITECTURE}/Packages.gz"


def fetch(url: str, ca_certificate: str | None = None) -> bytes:
    """Return the content of a URL; `ca_certificate` is trusted beside this machine's authorities.

    Raises:
        OSError: there is no answer, or the answer is an error.
    """
    # The settings accept https:// only.
    with urllib.request.urlopen(url, timeout=_RESPONSE_SECONDS, context=trust(ca_certificate)) as response:  # noqa: S310
        return bytes(response.read(_LARGEST_BYTES))


def versions_in(index: bytes, name: str) -> set[str]:
    """The versions of a package in a list of packages (Debian Policy, 5.3)."""
    stanzas = gzip.decompress(index).decode().split("\n\n")
    fields = [dict(re.findall(r"^(Package|Version): *(\S+)", stanza, re.MULTILINE)) for stanza in stanzas]
    return {one["Version"] for one in fields if one.get("Package") == name and "Version" in one}


def parts_of(version: str) -> list[int]:
    """The numbers in a version, by which versions are compared."""
    return [int(part) for part in re.findall(r"\d+", version)]
