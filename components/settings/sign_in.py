"""How people sign in besides GitLab's own passwords (OpenID Connect, LDAP), and whether with a second factor."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, field_validator

from components.settings.directory import Ldap
from components.settings.section import ENVIRONMENT, Contradiction, Section, WholeNumber
from components.settings.strings import matching

#: GitLab's own; how long a second factor may be put off.
_GRACE_HOURS: Final = 48
_LONGEST_GRACE: Final = 24 * 365
#: The provider's own name in GitLab, whose class needs no further mention.
DEFAULT_PROVIDER: Final = "openid_connect"
#: Providers that GitLab has a class of its own for, besides those whose names begin with `ldap`, `saml` or `kerberos`.
_TAKEN: Final = (
    "alicloud|atlassian_oauth2|auth0|azure_activedirectory_v2|azure_oauth2|bitbucket|crowd|github|gitlab|"
    "google_oauth2|jwt|oauth2_generic|salesforce|shibboleth"
)
_CREDENTIAL: Final = matching(
    r"[\x21-\x7e]{1,512}",
    "is empty, too long, or contains spaces or other characters that no provider uses; it would reject every sign-in. "
    "Copy it again",
)


def _issuer(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme == "https" and "." in (parts.hostname or "") and "@" not in parts.netloc
        valid = valid and parts.port != 0 and not parts.query + parts.fragment and not value.endswith(("?", "#"))
    except ValueError:
        valid = False
    if not valid or not value.isascii() or not value.isprintable() or set(value) & set(" '\"\\`$<>{}()*%"):
        message = (
            "is not the issuer of a provider; GitLab could not ask it for its addresses. Copy issuer from the "
            "provider's document /.well-known/openid-configuration, with https:// and its last slash, if it has one"
        )
        raise ValueError(message)
    return value


#: Unlike other URLs, it has to be the same to the last slash (OpenID Connect Discovery 1.0, 4.3).
Issuer = Annotated[str, AfterValidator(_issuer)]
ProviderName = Annotated[
    str,
    AfterValidator(
        matching(
            rf"(?!({_TAKEN})$|ldap|saml|kerberos)[a-z][a-z0-9_]{{0,39}}",
            "is not a name for a provider, or GitLab has another kind of provider of that name; it would not start, or "
            "not with this one. Use at most 40 lowercase letters, digits and underscores, starting with a letter, such "
            "as keycloak",
        )
    ),
]
ProviderLabel = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?=\S)[^\W_](?:[\w .,&+/()'-]){0,59}(?<=\S)",
            "is not a text for a button; nobody would know it. Use up to 60 letters, digits, spaces, dots, commas, "
            "dashes and parentheses",
        )
    ),
]
ClientId = Annotated[str, AfterValidator(_CREDENTIAL)]
#: RFC 6749, 3.3.
OidcScope = Annotated[
    str,
    AfterValidator(
        matching(
            r"[\x21\x23-\x5b\x5d-\x7e]{1,200}",
            "is not a scope; the provider would reject every sign-in. Use one such as email",
        )
    ),
]
Claim = Annotated[
    str,
    AfterValidator(
        matching(
            r"[A-Za-z][A-Za-z0-9_]{0,99}",
            "is not the name of a claim; nobody could be told apart. Use one such as sub or preferred_username",
        )
    ),
]


class NewUsers(StrEnum):
    """What happens when somebody without an account signs in for the first time."""

    APPROVAL = "approval"
    ACTIVE = "active"
    NONE = "none"


class OidcProvider(Section):
    """A provider of OpenID Connect, and what it knows GitLab as."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    name: ProviderName = Field(
        default=DEFAULT_PROVIDER,
        description="Its name in GitLab, and a part of the URL that the provider has to allow: "
        "`https://HOST/users/auth/NAME/callback`. Accounts are linked to this name.",
    )
    label: ProviderLabel = Field(
        default="OpenID Connect", description="The text on its button of the sign-in page.", examples=["Keycloak"]
    )
    issuer: Issuer = Field(
        description="The issuer exactly as the provider states it in `/.well-known/openid-configuration`.",
        examples=["https://login.example.com/realms/staff"],
    )
    client_id: ClientId = Field(description="The ID that the provider has given to GitLab.", examples=["gitlab"])
    client_secret: SecretStr = Field(description="The secret for that ID.")
    scopes: tuple[OidcScope, ...] = Field(
        default=("openid", "profile", "email"),
        description="What GitLab asks for. `openid` is required, and GitLab needs an address of mail.",
    )
    uid_claim: Claim = Field(
        default="sub",
        description="The claim that a person is recognized by. It must never change, or belong to somebody else later.",
    )
    link_by_email: bool = Field(
        default=False,
        description="Whether somebody gets into an existing account that has the same address of mail. Only for a "
        "provider that has checked all addresses: anybody else could take over any account, the administrators' too.",
    )

    @field_validator("client_secret")
    @classmethod
    def _is_complete(cls, value: SecretStr) -> SecretStr:
        _CREDENTIAL(value.get_secret_value())
        return value

    @field_validator("scopes")
    @classmethod
    def _are_enough(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            message = "has no openid; the provider would say nothing about who signs in. Add openid"
            raise ValueError(message)
        if len(set(value)) != len(value):
            message = "has a scope twice; the second would have no effect. Remove it"
            raise ValueError(message)
        return value


class SignIn(Section):
    """How people sign in. The password of the administrator `root` always works."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    oidc: tuple[OidcProvider, ...] = Field(default=(), description="Providers of OpenID Connect.")
    ldap: Ldap | None = Field(default=None, description="A directory whose people sign in with its passwords.")
    new_users: NewUsers = Field(
        default=NewUsers.APPROVAL,
        description="What happens when somebody without an account signs in for the first time: `approval` creates an "
        "account that an administrator has to approve, `active` one that can be used at once, `none` creates none.",
    )
    require_2fa: bool = Field(
        default=False,
        alias="require2fa",
        description="Whether everybody, `root` too, needs a second factor for GitLab's pages. Access tokens, SSH keys "
        "and the stack itself need none.",
    )
    grace_hours: WholeNumber = Field(
        default=_GRACE_HOURS,
        ge=0,
        le=_LONGEST_GRACE,
        description="How long somebody may put off the second factor, from the first time that GitLab asks for it.",
        json_schema_extra={"unit": "hours"},
    )

    @field_validator("oidc")
    @classmethod
    def _have_names_of_their_own(cls, value: tuple[OidcProvider, ...]) -> tuple[OidcProvider, ...]:
        names = [one.name for one in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            message = (
                f"has two providers named {twice[0]}; GitLab would use only one of them. Give each a name of its own"
            )
            raise ValueError(message)
        return value

    def contradictions(self) -> Iterator[Contradiction]:
        """Rules for new users that would have no effect, and a grace period for nothing."""
        if self.new_users is not NewUsers.APPROVAL and not self.oidc and not self.ldap:
            message = "is set without signIn.oidc or signIn.ldap; it would have no effect. Add one, or remove it"
            yield Contradiction(("oidc", "ldap", "newUsers"), message, "newUsers")
        if self.new_users is NewUsers.NONE and self.ldap:
            message = (
                "is none, but GitLab creates an account for everybody who can sign in through signIn.ldap; strangers "
                "would not be kept out. Use approval, and signIn.ldap.userFilter"
            )
            yield Contradiction(("ldap", "newUsers"), message, "newUsers")
        if self.grace_hours != _GRACE_HOURS and not self.require_2fa:
            message = (
                "is set, but signIn.require2fa is not true; nobody would be asked for a second factor. Set require2fa "
                "to true, or remove it"
            )
            yield Contradiction(("require2fa", "graceHours"), message, "graceHours")

    @property
    def secrets(self) -> dict[str, str]:
        """What `gitlab.rb` reads from the file of secrets, by name."""
        found = {f"signIn.{one.name}": one.client_secret.get_secret_value() for one in self.oidc}
        if self.ldap and self.ldap.password:
            # No provider of OpenID Connect may have a name that begins with this.
            found["signIn.ldap"] = self.ldap.password.get_secret_value()
        return found

    @property
    def application_settings(self) -> dict[str, bool | int]:
        """What GitLab keeps of this section in its database, by the names of its API."""
        if not self.require_2fa:
            return {}
        return {"require_two_factor_authentication": True, "two_factor_grace_period": self.grace_hours}
