"""What is asked of the account first, because it depends on nothing but the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pulumi
import pulumi_digitalocean as digitalocean

from components.network import VpcPlan, plan_vpc
from components.settings import Reading
from components.survey import Started, Survey

Size = digitalocean.outputs.GetSizesSizeResult
Droplet = digitalocean.outputs.GetDropletsDropletResult


@dataclass(frozen=True)
class Offer:
    """The account itself, its droplets and networks, and the sizes that there are.

    Everything but `start` is to be read once the survey has waited.
    """

    reading: Reading
    prefix: str
    _account: Started[digitalocean.GetAccountResult | None]
    _sizes: Started[digitalocean.GetSizesResult | None]
    _droplets: Started[digitalocean.GetDropletsResult | None]
    _default_vpc: Started[digitalocean.GetVpcResult | None]
    _own_vpc: Started[digitalocean.GetVpcResult | None]

    @classmethod
    def start(cls, survey: Survey, reading: Reading, prefix: str) -> Self:
        """Have the survey ask."""
        return cls(
            reading,
            prefix,
            survey.start(lambda part: part.ask("the account", "account:read", _account)),
            survey.start(lambda part: part.ask("the sizes", "sizes:read", _sizes)),
            survey.start(lambda part: part.ask("the droplets", "droplet:read", _droplets)),
            survey.start(lambda part: _default_vpc(part, reading)),
            survey.start(lambda part: _own_vpc(part, reading, prefix)),
        )

    @property
    def account(self) -> digitalocean.GetAccountResult | None:
        """The account; None if it could not be read."""
        return self._account.answer

    @property
    def sizes(self) -> Sequence[Size]:
        """All sizes; none if they could not be read."""
        return self._sizes.answer.sizes if self._sizes.answer else []

    @property
    def droplets(self) -> Sequence[Droplet]:
        """All droplets of the account; none if they could not be read."""
        return self._droplets.answer.droplets if self._droplets.answer else []

    @property
    def prices(self) -> dict[str, float]:
        """US dollars per month by size. One that is no longer offered still has a price for those who have it."""
        prices = {droplet.size: droplet.price_monthly for droplet in self.droplets}
        return prices | {size.slug: size.price_monthly for size in self.sizes}

    @property
    def vpc(self) -> VpcPlan:
        """The network of the stack, as far as the settings say which one it is."""
        if not _has_vpc(self.reading):
            return VpcPlan(self.prefix)
        settings = self.reading.settings
        default, own = self._default_vpc.answer, self._own_vpc.answer
        takes_over = self.reading.has("recover") and settings.recover.has_network
        return plan_vpc(
            self.prefix, settings.region, settings.server.vpc_cidr, default=default, own=own, takes_over=takes_over
        )


def _has_vpc(reading: Reading) -> bool:
    return reading.has("region", "server.vpcCidr")


def _account(options: pulumi.InvokeOptions) -> digitalocean.GetAccountResult:
    return digitalocean.get_account(opts=options)


def _sizes(options: pulumi.InvokeOptions) -> digitalocean.GetSizesResult:
    return digitalocean.get_sizes(opts=options)


def _droplets(options: pulumi.InvokeOptions) -> digitalocean.GetDropletsResult:
    return digitalocean.get_droplets(opts=options)


def _default_vpc(survey: Survey, reading: Reading) -> digitalocean.GetVpcResult | None:
    if not _has_vpc(reading):
        return None
    region = reading.settings.region
    return survey.ask(
        "the networks", "vpc:read", lambda options: digitalocean.get_vpc(region=region, opts=options), "unable to find"
    )


def _own_vpc(survey: Survey, reading: Reading, prefix: str) -> digitalocean.GetVpcResult | None:
    if not _has_vpc(reading):
        return None
    settings = reading.settings
    name = plan_vpc(prefix, settings.region, settings.server.vpc_cidr, default=None, own=None).name
    return survey.ask(
        "the networks", "vpc:read", lambda options: digitalocean.get_vpc(name=name, opts=options), "no VPCs found"
    )
