"""What the account offers: asked of the API at the start of every preview and update, with reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pulumi
import pulumi_digitalocean as digitalocean

from components import api
from components.backup import BACKUP
from components.database_offer import DatabaseOffer
from components.database_plan import deployed_clusters
from components.dns_records import foreign_records
from components.droplet_images import droplet_images
from components.known_resources import KnownResources, StateReader
from components.kubernetes_cache import cache_of
from components.kubernetes_offer import ClusterVersion, KubernetesOffer, Room
from components.leftovers import Wanted, look_for_leftovers
from components.network import VpcPlan
from components.object_buckets import OBJECTS, TYPES, purpose_of
from components.offer import Droplet, Offer, Size
from components.package_index import missing_versions
from components.recovery import Recovery
from components.recovery import errors as recovery_errors
from components.registry_bucket import REGISTRY
from components.settings import DnsZone, Reading, Settings, Storage, droplets_of
from components.spaces import key_names
from components.state import DeploymentState
from components.survey import Started, Survey
from components.token_scopes import scope_errors
from components.wanted_machines import Machines, Running, is_own, machines_of, note_losses, stays
from components.zone import records_of_others

#: What a region has to offer, by the names that the API gives it: volumes, and the metadata that cloud-init reads.
_NEEDED_FEATURES: Final = {"storage": "volumes", "metadata": "the metadata service"}
_MOST_SUGGESTIONS: Final = 3
#: Characters of a bucket's name, and of the random digits at its end (Amazon S3, bucket naming rules).
_LONGEST_BUCKET: Final = 63
_LONGEST_SUFFIX: Final = 8


@dataclass(frozen=True)
class Account:
    """What the account offers to a stack, and every reason why the stack cannot be created in it.

    `prices` are US dollars per month by size slug, and empty if they could not be read. `recovery` is what a new state
    takes over. `images` are what droplets start from, by their names, where it is not the slug in the settings.
    `objects_region` is that of the Spaces with GitLab's files in the state, empty if it has none.
    `databases` are the clusters of managed databases in the state, by engine, with their outputs.
    `kubernetes` are the versions of the clusters of runners, by the runners' names.
    """

    vpc: VpcPlan
    prices: Mapping[str, float]
    errors: tuple[str, ...]
    recovery: Recovery = field(default_factory=Recovery)
    images: Mapping[str, str] = field(default_factory=dict)
    objects_region: str = ""
    kubernetes: Mapping[str, ClusterVersion] = field(default_factory=dict)
    databases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_account(
    reading: Reading,
    deployed: DeploymentState | None,
    prefix: str,
    provider: digitalocean.Provider,
    state: StateReader,
) -> Account:
    """Ask the API whether it offers what the valid part of the settings needs, and whether its names are free.

    `prefix` begins the names of the stack's resources. `state` tells which of them are the stack's own, and hangs on
    the `provider`.
    """
    nothing = VpcPlan(prefix)
    if not reading.has_credentials:
        return Account(nothing, {}, ())
    survey = Survey(pulumi.InvokeOptions(provider=provider))
    granted = survey.start(lambda _: api.token_scopes(), beside=True)
    offer = Offer.start(survey, reading, prefix)
    kubernetes = KubernetesOffer.start(survey, reading, prefix)
    databases = DatabaseOffer.start(survey, reading, prefix)
    survey.wait()
    if survey.rejected:
        # Every other request has failed the same way.
        return Account(nothing, {}, tuple(survey.errors))
    account, settings = offer.account, reading.settings
    if account is not None:
        survey.note(_status_errors(account))
        _note_recipients(account, reading)
    survey.note(scope_errors(granted.answer, reading, is_new=deployed is None))
    known = state.read()
    images = _start_checks(survey, reading, deployed, offer, known)
    room = _room(reading, offer, known)
    survey.check(lambda _: kubernetes.errors(known, offer.sizes, room))
    survey.check(lambda _: databases.errors(known))
    survey.wait()
    if reading.has("recover", "registry.storage", "objectStorage", "backup.enabled", "databases"):
        survey.note(recovery_errors(settings, prefix, known))
    survey.note(_bucket_errors(reading, prefix))
    versions = kubernetes.versions(known, _planned_network(reading, offer))
    objects_region = str(known.named(f"object-buckets-{purpose_of(TYPES[0])}").get("region") or "")
    recovery = Recovery.of(settings, prefix, known)
    return Account(
        offer.vpc,
        offer.prices,
        tuple(survey.errors),
        recovery,
        images.answer,
        objects_region,
        versions,
        deployed_clusters(known),
    )


def _room(reading: Reading, offer: Offer, known: KnownResources) -> Room:
    """The account's droplets and its limit, with the machines of the settings that are not there yet."""
    own = {one.name for one in offer.droplets if is_own(one, offer.prefix, known)}
    names = {name for one in machines_of(reading, offer.prefix) for name in one.names}
    return Room(offer.droplets, len(names - own), offer.account.droplet_limit if offer.account is not None else 0)


