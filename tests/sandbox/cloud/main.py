"""The cloud: one process that serves everything under the names of the real services.

It can be stopped and started at any time: its state is in files, and machines keep running meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack, closing
from functools import partial

import docker
import tenacity
from starlette.types import ASGIApp

from tests.sandbox import layout as addresses
from tests.sandbox.cloud import mail
from tests.sandbox.cloud.acme import AcmeProxy
from tests.sandbox.cloud.archive import mirror
from tests.sandbox.cloud.authority import Authority
from tests.sandbox.cloud.packages import create_packages_app
from tests.sandbox.cloud.services import ACME_MANAGEMENT_PORT, ACME_PORT, ACME_SERVER
from tests.sandbox.cloud.slack import create_slack_app
from tests.sandbox.digitalocean.app import create_app
from tests.sandbox.digitalocean.control import create_control_app
from tests.sandbox.digitalocean.dns import DnsServer, DnsZone, static_zone
from tests.sandbox.digitalocean.metadata import create_metadata_app
from tests.sandbox.digitalocean.server import Tls, listen, listen_unix, serving
from tests.sandbox.digitalocean.state.cloud import Config
from tests.sandbox.digitalocean.state.store import Store
from tests.sandbox.hub.pulls import Pulls
from tests.sandbox.hub.registry import create_hub_app
from tests.sandbox.layout import Layout
from tests.sandbox.machines.backend import MachineBackend
from tests.sandbox.machines.image.build import SUITES, load, tarball
from tests.sandbox.machines.spaces_front import create_spaces_front

log = logging.getLogger("cloud")

#: Seconds that the machine engine may take to start.
ENGINE_PATIENCE = 60
HTTP, HTTPS, DNS = 80, 443, 53


def images(layout: Layout) -> tuple[str, ...]:
    """Slugs of the images that machines can be made of here: those that the cache has."""
    return tuple(slug for slug in SUITES if tarball(slug, layout.cache).exists())


def load_images(layout: Layout) -> None:
    """Wait for the machine engine and give it every image, with this sandbox's trust in it."""
    with closing(docker.DockerClient(base_url=f"unix://{layout.engine_socket}", timeout=300)) as engine:
        retrying = tenacity.Retrying(
            wait=tenacity.wait_fixed(0.1), stop=tenacity.stop_after_delay(ENGINE_PATIENCE), reraise=True
        )
        retrying(engine.ping)
        for slug in images(layout):
            load(
                engine,
                slug,
                cache=layout.cache,
                ca_certificate=layout.ca_certificate,
                mirror_keyring=mirror.keyring(layout.cache),
                progress=log.info,
            )


def zones() -> list[DnsZone]:
    """The names of the services that the sandbox plays; everything else in the DNS is the account's own domains."""
    dns, archives = str(addresses.DNS_ADDRESS), str(addresses.PACKAGES_ADDRESS)
    servers = {name: [dns] for name in Config(token="").nameservers}
    spaces = {
        f"{prefix}{region}.{addresses.SPACES_SUFFIX}": [str(address)]
        for region, address in addresses.SPACES_ADDRESSES.items()
        for prefix in ("", "*.")
    }
    hosts = {host: [str(addresses.API_ADDRESS)] for host in (addresses.API_HOST, addresses.CONTROL_PANEL_HOST)}
    cloud = {**hosts, addresses.MIRROR_HOST: [archives], addresses.INSIGHTS_HOST: [archives], **servers}
    return [
        static_zone("digitalocean.com", cloud),
        static_zone(addresses.SPACES_SUFFIX, spaces),
        static_zone("letsencrypt.org", {host: [str(addresses.ACME_ADDRESS)] for host in addresses.ACME_HOSTS}),
        static_zone("docker.io", {host: [str(addresses.HUB_ADDRESS)] for host in addresses.HUB_HOSTS}),
        static_zone("gcr.io", {addresses.HUB_MIRROR_HOST: [str(addresses.HUB_ADDRESS)]}),
        *(
            static_zone(host, {host: [str(addresses.HUB_ADDRESS)]})
            for host in (addresses.QUAY_HOST, addresses.GHCR_HOST)
        ),
        static_zone("slack.com", {addresses.SLACK_HOST: [str(addresses.SLACK_ADDRESS)]}),
        static_zone("sendgrid.net", {addresses.MAIL_HOST: [str(addresses.MAIL_ADDRESS)]}),
        static_zone(
            "gitlab.com",
            {
                addresses.GITLAB_PACKAGES_HOST: [archives],
                addresses.GITLAB_REGISTRY_HOST: [str(addresses.HUB_ADDRESS)],
            },
        ),
    ]


