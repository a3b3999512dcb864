"""The names of the installation."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component


@dataclass(frozen=True)
class DnsRecordsArgs:
    """Inputs of `DnsRecords`. `ttl` is in seconds; `issuer` is the certificate authority that CAA admits, if any."""

    domain: str
    hostname: str
    address: pulumi.Input[str]
    ttl: int
    create_domain: bool
    issuer: str | None
    keep_data: bool


class DnsRecords(Component):
    """The record of GitLab and its registry, and who may issue certificates for it.

    Owns an A record and a CAA record, and the domain where it is made here. Refuses to own a domain that exists, or
    any other record in it.
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
            name=args.hostname,
            value=args.address,
            ttl=args.ttl,
            opts=self.child_options(),
        )
        if args.issuer:
            digitalocean.DnsRecord(
                self.child_name("caa"),
                domain=domain,
                type="CAA",
                name=args.hostname,
                # Without the final dot the service and the provider disagree for ever.
                value=f"{args.issuer}.",
                flags=0,
                tag="issue",
                ttl=args.ttl,
                opts=self.child_options(),
            )
        self.fqdn = record.fqdn
        self.register_outputs({"fqdn": self.fqdn})

    def _domain(self, args: DnsRecordsArgs) -> pulumi.Output[str]:
        if args.create_domain:
            return digitalocean.Domain(
                self.child_name("domain"), name=args.domain, opts=self.child_options(keep=args.keep_data)
            ).name
        found = digitalocean.get_domain_output(name=args.domain, opts=pulumi.InvokeOptions(parent=self))
        return found.apply(lambda domain: domain.name)
