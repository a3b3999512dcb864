"""Names, paths and addresses of one sandbox.

The one place that knows them. Everything that a sandbox makes on the host is named after `Layout.name`, which is
derived from the path of the checkout and the name of the instance, so that several checkouts can each have several
sandboxes at the same time. The addresses can be the same in all of them: each sandbox lives in network namespaces of
its own.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network
from pathlib import Path

#: Services of the cloud, on a dummy link of the cloud's namespace.
DNS_ADDRESS = IPv4Address("100.64.0.1")
API_ADDRESS = IPv4Address("100.64.0.2")
PACKAGES_ADDRESS = IPv4Address("100.64.0.3")
ACME_ADDRESS = IPv4Address("100.64.0.4")
HUB_ADDRESS = IPv4Address("100.64.0.5")
SLACK_ADDRESS = IPv4Address("100.64.0.6")
MAIL_ADDRESS = IPv4Address("100.64.0.7")
METADATA_ADDRESS = IPv4Address("169.254.169.254")

#: Regions that offer Spaces, each with the address of its endpoint.
SPACES_ADDRESSES = {"nyc3": IPv4Address("100.64.1.1"), "fra1": IPv4Address("100.64.1.2")}

#: Public addresses of machines (one /32 a machine), reserved addresses, anchor addresses behind those.
PUBLIC_NETWORK = IPv4Network("203.0.113.0/24")
PUBLIC_GATEWAY = IPv4Address("203.0.113.1")
PUBLIC_NETWORK6 = IPv6Network("2001:db8:0:1::/64")
RESERVED_NETWORK = IPv4Network("198.51.100.0/24")
ANCHOR_NETWORK = IPv4Network("10.10.0.0/16")

#: The machine that a user sits at: outside the cloud, one hop from it.
WORKSTATION = IPv4Interface("192.0.2.10/24")
WORKSTATION_GATEWAY = IPv4Interface("192.0.2.1/24")

API_HOST = "api.digitalocean.com"
CONTROL_PANEL_HOST = "cloud.digitalocean.com"
SLACK_HOST = "hooks.slack.com"
ACME_HOSTS = ("acme-v02.api.letsencrypt.org", "acme-staging-v02.api.letsencrypt.org")
GITLAB_PACKAGES_HOST = "packages.gitlab.com"
HUB_REGISTRY_HOST = "registry-1.docker.io"
HUB_AUTH_HOST = "auth.docker.io"
HUB_HOSTS = (HUB_REGISTRY_HOST, HUB_AUTH_HOST, "index.docker.io")
QUAY_HOST = "quay.io"
GHCR_HOST = "ghcr.io"
GITLAB_REGISTRY_HOST = "registry.gitlab.com"
#: A public mirror of Docker Hub, for the setting of Docker engines.
HUB_MIRROR_HOST = "mirror.gcr.io"
#: The mail service that DigitalOcean recommends.
MAIL_HOST = "smtp.sendgrid.net"
MIRROR_HOST = "mirrors.digitalocean.com"
#: The archive of the metrics agent.
INSIGHTS_HOST = "repos.insights.digitalocean.com"
SPACES_SUFFIX = "digitaloceanspaces.com"

#: Environment variable with the name of the instance to use; unset or empty for the default sandbox of the checkout.
INSTANCE_VARIABLE = "SLIPWAY_SANDBOX"
#: Environment variable with the provider plugins to use, one of `PLUGINS`; unset or empty for the first.
PLUGINS_VARIABLE = "SLIPWAY_PLUGINS"
PLUGINS = ("own", "official")


class InstanceNameError(ValueError):
    """The name of an instance cannot be part of a path, a control group and a machine's name."""


class PluginsNameError(ValueError):
    """The environment asks for plugins that there are not."""


@dataclass(frozen=True)
class Layout:
    """Where one sandbox keeps its things.

    Owns nothing but names. `cache` outlives the sandbox (tools, images, packages) and is shared by all instances of the
    checkout; `state` is gone after `make down`. `instance` is empty for the default sandbox. With `official_plugins`,
    commands on the workstation use Pulumi's own plugins instead of the sandbox's.

    Raises:
        InstanceNameError: `instance` is not up to 20 lowercase letters, digits and hyphens, starting with a letter or
            a digit.
    """

    root: Path
    instance: str = ""
    official_plugins: bool = False

    def __post_init__(self) -> None:
        if self.instance and not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", self.instance):
            raise InstanceNameError(
                f"{INSTANCE_VARIABLE}: {self.instance!r} is not a name for a sandbox. Use up to 20 lowercase letters, "
                "digits and hyphens"
            )

    @property
    def name(self) -> str:
        """The prefix of everything that the sandbox makes."""
        checkout = f"slipway-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"
        return f"{checkout}-{self.instance}" if self.instance else checkout

    @property
    def cache(self) -> Path:
        """The one ignored folder: everything downloaded, built or kept."""
        return self.root / ".cache"

    @property
    def state(self) -> Path:
        """What this sandbox is made of; removed with it."""
        return self.cache / (f"sandbox-{self.instance}" if self.instance else "sandbox")

    @property
    def engine(self) -> Path:
        """The folder with the `bin` and the `pulumi-home` of the plugins in use; other stacks use the official ones."""
        return self.cache / "tools" if self.official_plugins else self.cache

    @property
    def pulumi_home(self) -> Path:
        """PULUMI_HOME of commands on the workstation: one for each kind of plugins."""
        return self.state / ("pulumi-home-official" if self.official_plugins else "pulumi-home")

    @property
    def lock(self) -> Path:
        """Held while this sandbox starts or stops."""
        return self.cache / f"{self.state.name}.lock"

    @property
    def run(self) -> Path:
        """Sockets. Short, because the path of a Unix socket has at most 107 bytes."""
        return Path("/run") / self.name

    @property
    def control_socket(self) -> Path:
        """HTTP control interface of the emulated cloud."""
        return self.run / "control.sock"

    @property
    def engine_socket(self) -> Path:
        """Docker engine that runs the machines."""
        return self.run / "engine.sock"

    @property
    def workstation_docker_socket(self) -> Path:
        """Docker engine of the workstation."""
        return self.run / "docker.sock"

    @property
    def ca_certificate(self) -> Path:
        """Certificate of the sandbox's own authority (PEM)."""
        return self.state / "ca" / "ca.crt"

    @property
    def token_file(self) -> Path:
        """API token of the emulated account (mode 0600)."""
        return self.state / "digitalocean-token"


def current() -> Layout:
    """The layout of the checkout that this file stands in, and of the instance that the environment names.

    Raises:
        PluginsNameError: the environment names plugins that are none of `PLUGINS`.
    """
    plugins = os.environ.get(PLUGINS_VARIABLE) or PLUGINS[0]
    if plugins not in PLUGINS:
        raise PluginsNameError(f"PLUGINS: {plugins!r} is not a valid choice. Use {' or '.join(PLUGINS)}")
    root = Path(__file__).resolve().parents[2]
    return Layout(root, os.environ.get(INSTANCE_VARIABLE, ""), official_plugins=plugins == "official")