class Services:
    """What is served, each service until the stack of contexts is left."""

    def __init__(self, layout: Layout, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._layout = layout
        self.authority = Authority(layout.ca_certificate.parent)

    async def public(self, name: str, app: ASGIApp, address: object, *hosts: str) -> None:
        """Serve under real names, with a certificate for them."""
        certificate, key = self.authority.issue(name, list(hosts))
        await self.plain(app, address, HTTPS, Tls(certificate, key))
        log.info("%s: %s", name, ", ".join(hosts))

    async def plain(self, app: ASGIApp, address: object, port: int, tls: Tls | None = None) -> None:
        """Serve at an address."""
        await self._stack.enter_async_context(serving(app, listen(str(address), port), tls))

    async def local(self, app: ASGIApp) -> None:
        """Serve the control interface. Comes last: a response there means that everything is being served."""
        await self._stack.enter_async_context(serving(app, listen_unix(self._layout.control_socket)))


def certify(authority: Authority, hosts: list[str]) -> tuple[str, str]:
    """A certificate of the authority that plays the public ones, and its key."""
    certificate, key = authority.issue(hosts[0], hosts)
    return certificate.read_text(), key.read_text()


def configuration(layout: Layout, authority: Authority) -> Config:
    """The account of this sandbox."""
    return Config(
        token=layout.token_file.read_text().strip(),
        images=images(layout),
        resolvers=(str(addresses.DNS_ADDRESS),),
        spaces_key_seconds=4,
        minute_seconds=1,
        cluster_seconds=1,
        host_processors=os.cpu_count(),
        certify=partial(certify, authority),
    )


async def serve(layout: Layout, stack: AsyncExitStack) -> None:
    """Serve everything until `stack` is left: what others stand on first."""
    services = Services(layout, stack)
    folder = layout.state / "state"
    folder.mkdir(mode=0o700, exist_ok=True)
    store = stack.enter_context(closing(Store(folder / "cloud.sqlite")))
    await stack.enter_async_context(DnsServer(store, zones()).serving(str(addresses.DNS_ADDRESS), DNS))
    packages = create_packages_app(layout.cache)
    await services.plain(packages, addresses.PACKAGES_ADDRESS, HTTP)
    archives = (addresses.MIRROR_HOST, addresses.GITLAB_PACKAGES_HOST, addresses.INSIGHTS_HOST)
    await services.public("packages", packages, addresses.PACKAGES_ADDRESS, *archives)
    acme = AcmeProxy(ACME_SERVER, ACME_PORT, ACME_MANAGEMENT_PORT, services.authority)
    await services.public("acme", acme.app, addresses.ACME_ADDRESS, *addresses.ACME_HOSTS)

    folder_of_mail = folder / "mail"
    certificate, key = services.authority.issue("mail", [addresses.MAIL_HOST])
    mail_server = mail.serving(
        folder_of_mail,
        certificate,
        key,
        str(addresses.MAIL_ADDRESS),
        starttls=mail.STARTTLS_PORTS,
        tls=(mail.TLS_PORT,),
    )
    await stack.enter_async_context(mail_server)

    pulls = Pulls()
    hub = await asyncio.to_thread(create_hub_app, layout.cache, layout.ca_certificate, pulls)
    others = (addresses.HUB_MIRROR_HOST, addresses.QUAY_HOST, addresses.GHCR_HOST, addresses.GITLAB_REGISTRY_HOST)
    hub_hosts = (*addresses.HUB_HOSTS, *others)
    await services.public("hub", hub, addresses.HUB_ADDRESS, *hub_hosts)

    await services.public("slack", create_slack_app(store), addresses.SLACK_ADDRESS, addresses.SLACK_HOST)
    await asyncio.to_thread(load_images, layout)
    backend = await stack.enter_async_context(MachineBackend(layout, mirror.keyring(layout.cache)))
    api = create_app(store, backend, configuration(layout, services.authority))
    for region, address in addresses.SPACES_ADDRESSES.items():
        host = f"{region}.{addresses.SPACES_SUFFIX}"
        front = create_spaces_front(backend.spaces, region, api.state.faults)
        await services.public(f"spaces-{region}", front, address, host, f"*.{host}")
    await services.plain(create_metadata_app(api.state.cloud), addresses.METADATA_ADDRESS, HTTP)
    await services.public("api", api, addresses.API_ADDRESS, addresses.API_HOST, addresses.CONTROL_PANEL_HOST)
    control = create_control_app(api)
    control.router.routes += [mail.route(folder_of_mail), *pulls.routes()]
    await services.local(control)


async def run(layout: Layout) -> None:
    """Serve until a signal arrives."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not `loop.add_signal_handler`: processes forked for a network namespace would inherit its wake-up socket,
        # and their end would be taken for ours.
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    async with AsyncExitStack() as stack:
        await serve(layout, stack)
        log.info("ready")
        await stopped.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(run(addresses.current()))
