"""How projects and runners reach the GitLab that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field

import pulumi
import pulumi_gitlab as gitlab

from components.remote import Machine


@dataclass(frozen=True)
class GitLabConnection:
    """One GitLab, as everything inside it sees it. Plain data, not a component.

    `server` is the machine that GitLab runs on; `registry` is `host:port`; `ca_certificate` is the certificate of a
    private certificate authority in PEM form, if there is one.

    `provider` is passed to single resources and invokes by `provider=`, and never to a component by `providers=`. The
    SDK does not register a component before all providers that it is given exist, and this one waits for the whole of
    GitLab: machines of runners, which need nothing from GitLab, would wait with it.
    """

    url: pulumi.Input[str]
    api_token: pulumi.Input[str] = field(repr=False)
    server: Machine
    registry: pulumi.Input[str]
    ca_certificate: str | None
    provider: gitlab.Provider

    def once_there(self, value: str) -> pulumi.Output[str]:
        """Return `value`, unknown as long as the provider's configuration is: until then there is no GitLab to ask."""
        configured = pulumi.Output.unsecret(pulumi.Output.all(self.url, self.api_token))
        return configured.apply(lambda _: value)
