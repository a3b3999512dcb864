"""What the token of the cloud may do, compared with what the stack needs: at preview, before anything is created."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pulumi

from components.settings import DnsZone, Reading, Storage

_CRUD: Final = ("create", "read", "update", "delete")
#: DigitalOcean's OpenAPI document names the scope of each request under `security`.
_ALWAYS: Final = {
    **dict.fromkeys(("account", "regions", "sizes", "image", "actions"), ("read",)),
    **dict.fromkeys(("droplet", "vpc", "firewall", "reserved_ip", "domain", "ssh_key"), _CRUD),
    "block_storage": ("create", "read", "delete"),
    "block_storage_action": ("create", "read"),
    "tag": ("create", "read", "delete"),
}
_CLUSTERS: Final = {"kubernetes": (*_CRUD, "access_cluster")}
#: Without the last one, the API leaves out passwords.
_DATABASES: Final = {"database": (*_CRUD, "view_credentials")}
_ALERTS: Final = dict.fromkeys(("uptime", "monitoring"), _CRUD)
_SPACES: Final = {"spaces_key": ("create_credentials", "read", "update", "delete")}
#: Beside these, `make strays` offers to delete snapshots.
_OPTIONAL: Final = frozenset({"snapshot:read", "snapshot:delete"})
#: What the first update of a stack needs in any case: others may be left out of a token on purpose, such as those that
#: delete. Assigning an address is an update of it, and what is in a cluster is one of the cluster.
_FIRST_VERBS: Final = ("read", "create", "create_credentials", "view_credentials")
_FIRST: Final = frozenset({"reserved_ip:update", "database:update"})
#: The two scopes of tokens without custom scopes.
_READ, _WRITE = "read", "write"
_TABLE: Final = "docs/settings.md has a table of the scopes that suffice"


def needed(*, spaces: bool, alerts: bool, clusters: bool = False, databases: bool = False) -> frozenset[str]:
    """The scopes that a stack needs to be created, changed and deleted: one with or without Spaces, and so on."""
    kinds = {**_ALWAYS, **(_SPACES if spaces else {}), **(_ALERTS if alerts else {}), **(_CLUSTERS if clusters else {})}
    kinds |= _DATABASES if databases else {}
    return frozenset(f"{kind}:{verb}" for kind, verbs in kinds.items() for verb in verbs)


def scope_errors(granted: frozenset[str] | None, reading: Reading, *, is_new: bool) -> Iterator[str]:
    """What the token lacks for the first update of a stack, which `is_new`; `granted` are its scopes.

    Everything else that it lacks is a warning of the preview, for which reading suffices, and so is a token that may do
    more than a stack needs. Nothing is said if it is not known what the token may do: DigitalOcean answers that outside
    its documented API.
    """
    if not granted:
        return
    if _WRITE in granted:
        _warn_at_preview(
            "has full access: whoever gets hold of it has the whole account, its billing and its other machines. "
            f"Create one with custom scopes; {_TABLE}"
        )
        return
    wanted = needed(
        spaces=_uses_spaces(reading),
        alerts=reading.has("alerts") and reading.settings.alerts.enabled,
        clusters=reading.has("runners") and any(one.is_cluster for one in reading.settings.runners),
        databases=reading.has("databases") and reading.settings.databases.has_managed,
    )
    if "domain:update" in granted and reading.has("dns.zone") and reading.settings.dns.zone is DnsZone.EXISTING:
        # Either scope is enough to create and delete records.
        wanted -= {"domain:create", "domain:delete"}
    lacking = sorted(scope for scope in wanted - granted if not (_READ in granted and scope.endswith(":read")))
    if lacking:
        _warn_at_preview(
            f"lacks {', '.join(lacking)}: it can preview this stack, and an update that needs them would fail half "
            f"way. {_TABLE}"
        )
    if is_new and not pulumi.runtime.is_dry_run():
        first = [scope for scope in lacking if scope in _FIRST or scope.partition(":")[2] in _FIRST_VERBS]
        if first:
            yield (
                f"DIGITALOCEAN_TOKEN: lacks {', '.join(first)}; the update would fail half way. Use a token that has "
                f"them: {_TABLE}"
            )
    known = needed(spaces=True, alerts=True, clusters=True, databases=True) | _OPTIONAL
    excess = sorted(scope for scope in granted - known if not scope.endswith(_READ))
    if excess:
        _warn_at_preview(f"may do what no stack needs ({', '.join(excess)}). Leave these scopes out; {_TABLE}")


def _uses_spaces(reading: Reading) -> bool:
    settings = reading.settings
    return (
        (reading.has("registry.storage") and settings.registry.storage is Storage.SPACES)
        or (reading.has("objectStorage.storage") and settings.uses_object_storage)
        or (reading.has("backup.enabled") and settings.backup.enabled)
        or (reading.has("runners") and any(runner.keeps_caches for runner in settings.runners))
    )


def _warn_at_preview(what: str) -> None:
    # An update shows its preview first, or was asked not to.
    if pulumi.runtime.is_dry_run():
        pulumi.log.warn(f"DIGITALOCEAN_TOKEN: {what}")
