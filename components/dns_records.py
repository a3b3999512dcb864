"""The DNS records of the installation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.known_resources import KnownResources
from components.leftovers import PLACES, import_line
from components.lost_answers import DNS_RECORD, DOMAIN, once
from components.settings import DnsZone, Settings

ZoneRecord = digitalocean.outputs.GetRecordsRecordResult


@dataclass(frozen=True)
class DnsRecordsArgs:
    """Inputs of `DnsRecords`: the settings of the stack, the server's address, and whether the stack has the domain.

    One that it has and that the settings call `existing` is left behind when it leaves the stack. `existing_domain` is
    its name if a lost state had it: it is taken over.
    """

    settings: Settings
    address: pulumi.Input[str]
    create_domain: bool
    existing_domain: str | None = None


def foreign_records(records: Sequence[ZoneRecord], settings: Settings, known: KnownResources) -> Iterator[str]:
    """Records of the zone that would answer for GitLab's name beside the stack's own, each as an error.

    DigitalOcean accepts a second address record without a word. Resolvers give out the addresses of all of them in
    turn, Let's Encrypt prefers IPv6, and name servers of its own take the whole name away.
    """
    included = ", those of the certificate authority included" if settings.certificate.issuer else ""
    here = [record for record in records if record.name == settings.hostname]
    own = _own_values([record.value for record in here if record.type == "A"], settings, known)
    for record in here:
        if record.type not in {"A", "AAAA", "CNAME", "NS"} or (record.type == "A" and record.value in own):
            continue
        share = "all requests" if record.type == "NS" else "part of the requests"
        advice = "Delete the record, or use another hostname"
        if record.type == "A" and record.value in {one.get("ipAddress") for one in known.of_type("ReservedIp")}:
            share = "a second record could not be created, or part of the requests"
            line = import_line(PLACES["record"], f"{settings.domain},{record.id}", known)
            advice = f"It has this stack's address: take it over with\n{line}\nor delete it" if line else advice
        yield (
            f"hostname: the zone {settings.domain} has the record {record.name} {record.type} {record.value} (ID "
            f"{record.id}), which is not in this stack's state; {share} for {settings.fqdn} would go "
            f"there{included}. {advice}"
        )


def _own_values(values: Collection[str], settings: Settings, known: KnownResources) -> set[str]:
    """Those addresses of the name that the stack's own record has."""
    place = (settings.domain, "A", settings.hostname)
    records = [
        one for one in known.of_type("DnsRecord") if (one.get("domain"), one.get("type"), one.get("name")) == place
    ]
    own = {str(record.get("value")) for record in records}
    if own and own.isdisjoint(values) and len(values) == 1:
        # Somebody changed our record. A refresh finds that, and the update after it sets it right.
        return set(values)
    return own


class DnsRecords(Component):
    """The address of GitLab and its registry, and the CA that may issue certificates for it.

    Owns an A record and a CAA record, and the domain if the stack creates it. Refuses to own a domain that exists
    already, and any other record in it.
    """

    fqdn: pulumi.Output[str]

    def __init__(self, name: str, args: DnsRecordsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the records; a domain that should exist and does not is an error at preview."""
        super().__init__("DnsRecords", name, opts)
        domain = self._domain(args)
        record = digitalocean.DnsRecord(
            self.child_name("a"),
            domain=domain,
            type="A",
            name=args.settings.hostname,
            value=args.address,
            ttl=args.settings.dns.ttl,
            opts=self.child_options(hooks=once(DNS_RECORD, self.child_name("a"))),
        )
        if issuer := args.settings.certificate.issuer:
            digitalocean.DnsRecord(
                self.child_name("caa"),
                domain=domain,
                type="CAA",
                name=args.settings.hostname,
                # Without the final dot every refresh would show a difference.
                value=f"{issuer}.",
                flags=0,
                tag="issue",
                ttl=args.settings.dns.ttl,
                opts=self.child_options(hooks=once(DNS_RECORD, self.child_name("caa"))),
            )
        self.fqdn = record.fqdn
        self.register_outputs({"fqdn": self.fqdn})

    def _domain(self, args: DnsRecordsArgs) -> pulumi.Output[str]:
        name, keep = args.settings.domain, args.settings.keep_data
        if args.create_domain:
            leave = args.settings.dns.zone is DnsZone.EXISTING
            hooks = once(DOMAIN, self.child_name("domain"))
            options = self.child_options(keep=keep, retain=leave, import_=args.existing_domain, hooks=hooks)
            return digitalocean.Domain(self.child_name("domain"), name=name, opts=options).name
        found = digitalocean.get_domain_output(name=name, opts=pulumi.InvokeOptions(parent=self))
        return found.apply(lambda domain: domain.name)