def _planned_network(reading: Reading, offer: Offer) -> str | None:
    """The ID of the stack's network, or nothing before it exists. None without a range: then it stays what it is."""
    settings = reading.settings
    return (offer.vpc.id or "") if reading.has("region", "server.vpcCidr") and settings.server.vpc_cidr else None


def _start_checks(
    survey: Survey, reading: Reading, deployed: DeploymentState | None, offer: Offer, known: KnownResources
) -> Started[Mapping[str, str]]:
    """Have the survey check what depends on what runs, and on what is in the state; and find the snapshots."""
    settings, region, prefix, droplets = reading.settings, reading.settings.region, offer.prefix, offer.droplets
    machines, vpc = machines_of(reading, prefix), offer.vpc
    network = _planned_network(reading, offer)
    slugs = set(deployed.slugs) if deployed and deployed.region == region else set()
    own = [one for one in droplets if is_own(one, prefix, known)]
    running = Running(own, slugs, network)
    if reading.has("region"):
        note_losses(machines, own, region, network)
        survey.check(lambda part: _offer_errors(part, region, machines, offer.sizes, running))
    survey.check(lambda _: _disk_errors(machines, offer.sizes, running))
    if offer.account is not None and offer.account.droplet_limit and reading.has("server", "runners", "projects"):
        limit = offer.account.droplet_limit
        survey.check(lambda _: _limit_errors(limit, machines, droplets, own))
    if reading.has("domain", "hostname", "dns.zone"):
        survey.check(lambda part: _dns_errors(part, settings, known))
        survey.check(lambda part: _lost_records(part, settings, deployed, known))
    look_for_leftovers(survey, _wanted(reading, prefix, vpc), known, droplets)
    survey.check(lambda _: missing_versions(reading, deployed, known), beside=True)
    wanted = machines if reading.has("region") else []
    return survey.start(lambda part: droplet_images(part, wanted, region, offer.sizes, running=running, known=known))


def _status_errors(account: digitalocean.GetAccountResult) -> Iterator[str]:
    if not account.email_verified:
        yield (
            f"DIGITALOCEAN_TOKEN: belongs to the account of {account.email}, whose e-mail address is not verified; "
            "DigitalOcean would refuse to create anything. Follow the link in the e-mail that it has sent"
        )
    if account.status == "locked":
        reason = f" ({account.status_message.strip()})" if account.status_message.strip() else ""
        yield (
            f"DIGITALOCEAN_TOKEN: belongs to the account of {account.email}, which is locked{reason}; DigitalOcean "
            "would refuse to create anything. Contact its support"
        )
    elif account.status == "warning":
        pulumi.log.warn(f"DigitalOcean has a warning on the account of {account.email}: {account.status_message}")


def _note_recipients(account: digitalocean.GetAccountResult, reading: Reading) -> None:
    """Warn of recipients that the API may refuse. It does not list the members of a team, only the token's owner."""
    if not pulumi.runtime.is_dry_run() or not reading.has("alerts.email"):
        return
    others = [one for one in reading.settings.alerts.email if one.lower() != account.email.lower()]
    if others:
        pulumi.log.warn(
            f"alerts.email: {', '.join(others)} is not the address of this token's owner, {account.email}. If it is "
            "not a verified address of a member of the team either, DigitalOcean rejects it, and the update fails "
            "when it creates the alerts. Invite it under Settings > Team, or use another one"
        )


def _offer_errors(
    survey: Survey,
    region: str,
    machines: Sequence[Machines],
    sizes: Sequence[Size],
    running: Running,
) -> Iterator[str]:
    closed = [] if running.droplets and running.known else list(_region_errors(survey, region))
    yield from closed
    if not closed:
        # In a region that offers nothing, size and image are not what is wrong.
        yield from _size_errors([one for one in machines if not running.keep_size(one)], sizes, region)
        yield from _image_errors(survey, [one for one in machines if not running.keep_image(one)], sizes, region)


