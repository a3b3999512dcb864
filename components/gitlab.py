"""GitLab itself, on a prepared machine."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
import pulumi_random as random
from pulumi_command import remote

from components.component import Component
from components.managed_databases import DatabaseServers
from components.object_buckets import FileBuckets
from components.remote import Machine, run_script
from components.rendering import render, script
from components.settings import Certificate, Settings
from components.settings.databases import REGISTRY_CONNECTIONS
from components.settings.gitlab_names import ADMINISTRATOR
from components.versions import GITLAB_REQUIRED_STOPS

#: Where Prometheus listens on the server.
METRICS: Final = "http://127.0.0.1:9090"

#: A new API token is created once per period of this many days and is valid for two. GitLab allows 365 days at most.
TOKEN_PERIOD_DAYS: Final = 90

#: No more than the graph needs: everything inside GitLab, and the registration of runners.
_API_SCOPES: Final = "api create_runner"


def token_period(today: datetime.date) -> tuple[int, datetime.date]:
    """Return the number of the period that `today` is in, and the expiry date of a token created in it.

    Within a period nothing changes. An `up` in the next period replaces the token, while the previous one is still
    valid until the end of that period.
    """
    period = today.toordinal() // TOKEN_PERIOD_DAYS
    return period, datetime.date.fromordinal((period + 2) * TOKEN_PERIOD_DAYS)


@dataclass(frozen=True)
class GitLabArgs:
    """Inputs of `GitLab`: its machine and address, the stack's settings, and the date that renews the API token.

    GitLab is configured once everything in `before` exists, which its configuration reads.
    `files` are the Spaces for its files, if there are any: those that it uses, or those that it used until now. So are
    `databases`, in which `registry_database` is that of the registry's storage.
    """

    machine: Machine
    fqdn: pulumi.Input[str]
    address: pulumi.Input[str]
    settings: Settings
    today: datetime.date
    before: Sequence[pulumi.Resource] = ()
    files: FileBuckets | None = None
    databases: DatabaseServers = field(default_factory=DatabaseServers)
    registry_database: pulumi.Input[str] = ""


class GitLab(Component):
    """GitLab CE: the pinned package, its configuration, and an API token.

    Owns the package, `gitlab.rb`, the password of `root`, one API token, and the settings in GitLab's database that the
    stack file has. Sign-up is turned off as soon as GitLab responds; anything that has to wait for that depends on
    `sign_up_off`. Refuses to own the registry's settings,
    which `gitlab.rb` reads from a file of their own, and anything inside GitLab that its API can declare.
    """

    url: pulumi.Output[str]
    version: pulumi.Output[str]
    admin_password: pulumi.Output[str]
    api_token: pulumi.Output[str]
    api_token_expires: pulumi.Output[str]
    ready: tuple[pulumi.Resource, ...]
    sign_up_off: pulumi.Resource

    def __init__(self, name: str, args: GitLabArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare GitLab; `api_token` is known once GitLab accepts it."""
        super().__init__("GitLab", name, opts)
        self._args = args
        generated = random.RandomPassword(
            self.child_name("admin-password"),
            length=24,
            special=False,
            # GitLab's database has it: another one would be wrong on a volume that is used again.
            opts=self.child_options(keep=args.settings.keep_data),
        )
        password: pulumi.Output[str] = pulumi.Output.secret(generated.result)
        package = self._package()
        configured = self._configure(package, self._prepare_databases(package))
        token, provisioned = self._provision(configured, password)

        self.url = pulumi.Output.concat("https://", args.fqdn)
        # What the machine reports, so that neither a failed upgrade nor an `up` with other targets is recorded as
        # deployed. Steps from before it was reported have printed nothing.
        installed = package.stdout.apply(lambda reported: str(reported).strip() or args.settings.gitlab.version)
        self.version = pulumi.Output.unsecret(installed)
        self.admin_password = password
        # Users of the token wait until GitLab accepts it.
        self.api_token = pulumi.Output.all(token, provisioned.stdout).apply(lambda both: str(both[0]))
        self.api_token_expires = pulumi.Output.unsecret(
            provisioned.stdout.apply(lambda reported: str(reported).strip())
        )
        self.ready = (configured,)
        self.sign_up_off = provisioned
        self.register_outputs({"url": self.url})

    def _package(self) -> remote.Command:
        gitlab = self._args.settings.gitlab
        return run_script(
            self,
            "package",
            machine=self._args.machine,
            file="install-gitlab.sh",
            libraries=["apt.sh", "database.sh", "packages.sh"],
            values={
                "GITLAB_VERSION": gitlab.version,
                "KEY_FINGERPRINT": gitlab.packages.key_fingerprint,
                "KEY_URL": gitlab.packages.key_url,
                "PACKAGES_URL": gitlab.packages.url,
                "REQUIRED_STOPS": " ".join(f"{major}.{minor}" for major, minor in GITLAB_REQUIRED_STOPS),
            },
            # An hour for the migrations of the last upgrade, one for the package, and the rest for a backup before it.
            timeout_seconds=6 * 3600,
        )

    def _prepare_databases(self, package: remote.Command) -> list[pulumi.Resource]:
        """What GitLab needs in managed databases, with the package's own programs; and whether they can be used."""
        args = self._args
        if not args.databases.exist:
            return []
        prepared = run_script(
            self,
            "databases",
            machine=args.machine,
            file="prepare-database.sh",
            libraries=["database.sh"],
            values={
                **args.databases.preparation,
                "REGISTRY_DATABASE": args.registry_database,
            },
            secrets=args.databases.passwords,
            timeout_seconds=900,
            depends_on=[package],
            delete="rm -f /etc/slipway/database.env",
        )
        return [prepared]

    def _configure(self, package: remote.Command, prepared: Sequence[pulumi.Resource]) -> remote.Command:
        args, certificate = self._args, self._args.settings.certificate
        uses_objects, files = args.settings.uses_object_storage, args.files
        return run_script(
            self,
            "configuration",
            machine=args.machine,
            file="configure-gitlab.sh",
            libraries=[
                *("gitlab.sh", "dns.sh", "object-storage.sh", "object-tasks.sh", "database.sh", "move-databases.sh"),
            ],
            values={
                **args.databases.configuration,
                "ADDRESS": args.address,
                "CA_CERTIFICATE": certificate.trusted_roots or "",
                "CERTIFICATE_CHAIN": certificate.chain or "",
                "CERTIFICATE_SOURCE": certificate.directory or str(certificate.source),
                "FQDN": args.fqdn,
                "GITLAB_RB": self._gitlab_rb(),
                "LDAP_CA_CERTIFICATE": (args.settings.sign_in.ldap and args.settings.sign_in.ldap.ca_certificate) or "",
                "OBJECT_BUCKETS": files.listed() if files else "",
                "S3_ENDPOINT": files.endpoint if files else "",
                "S3_REGION": files.region if files else "",
                "SMTP_CA_CERTIFICATE": (args.settings.smtp and args.settings.smtp.ca_certificate) or "",
                "UPLOADS_PROGRAM": script("move-uploads.rb"),
                "USES_OBJECTS": "yes" if uses_objects else "no",
            },
            secrets={
                **args.databases.valkey_password,
                "CERTIFICATE_KEY": _secret(certificate),
                "S3_ACCESS_KEY": files.access_key if files else "",
                "S3_SECRET_KEY": files.secret_key if files else "",
                "SECRETS_JSON": _secrets_json(args.settings, files, args.databases),
            },
            rerun_on={"GitLab version": args.settings.gitlab.version, "attachment of the data": args.machine.data},
            # Files that GitLab takes back to the volume may be many, and so may the tables that move.
            timeout_seconds=12 * 3600 if args.databases.exist or (files and not uses_objects) else 3600,
            depends_on=[package, *prepared, *args.before],
        )

    def _gitlab_rb(self) -> pulumi.Output[str]:
        args, settings = self._args, self._args.settings
        files = args.files if settings.uses_object_storage else None
        known: dict[str, Any] = {"fqdn": args.fqdn, "databases": args.databases.places}
        if files:
            known |= {"buckets": files.names(), "access_key": files.access_key}

        def rendered(values: Mapping[str, Any]) -> str:
            store = (
                ObjectStore(files.region, files.endpoint, values["access_key"], values["buckets"]) if files else None
            )
            return gitlab_rb(values["fqdn"], settings, store, values["databases"])

        return pulumi.Output.all(**known).apply(rendered)

    def _provision(
        self, configured: remote.Command, password: pulumi.Output[str]
    ) -> tuple[pulumi.Output[str], remote.Command]:
        period, expires = token_period(self._args.today)
        digits = random.RandomPassword(
            self.child_name("api-token-digits"),
            length=20,
            special=False,
            keepers={"period": str(period)},
            opts=self.child_options(),
        )
        token: pulumi.Output[str] = pulumi.Output.secret(pulumi.Output.concat("glpat-", digits.result))
        provisioned = run_script(
            self,
            "api-token",
            machine=self._args.machine,
            file="provision-admin.sh",
            libraries=["gitlab.sh"],
            values={
                "ADMIN_USER": ADMINISTRATOR,
                "GITLAB_URL": pulumi.Output.concat("https://", self._args.fqdn),
                "APPLICATION_SETTINGS": json.dumps(self._args.settings.application_settings, sort_keys=True),
                "PROVISION_RB": script("application-settings.rb") + script("provision-admin.rb"),
                "TOKEN_EXPIRES_AT": expires.isoformat(),
                # Those of another machine are from before the stack was destroyed and made again.
                "TOKEN_NAME": pulumi.Output.concat("slipway-", self._args.machine.droplet.id, f"-{period}"),
                "TOKEN_SCOPES": _API_SCOPES,
            },
            secrets={"ADMIN_PASSWORD": password, "API_TOKEN": token},
            timeout_seconds=900,
            depends_on=[configured],
        )
        return token, provisioned


