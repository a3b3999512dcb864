"""The certificate of GitLab and of its registry."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator

from components.settings.section import Section
from components.settings.texts import Certificates, EmailAddress, HttpsUrl


class CertificateSource(StrEnum):
    """Where the certificate of GitLab and of its registry comes from."""

    LETS_ENCRYPT = "lets-encrypt"
    PROVIDED = "provided"


class Certificate(Section):
    """TLS of GitLab and of its registry, which share one certificate.

    `acme_directory` replaces Let's Encrypt by another ACME server. `chain`, `private_key` and `ca_certificate` are PEM
    texts; the last one is the root certificate of a private authority, which the server has to trust.
    """

    source: CertificateSource = CertificateSource.LETS_ENCRYPT
    contact_email: EmailAddress | None = None
    acme_directory: HttpsUrl | None = None
    chain: Certificates | None = None
    private_key: SecretStr | None = None
    ca_certificate: Certificates | None = Field(
        default=None,
        # `authority` was its name before, and stack files with it stay valid.
        validation_alias=AliasChoices("caCertificate", "authority"),
    )

    @property
    def issuer(self) -> str | None:
        """The authority that a CAA record admits; none where the certificate may come from anybody."""
        lets_encrypt = self.source is CertificateSource.LETS_ENCRYPT and self.acme_directory is None
        return "letsencrypt.org" if lets_encrypt else None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = self.chain is not None or self.private_key is not None
        if self.source is CertificateSource.LETS_ENCRYPT and given:
            message = (
                "has chain or privateKey, but source is lets-encrypt; they would be ignored. "
                "Set source to provided, or remove them"
            )
            raise ValueError(message)
        if self.source is CertificateSource.PROVIDED and not (self.chain and self.private_key):
            message = (
                "has source provided without both chain and privateKey; nginx would not start. "
                "Set certificate.chain, and certificate.privateKey with --secret"
            )
            raise ValueError(message)
        if self.source is CertificateSource.PROVIDED and (self.acme_directory or self.contact_email):
            message = (
                "has acmeDirectory or contactEmail, but source is provided; they would be ignored. "
                "Set source to lets-encrypt, or remove them"
            )
            raise ValueError(message)
        return self

    @field_validator("private_key")
    @classmethod
    def _is_a_private_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----", value.get_secret_value()):
            message = "is no private key in PEM form; nginx would not start. Paste the text from -----BEGIN on"
            raise ValueError(message)
        return value