def _region_errors(survey: Survey, region: str) -> Iterator[str]:
    found = survey.ask("the regions", "regions:read", lambda options: digitalocean.get_regions(opts=options))
    if found is None:
        return
    regions = {one.slug: one for one in found.regions}
    usable = [slug for slug, one in regions.items() if one.available and _NEEDED_FEATURES.keys() <= set(one.features)]
    advice = f"Use one of {', '.join(sorted(usable))}"
    if region not in regions:
        yield f"region: {region} does not exist at DigitalOcean; nothing can be created there. {advice}"
    elif not regions[region].available:
        yield f"region: {region} accepts no new resources; nothing can be created there. {advice}"
    elif region not in usable:
        lacking = [noun for name, noun in _NEEDED_FEATURES.items() if name not in regions[region].features]
        yield f"region: {region} does not offer {' and '.join(lacking)}; GitLab could not be installed there. {advice}"


def _size_errors(machines: Sequence[Machines], sizes: Sequence[Size], region: str) -> Iterator[str]:
    known = {size.slug: size for size in sizes}
    for one in machines if sizes else ():
        size = known.get(one.size)
        if size is None:
            yield f"{one.path}.size: {one.size} is not a size; no droplet could be created. {_offered(sizes, region)}"
        elif not size.available or region not in size.regions:
            larger = [other for other in sizes if other.vcpus >= size.vcpus and other.memory >= size.memory]
            yield (
                f"{one.path}.size: {one.size} is not available in {region}; no droplet could be created. "
                f"{_offered(larger, region)}"
            )


def _offered(sizes: Sequence[Size], region: str) -> str:
    offered = [size for size in sizes if size.available and region in size.regions]
    cheapest = sorted(offered, key=lambda size: size.price_monthly)[:_MOST_SUGGESTIONS]
    if not cheapest:
        return "Use another region"
    return f"{region} offers, for example, {', '.join(size.slug for size in cheapest)}"


def _read_image(slug: str, options: pulumi.InvokeOptions) -> digitalocean.GetImageResult:
    return digitalocean.get_image(slug=slug, opts=options)


def _image_errors(survey: Survey, machines: Sequence[Machines], sizes: Sequence[Size], region: str) -> Iterator[str]:
    disks = {size.slug: size.disk for size in sizes}
    machines = [one for one in machines if not one.snapshot]
    for slug in dict.fromkeys(one.image for one in machines):
        paths = ", ".join(f"{one.path}.image" for one in machines if one.image == slug)
        before = len(survey.errors)
        image = survey.ask(
            f"image {slug}",
            "image:read",
            partial(_read_image, slug),
            absent="not found",
        )
        if image is None and len(survey.errors) == before:
            yield (
                f"{paths}: {slug} is not an image; no droplet could be created. "
                "doctl compute image list-distribution lists what there is"
            )
        elif image is not None and region not in image.regions:
            yield (
                f"{paths}: {slug} is not available in {region}; no droplet could be created. "
                "Use another image or another region"
            )
        elif image is not None:
            for one in machines:
                if one.image == slug and disks.get(one.size, image.min_disk_size) < image.min_disk_size:
                    yield (
                        f"{one.path}.size: {one.size} has a disk of {disks[one.size]} GB, and {slug} needs one of "
                        f"{image.min_disk_size} GB; no droplet could be created. Use a size with a larger disk"
                    )


def _disk_errors(machines: Sequence[Machines], sizes: Sequence[Size], running: Running) -> Iterator[str]:
    disks = {size.slug: size.disk for size in sizes}
    for one in machines:
        for droplet in running.droplets:
            disk = disks.get(one.size, droplet.disk)
            if not stays(droplet, one.image, running.network):
                # It is replaced, and the new one has the disk of its size.
                continue
            if droplet.name in one.names and droplet.size != one.size and disk < droplet.disk:
                yield (
                    f"{one.path}.size: {one.size} has a disk of {disk} GB, and {droplet.name} has one of "
                    f"{droplet.disk} GB, which cannot shrink; DigitalOcean would refuse to resize it. Use a size with "
                    "a larger disk, or delete the droplet and run pulumi refresh first: it is then created again"
                )


def _limit_errors(
    limit: int, machines: Sequence[Machines], droplets: Sequence[Droplet], own: Sequence[Droplet]
) -> Iterator[str]:
    wanted = sum(len(one.names) for one in machines)
    others = len(droplets) - len(own)
    if len(own) < wanted and others + wanted > limit:
        sections = list(dict.fromkeys(one.path.partition("[")[0] for one in machines))
        yield (
            f"{', '.join(sections)}: need {wanted} droplets, and the account has {others} others and a limit of "
            f"{limit}; the last {min(wanted, others + wanted - limit)} could not be created. Ask for a higher limit "
            "under Settings in the control panel, or use fewer machines"
        )


