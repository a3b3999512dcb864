"""The certificate of GitLab and its registry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from pydantic import AliasChoices, ConfigDict, Field, SecretStr, field_validator

from components.rendering import script
from components.settings.section import ENVIRONMENT, Contradiction, Section
from components.settings.strings import Certificates, EmailAddress, HttpsUrl

_STAGING_DIRECTORY: Final = "https://acme-staging-v02.api.letsencrypt.org/directory"


class CertificateSource(StrEnum):
    """Where the certificate of GitLab and its registry comes from."""

    LETS_ENCRYPT = "lets-encrypt"
    PROVIDED = "provided"


class Certificate(Section):
    """TLS of GitLab and its registry, which share one certificate.

    Certificates and the private key are PEM texts; a list of certificates is one text.
    """

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    source: CertificateSource = Field(
        default=CertificateSource.LETS_ENCRYPT,
        description="`lets-encrypt` obtains a certificate and renews it. `provided` uses your own: set `chain` and "
        "`privateKey`.",
    )
    contact_email: EmailAddress | None = Field(
        default=None,
        description="The contact address of the account with Let's Encrypt or another ACME server.",
        examples=["ops@example.com"],
    )
    acme_directory: HttpsUrl | None = Field(
        default=None,
        description="The directory URL of another ACME server.",
        examples=["https://ca.example.com/acme/directory"],
        json_schema_extra={"unset": "Let's Encrypt"},
    )
    acme_staging: bool = Field(
        default=False,
        description="Whether to use Let's Encrypt's staging environment, for rehearsals: it has high rate limits, and "
        "roots that only the machines of the stack and the tools, such as `make verify`, then trust. Browsers and your "
        "own Docker do not.",
    )
    chain: Certificates | None = Field(
        default=None,
        description="The provided certificate, followed by its intermediate certificates, as PEM.",
    )
    private_key: SecretStr | None = Field(
        default=None,
        description="The private key of the provided certificate, as PEM.",
    )
    ca_certificate: Certificates | None = Field(
        default=None,
        # Its former name was `authority`, and stack files that use it stay valid.
        validation_alias=AliasChoices("caCertificate", "authority"),
        description="The root certificate of a private certificate authority, as PEM, which the server, the runners, "
        "the `gitlab` provider and the tools, such as `make verify`, then trust. Needed if it issued the provided "
        "certificate or runs your ACME server.",
    )

    @property
    def directory(self) -> str | None:
        """The directory URL of the ACME server; None for Let's Encrypt's production and for a provided certificate."""
        return _STAGING_DIRECTORY if self.acme_staging else self.acme_directory

    @property
    def trusted_roots(self) -> str | None:
        """The root certificates that machines have to trust beside the public ones, as PEM; None if there are none."""
        staging = script("letsencrypt-staging-roots.pem") if self.acme_staging else ""
        found = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", staging, re.DOTALL)
        return "\n".join(filter(None, [self.ca_certificate, *found])) or None

    @property
    def issuer(self) -> str | None:
        """The certificate authority that the CAA record admits; None if any authority may issue."""
        lets_encrypt = self.source is CertificateSource.LETS_ENCRYPT and self.acme_directory is None
        return "letsencrypt.org" if lets_encrypt else None

    def contradictions(self) -> Iterator[Contradiction]:
        """Keys of one source beside the other source, and incomplete ones."""
        given = self.chain is not None or self.private_key is not None
        if self.source is CertificateSource.LETS_ENCRYPT and given:
            yield Contradiction(
                ("source",),
                "has chain or privateKey, but source is lets-encrypt; they would be ignored. "
                "Set source to provided, or remove them",
            )
        if self.source is CertificateSource.PROVIDED and not (self.chain and self.private_key):
            yield Contradiction(
                ("source", "chain", "privateKey"),
                "has source provided without both chain and privateKey; nginx would not start. "
                "Set certificate.chain, and certificate.privateKey with --secret",
            )
        if self.acme_staging and self.acme_directory:
            yield Contradiction(
                ("acmeStaging", "acmeDirectory"),
                "has both acmeStaging and acmeDirectory; only one of the two servers can issue the certificate. "
                "Remove one of them",
            )
        if self.source is CertificateSource.PROVIDED and (
            self.acme_directory or self.acme_staging or self.contact_email
        ):
            yield Contradiction(
                ("source",),
                "has acmeDirectory, acmeStaging or contactEmail, but source is provided; they would be ignored. "
                "Set source to lets-encrypt, or remove them",
            )

    @field_validator("private_key")
    @classmethod
    def _is_a_private_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----", value.get_secret_value()):
            message = (
                "is not a private key in PEM format; nginx would not start. "
                "Paste the text, including its -----BEGIN line"
            )
            raise ValueError(message)
        return value