@dataclass(frozen=True)
class ObjectStore:
    """Object storage as `gitlab.rb` has it, without the secret: that is read from a file."""

    region: str
    endpoint: str
    access_key: str
    buckets: Mapping[str, str]


def gitlab_rb(
    fqdn: str,
    settings: Settings,
    objects: ObjectStore | None = None,
    databases: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The text of `gitlab.rb`, without any secret: those are read from a file beside it.

    `databases` are host, port and user of each managed database that GitLab uses, by engine.
    """
    return render(
        "gitlab.rb.j2",
        fqdn=fqdn,
        certificate=settings.certificate,
        memory_gb=settings.server.memory_gb,
        has_backups=settings.backup.enabled,
        has_health_page=settings.alerts.enabled,
        metrics=settings.gitlab.metrics,
        time_zone=settings.time_zone,
        smtp=settings.smtp,
        sign_in=settings.sign_in,
        callbacks=settings.sign_in_callbacks(),
        extra_configuration=settings.gitlab.extra_configuration.rstrip(),
        has_secrets=bool(_secrets(settings)) or objects is not None or bool(databases),
        objects=objects,
        databases=databases or {},
        registry_connections=REGISTRY_CONNECTIONS,
    )


def _secrets(settings: Settings) -> dict[str, str]:
    """What `gitlab.rb` reads as `secrets`, by name."""
    # Names that users choose have no dots.
    found = {name: one.get_secret_value() for name, one in settings.gitlab.extra_secrets.items()}
    if settings.smtp and settings.smtp.password:
        found["smtp.password"] = settings.smtp.password.get_secret_value()
    return found | settings.sign_in.secrets


def _secrets_json(settings: Settings, files: FileBuckets | None, databases: DatabaseServers) -> pulumi.Output[str]:
    """The same as a file, with the key of object storage and the passwords of databases; empty if there is none."""
    further: dict[str, pulumi.Input[str]] = dict(databases.used_passwords)
    if files is not None and settings.uses_object_storage:
        further["objectStorage.secretKey"] = files.secret_key
    found = _secrets(settings)
    if not further:
        return pulumi.Output.secret(_as_json(found) if found else "")
    return pulumi.Output.secret(
        pulumi.Output.all(**further).apply(lambda known: _as_json({**found, **{key: str(known[key]) for key in known}}))
    )


def _as_json(secrets: Mapping[str, str]) -> str:
    return json.dumps(secrets, ensure_ascii=False, sort_keys=True)


def _secret(certificate: Certificate) -> pulumi.Output[str]:
    key = certificate.private_key
    return pulumi.Output.secret(key.get_secret_value() if key else "")