def _dns_errors(survey: Survey, settings: Settings, known: KnownResources) -> Iterator[str]:
    domain, is_new = settings.domain, settings.dns.zone is DnsZone.CREATE
    if is_new and not settings.recover.domain and domain not in known.names("Domain"):
        # There is no zone yet; or there is, and it is refused with whatever is in it.
        return
    before = len(survey.errors)
    found = survey.ask(
        f"the records of {domain}",
        "domain:read",
        lambda options: digitalocean.get_records(domain=domain, opts=options),
        absent="404",
    )
    if found is not None:
        yield from foreign_records(found.records, settings, known)
    elif len(survey.errors) == before and not is_new:
        yield (
            f"dns.zone: {domain} is not a zone of this DigitalOcean account; no record could be created in it. Set "
            "dns.zone to create, or add the domain under Networking in the control panel"
        )


def _lost_records(
    survey: Survey, settings: Settings, deployed: DeploymentState | None, known: KnownResources
) -> Iterator[str]:
    """Records of others that would be deleted with the former zone. A protected zone cannot be left."""
    if deployed is None or not deployed.has_domain or deployed.kept or deployed.leaves_domain:
        return
    domain = deployed.domain
    if domain == settings.domain:
        return
    found = survey.ask(
        f"the records of {domain}",
        "domain:read",
        lambda options: digitalocean.get_records(domain=domain, opts=options),
        absent="404",
    )
    own = {(one["name"], one["type"]) for one in known.of_type("DnsRecord") if one.get("domain") == domain}
    records = [(one.name, one.type, one.value) for one in found.records] if found else []
    if lost := records_of_others(records, own):
        yield (
            f"domain: {settings.domain} would follow {domain}, whose zone the stack has created; it would be deleted "
            f"with records that are not in this stack's state: {', '.join(lost)}. Delete them; or set domain back to "
            f"{domain} and dns.zone to existing for one update, and the zone stays"
        )


def _bucket_errors(reading: Reading, prefix: str) -> Iterator[str]:
    """Spaces whose names would be too long. All others have room for the longest prefix that there may be."""
    if not (reading.has("objectStorage.storage") and reading.settings.uses_object_storage):
        return
    purpose = max(map(purpose_of, TYPES), key=len)
    longest = _LONGEST_BUCKET - len(f"-{purpose}-") - _LONGEST_SUFFIX
    if len(prefix) > longest:
        yield (
            f"objectStorage.storage: the Space {prefix}-{purpose}-… would have a name of more than {_LONGEST_BUCKET} "
            f"characters; it could not be created. With object storage, the names of project and stack may have "
            f"{longest - 1} characters together: create a stack with a shorter name"
        )


def _wanted(reading: Reading, prefix: str, vpc: VpcPlan) -> Wanted:
    settings = reading.settings
    has_zone = reading.has("domain", "dns.zone") and settings.dns.zone is DnsZone.CREATE
    purposes = [REGISTRY] if reading.has("registry.storage") and settings.registry.storage is Storage.SPACES else []
    purposes += [OBJECTS] if reading.has("objectStorage.storage") and settings.uses_object_storage else []
    purposes += [BACKUP] if reading.has("backup.enabled") and settings.backup.enabled else []
    if reading.has("runners"):
        purposes += [cache_of(runner.name) for runner in settings.runners if runner.keeps_caches]
    return Wanted(
        prefix=prefix,
        region=settings.region if reading.has("region") else None,
        domain=settings.domain if has_zone else None,
        vpc=vpc.name if reading.has("region", "server.vpcCidr") else None,
        vpc_id=vpc.existing_id,
        vpc_cidr=settings.server.vpc_cidr if reading.has("server.vpcCidr") else None,
        registry_port=settings.registry.port if reading.has("registry.port") else None,
        volume_gb=settings.server.volume_size_gb if reading.has("server.volumeSizeGb") else None,
        recover=settings.recover,
        droplets=[name for machines in machines_of(reading, prefix) for name in machines.names],
        targets=[name for _, name, _, _ in droplets_of(settings)],
        spaces_keys=[
            name for purpose in purposes for name in key_names(prefix, purpose, own_key=reading.has_spaces_key)
        ],
    )
