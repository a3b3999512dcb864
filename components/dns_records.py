"""The DNS records of the installation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.leftovers import before_create, refuse_existing_domain
from components.settings import Settings


@dataclass(frozen=True)
class DnsRecordsArgs:
    """Inputs of `DnsRecords`: the settings of the stack, the server's address, and who owns the domain."""

    settings: Settings
    address: pulumi.Input[str]
    create_domain: bool


def foreign_records(
    records: Sequence[digitalocean.outputs.GetRecordsRecordResult], settings: Settings, own_values: Collection[str]
) -> Iterator[str]:
    """Records of the zone that would answer for GitLab's name beside the stack's own, each as an error.

    Resolvers give out the addresses of all of them in turn, and Let's Encrypt prefers IPv6.
    """
    included = ", those of the certificate authority included" if settings.certificate.issuer else ""
    for record in records:
        if record.name != settings.hostname or record.type not in {"A", "AAAA", "CNAME"}:
            continue
        if record.type == "A" and record.value in own_values:
            continue
        yield (
            f"hostname: the zone {settings.domain} has the record {record.name} {record.type} {record.value} (ID "
            f"{record.id}), which is not this stack's; part of the requests for {settings.fqdn} would go "
            f"there{included}. Delete the record, or use another hostname"
        )


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
            opts=self.child_options(),
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
                opts=self.child_options(),
            )
        self.fqdn = record.fqdn
        self.register_outputs({"fqdn": self.fqdn})

    def _domain(self, args: DnsRecordsArgs) -> pulumi.Output[str]:
        name, keep = args.settings.domain, args.settings.keep_data
        if args.create_domain:
            hooks = before_create(self, "domain", refuse_existing_domain)
            options = self.child_options(keep=keep, hooks=hooks)
            return digitalocean.Domain(self.child_name("domain"), name=name, opts=options).name
        found = digitalocean.get_domain_output(name=name, opts=pulumi.InvokeOptions(parent=self))
        return found.apply(lambda domain: domain.name)
