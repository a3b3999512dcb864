"""Sign-in through an LDAP directory, such as OpenLDAP, FreeIPA or Active Directory."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from components.settings.section import ENVIRONMENT, Contradiction, Section, whole_number
from components.settings.strings import Certificates, matching

_PASSWORD: Final = matching(
    r"[^\x00-\x1f\x7f]{1,512}",
    "is empty, too long, or has a line break; the directory would reject GitLab. Copy it again, on one line",
)

Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(whole_number)]
DirectoryHost = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
            "is not the name of a host; GitLab could not reach the directory. Use one such as ldap.example.com, "
            "without ldaps:// and without a port",
        )
    ),
]
#: RFC 4514 loosely: attribute, equals sign, value, and so on.
DistinguishedName = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?=.{3,500}$)[A-Za-z][A-Za-z0-9.-]*=[^\x00-\x1f\x7f]*[^\x00-\x20\x7f,]",
            "is not a distinguished name; the directory would find nobody. Use one such as dc=example,dc=com",
        )
    ),
]
#: Active Directory also takes `gitlab@example.com` and `EXAMPLE\gitlab`.
BindName = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?=.{3,500}$)([A-Za-z][A-Za-z0-9.-]*=|[^\s=@\\]+[@\\])[^\x00-\x1f\x7f]*[^\x00-\x20\x7f,]",
            "is not the name of an account of a directory; it would reject GitLab. Use one such as "
            "cn=gitlab,dc=example,dc=com",
        )
    ),
]
LdapAttribute = Annotated[
    str,
    AfterValidator(
        matching(
            r"[A-Za-z][A-Za-z0-9-]{0,63}",
            "is not the name of an attribute; nobody could be found. Use uid, or sAMAccountName in Active Directory",
        )
    ),
]
LdapLabel = Annotated[
    str,
    AfterValidator(
        matching(
            r"[^\W_](?:[\w .,&+/()'-]){0,59}(?<=\S)",
            "is not a text for a form; nobody would know it. Use up to 60 letters, digits, spaces, dots, commas, "
            "dashes and parentheses",
        )
    ),
]


def _filter(value: str) -> str:
    # GitLab puts the name of whoever signs in into the filter with `%`, which has no other meaning there.
    depth = 0
    for character in value:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
    complete = value[:1] + value[-1:] == "()" and depth == 0 and "=" in value and "()" not in value
    if not complete or not value.isprintable() or "%" in value:
        message = (
            "is not a filter of LDAP; nobody could sign in. Use one such as "
            "(memberOf=cn=developers,ou=groups,dc=example,dc=com), with as many closing parentheses as opening ones"
        )
        raise ValueError(message)
    return value


LdapFilter = Annotated[str, AfterValidator(_filter)]


class Encryption(StrEnum):
    """How the connection to the directory is encrypted, in GitLab's words."""

    SIMPLE_TLS = "simple_tls"
    START_TLS = "start_tls"
    PLAIN = "plain"


#: Where directories listen, by encryption; and where they expect another one, Active Directory's global catalog too.
_PORTS: Final = {Encryption.SIMPLE_TLS: 636, Encryption.START_TLS: 389, Encryption.PLAIN: 389}
_PORTS_OF_OTHERS: Final = {
    Encryption.SIMPLE_TLS: (389, 3268),
    Encryption.START_TLS: (636, 3269),
    Encryption.PLAIN: (636, 3269),
}


class Ldap(Section):
    """A directory whose people may sign in, and how GitLab asks it."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    host: DirectoryHost = Field(
        description="The host name of the directory. Its certificate has to be for this name.",
        examples=["ldap.example.com"],
    )
    port: Port | None = Field(
        default=None,
        description="The port.",
        json_schema_extra={"unset": "636 with `simple_tls`, 389 otherwise"},
    )
    encryption: Encryption = Field(
        default=Encryption.SIMPLE_TLS,
        description="`simple_tls` encrypts from the start, `start_tls` before anything is asked. `plain` encrypts "
        "nothing: everybody's password crosses the network readable.",
    )
    ca_certificate: Certificates | None = Field(
        default=None,
        description="The root certificate of a private certificate authority, as PEM, if it issued the directory's "
        "certificate and is not the one of `certificate.caCertificate`.",
    )
    bind_dn: BindName | None = Field(
        default=None,
        description="The account that GitLab searches the directory with. Reading is enough.",
        examples=["cn=gitlab,ou=services,dc=example,dc=com"],
        json_schema_extra={"unset": "an anonymous search"},
    )
    password: SecretStr | None = Field(default=None, description="The password of that account.")
    base: DistinguishedName = Field(
        description="Where in the directory people are searched.", examples=["ou=people,dc=example,dc=com"]
    )
    user_filter: LdapFilter | None = Field(
        default=None,
        description="Which of them may sign in. Whoever does not match is refused as if the password were wrong.",
        examples=["(memberOf=cn=developers,ou=groups,dc=example,dc=com)"],
        json_schema_extra={"unset": "everybody below `base`"},
    )
    uid: LdapAttribute = Field(
        default="uid",
        description="The attribute with the name that people sign in with; `sAMAccountName` in Active Directory.",
    )
    active_directory: bool = Field(
        default=False,
        description="Whether it is Active Directory: GitLab then also refuses accounts that are disabled there.",
    )
    label: LdapLabel = Field(default="LDAP", description="The title of its form on the sign-in page.")

    @field_validator("password")
    @classmethod
    def _is_complete(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _PASSWORD(value.get_secret_value())
        return value

    @property
    def directory_port(self) -> int:
        """The port: that of the encryption, unless another one is set."""
        return self.port or _PORTS[self.encryption]

    def contradictions(self) -> Iterator[Contradiction]:
        """An account without its password or the other way round; and ports and certificates of no use."""
        keys = ("bindDn", "password")
        if self.bind_dn is not None and self.password is None:
            message = (
                "is set without a password; the directory would reject GitLab. Set it with: pulumi config set "
                "--secret --path signIn.ldap.password …"
            )
            yield Contradiction(keys, message, "bindDn")
        if self.password is not None and self.bind_dn is None:
            message = "is set without bindDn; GitLab would not use it. Set bindDn, or remove it"
            yield Contradiction(keys, message, "password")
        if self.port in _PORTS_OF_OTHERS[self.encryption]:
            message = (
                f"is {self.port}, where directories do not speak {self.encryption}; GitLab would wait for an answer in "
                "vain. Use 636 for simple_tls and 389 for start_tls, or remove it"
            )
            yield Contradiction(("port", "encryption"), message, "port")
        if self.ca_certificate and self.encryption is Encryption.PLAIN:
            message = "is set, but encryption is plain; it would be ignored. Set encryption to simple_tls or start_tls"
            yield Contradiction(("caCertificate", "encryption"), message, "caCertificate")
