"""How GitLab sends mail: the server that takes it, the sender, and whether the connection is encrypted."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, field_validator

from components.settings.section import ENVIRONMENT, Contradiction, Section, WholeNumber
from components.settings.shown import shown
from components.settings.strings import Certificates, EmailAddress, matching

#: Blocked on all droplets (DigitalOcean, "Why is SMTP blocked?").
_BLOCKED_PORTS: Final = frozenset({25, 465, 587})
_LONGEST: Final = 512
#: Where servers expect TLS from the first byte (RFC 8314).
_TLS_PORTS: Final = frozenset({465, 2465})

MailHost = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]",
            "is not a host name; its certificate could not be checked, or no mail would leave. "
            "Use one such as smtp.sendgrid.net",
        )
    ),
]
DisplayName = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?!(?i:true|false|yes|no|on|off|null|y|n)$)(?!.*[ .]$)[^\W\d_](?:\w|[ .,'&+/()-]){0,99}",
            "is not the name of a sender; GitLab, which writes it into YAML without quotes, would not start. Use up to "
            "100 letters, digits, spaces, dots, commas, dashes and parentheses, starting with a letter",
        )
    ),
]


#: GitLab writes these into YAML without quotes.
SenderAddress = Annotated[
    EmailAddress,
    AfterValidator(
        matching(
            r"[A-Za-z0-9_].*",
            "does not begin with a letter or a digit; GitLab, which writes it into YAML without quotes, would not "
            "start. Use one such as gitlab@example.com",
        )
    ),
]


class Security(StrEnum):
    """How the connection to the mail server is encrypted."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Authentication(StrEnum):
    """How GitLab signs in: the mechanisms that its library knows."""

    PLAIN = "plain"
    LOGIN = "login"
    CRAM_MD5 = "cram_md5"


class Smtp(Section):
    """The mail server that GitLab sends through."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    address: MailHost = Field(description="The host name of the mail server.", examples=["smtp.sendgrid.net"])
    port: WholeNumber = Field(
        default=2525,
        ge=1,
        le=65535,
        description="The port. DigitalOcean blocks 25, 465 and 587 on droplets; most services also accept 2525.",
    )
    port_unblocked: bool = Field(
        default=False,
        description="Confirms that DigitalOcean has unblocked ports 25, 465 and 587 for your account.",
    )
    security: Security = Field(
        default=Security.STARTTLS,
        description="`starttls` encrypts once the server offers it, `tls` from the start, `none` not at all. The "
        "certificate is always checked. GitLab does not insist on STARTTLS: use `tls` where the server has it.",
    )
    user_name: str | None = Field(
        default=None,
        description="The name that GitLab signs in with; without it GitLab does not sign in.",
        examples=["apikey"],
    )
    password: SecretStr | None = Field(default=None, description="The password for it, often an API key.")
    authentication: Authentication = Field(
        default=Authentication.PLAIN, description="The mechanism that GitLab signs in with."
    )
    helo: MailHost | None = Field(
        default=None,
        description="The name that GitLab introduces itself with.",
        json_schema_extra={"unset": "the host name of GitLab"},
    )
    sender: SenderAddress = Field(
        alias="from",
        description="The address that mail comes from, which the service must accept from you.",
        examples=["gitlab@example.com"],
    )
    display_name: DisplayName = Field(default="GitLab", description="The name beside that address.")
    reply_to: SenderAddress | None = Field(
        default=None, description="The address that answers go to.", json_schema_extra={"unset": "the value of `from`"}
    )
    test_recipient: EmailAddress | None = Field(
        default=None,
        description="The recipient of the test mail that `make verify` sends.",
        examples=["ops@example.com"],
        json_schema_extra={"unset": "the value of `from`"},
    )
    ca_certificate: Certificates | None = Field(
        default=None,
        description="The root certificate of a private certificate authority, as PEM, if it issued the certificate of "
        "the mail server.",
    )

    @field_validator("user_name")
    @classmethod
    def _is_one_line(cls, value: str | None) -> str | None:
        if value is not None and (not value or not value.isprintable() or len(value) > _LONGEST):
            message = (
                f"{shown(value)} is not a name to sign in with; the server would reject it. Copy it again, on one line"
            )
            raise ValueError(message)
        return value

    @field_validator("password")
    @classmethod
    def _is_password(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else None
        if text is not None and (not text or not text.isprintable() or text != text.strip() or len(text) > _LONGEST):
            message = (
                "is empty, too long, or has line breaks, control characters or spaces around it; the server would "
                "reject it. Copy it again, on one line"
            )
            raise ValueError(message)
        return value

    def as_output(self) -> dict[str, str]:
        """The mail server, the sender, and who gets the test mail; for `pulumi.export`."""
        return {
            "server": f"{self.address}:{self.port}",
            "from": self.sender,
            "test_recipient": self.test_recipient or self.sender,
        }

    def contradictions(self) -> Iterator[Contradiction]:
        """A port that DigitalOcean blocks, half a login, and a password in plain text."""
        if self.port in _BLOCKED_PORTS and not self.port_unblocked:
            message = (
                f"{self.port} is blocked by DigitalOcean on all droplets; every mail would time out. Use 2525 or "
                "another port of the service; or, if DigitalOcean has unblocked it, set smtp.portUnblocked to true"
            )
            yield Contradiction(("port", "portUnblocked"), message, "port")
        if self.port_unblocked and self.port not in _BLOCKED_PORTS:
            message = f"is true, but {self.port} is not a port that is blocked; it would have no effect. Remove it"
            yield Contradiction(("port", "portUnblocked"), message, "portUnblocked")
        if self.port in _TLS_PORTS and self.security is not Security.TLS:
            message = (
                f"{self.port} is for TLS from the start; GitLab would wait for a greeting until it gives up. Set "
                "smtp.security to tls, or use the port for STARTTLS, such as 2525"
            )
            yield Contradiction(("port", "security"), message, "port")
        yield from self._login()
        if self.ca_certificate and self.security is Security.NONE:
            message = "is set, but smtp.security is none; it would be ignored. Set security to starttls or tls"
            yield Contradiction(("caCertificate", "security"), message, "caCertificate")

    def _login(self) -> Iterator[Contradiction]:
        keys = ("userName", "password")
        if self.user_name is not None and self.password is None:
            message = (
                "is set without a password; the server would reject GitLab. Set it with: pulumi config set --secret "
                "--path smtp.password …"
            )
            yield Contradiction(keys, message, "userName")
        if self.password is not None and self.user_name is None:
            message = "is set without userName; GitLab would not sign in. Set userName, or remove it"
            yield Contradiction(keys, message, "password")
        if self.password is not None and self.security is Security.NONE:
            message = (
                "is none; the password would be readable on the way to the server. Set it to starttls or tls, or "
                "remove userName and password"
            )
            yield Contradiction((*keys, "security"), message, "security")
