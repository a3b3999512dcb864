"""Come back with kept data and no state.

What carries the stack's names in the account and is in no state is either data, which a new state takes over, or it can
be created again, and is deleted: nobody has its secrets any more. Two updates follow. The first one brings GitLab back
on its volume; then GitLab can be asked for the IDs of its projects, and the second one takes those over. The settings
`recover` are passed on in a copy of the stack file, which itself stays as it is.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml
from gitlab.exceptions import GitlabError
from rich.console import Console
from rich.prompt import Confirm

from components.api import every, request
from components.database_engines import wanted_engines
from components.database_plan import database_cluster_name
from components.kubernetes_cache import CACHE
from components.kubernetes_offer import cluster_name
from components.settings import DnsZone, Settings, Storage, droplets_of
from components.settings.gitlab_names import ADMINISTRATOR
from tools import processes
from tools.clients import FAILURES, CheckError, Outputs
from tools.progress import ToolError, say
from tools.restore import keys_from
from tools.stack import stack_file
from tools.stack_files import read_settings
from tools.state import StackState, put_outputs, secret
from tools.strays import Known, Stray, belongs, find, records_of

#: Seconds that a droplet has to shut down.
_SHUTDOWN: Final = 180
_POLL: Final = 2
#: What a new installation cannot have again, because only the state had it.
_DIFFERS: Final = (
    "the server's SSH host key, and the administrator's key: remove the old host key with ssh-keygen -R",
    "the password of root in the output gitlab_admin_password: GitLab's own is still valid; set the new one there",
    "the stack's API token and its Spaces keys",
)


#: The key that encrypts backups.
_ENCRYPTION_KEY: Final = "::backup-encryption-key"


@dataclass(frozen=True)
class Wish:
    """How to recover: the stack `file`, the reserved `address` that the server had, the output `backup` in `keys`.

    With `new_space` the registry's Space is gone, and another one is created; so it is with `new_database`.
    """

    file: Path | None = None
    address: str | None = None
    keys: Path | None = None
    new_space: bool = False
    new_database: bool = False


@dataclass(frozen=True)
class Findings:
    """What is left of a stack: `settings` of the section `recover`, and what is deleted because nothing needs it.

    `addresses` point to nothing, so they may be anybody's. `unreadable` is a Space with backups whose key is not given.
    """

    settings: dict[str, Any]
    kept: tuple[str, ...]
    useless: tuple[Stray, ...]
    addresses: tuple[str, ...] = field(default=())
    unreadable: str | None = None


def recover(stack: str, wish: Wish, *, confirmed: bool) -> int:
    """Ask, take over what is left of a stack, and update it twice; 0 if it is the same installation again.

    Raises:
        ToolError: there is nothing to take over, it was declined, or an update failed; the message says how to go on.
    """
    path = wish.file or stack_file(stack)
    settings = read_settings(stack, wish.file)
    try:
        keys = keys_from(wish.keys) if wish.keys else None
    except CheckError as error:
        raise ToolError(f"recover: {error}") from error
    found = look(stack, settings, wish, keys)
    state = StackState.of_stack(stack)
    _require_loss(stack, settings, found, state)
    _show(found)
    if not (confirmed or Confirm.ask("Go on?", default=False)):
        raise ToolError("nothing was changed")
    for one in found.useless:
        remove(one)
    # An earlier run may have come so far that GitLab has its projects in the state.
    if not _projects_in(state):
        _update(stack, path, {"groups": None, "projects": None, "runners": None, "recover": found.settings or None})
    if keys and settings.backup.enabled:
        _put_key(stack, str(keys["encryption_key"]))
    in_gitlab = _in_gitlab(stack, settings)
    _update(stack, path, {"recover": {key: found for key, found in in_gitlab.items() if found} or None})
    say(f"recover: stack {stack} has its installation again. Check it with: make verify STACK={stack}")
    print("What only the lost state had is new:", *(f"  {line}" for line in _DIFFERS), sep="\n")
    return 0


def _require_loss(stack: str, settings: Settings, found: Findings, state: StackState) -> None:
    if "volume" in found.settings:
        return
    if not state.of("Volume"):
        raise ToolError(
            f"the account has no volume of stack {stack} in {settings.region} that no stack has; there is nothing to "
            "recover. make strays lists what there is; make restore brings back a backup"
        )
    if {project.path for project in settings.projects if not project.imported} <= _projects_in(state):
        raise ToolError(f"the state of stack {stack} has its data; nothing was changed. make up STACK={stack} goes on")


def _projects_in(state: StackState) -> set[str]:
    """The paths of the projects in the state."""
    found = [one for one in state.resources if one.type == "gitlab:index/project:Project"]
    return {one.name.removeprefix("delivery-").removesuffix("-project") for one in found}


def _put_key(stack: str, key: str) -> None:
    """Let the stack encrypt its backups with the key that it had: another one could not even list them."""
    try:
        put_outputs(["--stack", stack], _ENCRYPTION_KEY, {"result": secret(key)})
    except (CheckError, ValueError) as error:
        raise ToolError(f"the key of the backups could not be put into the state: {error}") from error


def look(stack: str, settings: Settings, wish: Wish, keys: Mapping[str, Any] | None = None) -> Findings:
    """What the account has of a stack and no state has.

    Raises:
        ToolError: the account cannot be read, or does not have that address, the registry's Space, or the Space that
            `keys` are for.
    """
    try:
        known = Known.read(stack)
        known = replace(
            known,
            regions=known.regions | {settings.spaces_region, settings.objects_region, settings.backups_region},
            # The stack file may be at another place than those that were read.
            has_databases=known.has_databases or settings.databases.has_managed,
            has_clusters=known.has_clusters or any(runner.is_cluster for runner in settings.runners),
        )
        strays = [one for one in find(known) if is_ours(one, known.prefix, settings)]
        taken: dict[str, Any] = {}
        names = {f"{known.prefix}-data": "volume"}
        for one in strays:
            if key := names.get(one.name) if one.noun == "Volume" else _bucket_key(one, known.prefix, settings):
                taken[key] = _value_of(key, one)
        databases, gone = _databases(known, settings)
        taken |= databases
        data = {"Volume", "SpacesBucket", "Snapshot", "DatabaseCluster"}
        if databases or any(one.noun == "DatabaseCluster" for one in strays):
            # They are in the network, which cannot be deleted before them, and accept what carries the server's tag.
            data |= {"Vpc", "Tag"}
        useless = [one for one in strays if one.noun not in data or _is_cache(one)]
        if settings.dns.zone is DnsZone.CREATE and not known.has("Domain", settings.domain):
            taken |= {"domain": True} if has_zone(settings.domain) else {}
        if taken.get("domain") or settings.dns.zone is DnsZone.EXISTING:
            useless += records_of(settings.domain, settings.hostname, known)
        idle, own = addresses_of(settings.region, known)
    except RuntimeError as error:
        raise ToolError(str(error)) from error
    if wish.address and wish.address not in {*idle, *own}:
        raise ToolError(f"--address {wish.address}: is not a reserved address in {settings.region} that no stack has")
    if chosen := wish.address or next(iter(own), None):
        taken["address"] = chosen
    if "volume" in taken:
        _add_missing(taken, gone, known.prefix, settings, wish)
    unreadable = None if keys else taken.pop("backupBucket", None)
    if keys and taken.get("backupBucket", keys["bucket"]) != keys["bucket"]:
        raise ToolError(f"--keys: is for the Space {keys['bucket']}, and not for {taken['backupBucket']}")
    kept = tuple(f"{key}: {'yes' if value is True else value}" for key, value in taken.items())
    return Findings(taken, kept, tuple(useless), () if chosen else tuple(idle), unreadable)


def _add_missing(taken: dict[str, Any], gone: Sequence[str], prefix: str, settings: Settings, wish: Wish) -> None:
    """Add what is created again although the data volume is there, which somebody has to want.

    Raises:
        ToolError: nobody has said so.
    """
    if settings.registry.storage is Storage.SPACES:
        if "registryBucket" not in taken and not wish.new_space:
            raise ToolError(
                f"there is no Space {prefix}-registry-… in {settings.spaces_region}, where the images of that "
                "GitLab would be; nothing was changed. Look for it in the control panel; if it is gone, add --new-space"
            )
        taken.setdefault("registryBucket", "new")
    if settings.uses_object_storage:
        if "objectBuckets" not in taken and not wish.new_space:
            raise ToolError(
                f"there is no Space {prefix}-artifacts-… in {settings.objects_region}, where the artifacts of "
                "that GitLab would be; nothing was changed. Look for it in the control panel; if it is gone, add "
                "--new-space"
            )
        taken.setdefault("objectBuckets", "new")
    for engine in gone:
        if not wish.new_database:
            raise ToolError(
                f"there is no cluster {database_cluster_name(prefix, engine)}, where GitLab's data beside its "
                "repositories would be; nothing was changed. Look for it in the control panel. If it is gone, add "
                "--new-database, and restore a backup of the stack afterwards"
            )
        taken[engine] = "new"


def is_ours(one: Stray, prefix: str, settings: Settings) -> bool:
    """Whether the program would give it this name. What carries only a tag may have been made by anybody."""
    if one.noun == "Droplet":
        counts = {one.name: one.count for one in settings.runners if not one.is_cluster}
        machines = [f"-{name}-{number}" for name, count in counts.items() for number in range(1, count + 1)]
        machines += [f"-{name}" for _, name, _, _ in droplets_of(settings)]
        return one.name in {prefix, *(prefix + name for name in machines)}
    if one.noun == "KubernetesCluster":
        return one.name in {cluster_name(prefix, runner.name) for runner in settings.runners if runner.is_cluster}
    return belongs(one.name, one.noun, prefix)


def _databases(known: Known, settings: Settings) -> tuple[dict[str, str], list[str]]:
    """The IDs of the managed databases that no stack has, by engine; and the engines that the account does not have."""
    engines = wanted_engines(settings)
    found = {str(one["name"]): str(one["id"]) for one in every("/v2/databases", "databases")} if engines else {}
    own = {engine: found.get(database_cluster_name(known.prefix, engine)) for engine in engines}
    lost = {engine: one for engine, one in own.items() if one and not known.has("DatabaseCluster", one)}
    return lost, [engine for engine, one in own.items() if one is None]


def _is_cache(one: Stray) -> bool:
    """Whether it is a Space that nobody would miss."""
    return one.noun == "SpacesBucket" and one.name.rpartition("-")[0].endswith(f"-{CACHE}")


def _bucket_key(one: Stray, prefix: str, settings: Settings) -> str | None:
    if one.noun != "SpacesBucket" or _is_cache(one):
        return None
    if one.name.startswith(f"{prefix}-registry-"):
        return "registryBucket" if settings.registry.storage is Storage.SPACES else None
    if one.name.startswith(f"{prefix}-backup-"):
        return "backupBucket" if settings.backup.enabled else None
    return "objectBuckets" if settings.uses_object_storage else None


def _value_of(key: str, one: Stray) -> str:
    """What the setting has: the buckets of GitLab's files have the same digits at their end."""
    if key == "objectBuckets":
        return one.name.rpartition("-")[2]
    return one.name if one.noun == "SpacesBucket" else one.identifier


def has_zone(domain: str) -> bool:
    """Whether the account has a zone."""
    return any(one["name"] == domain for one in every("/v2/domains", "domains"))


def addresses_of(region: str, known: Known) -> tuple[list[str], list[str]]:
    """The reserved addresses that no stack has: those that point to nothing, and those of the stack's own droplet."""
    idle, own = [], []
    for one in every("/v2/reserved_ips", "reserved_ips"):
        if one["region"]["slug"] != region or known.has("ReservedIp", one["ip"]):
            continue
        if one["droplet"] is None:
            idle.append(str(one["ip"]))
        elif one["droplet"]["name"] == known.prefix:
            own.append(str(one["ip"]))
    return idle, own


def _show(found: Findings) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print("Taken over:", *(f"  {line}" for line in found.kept), sep="\n", markup=False)
    if found.addresses:
        console.print(
            f"The stack reserves another address. If one of {', '.join(found.addresses)}, which point to nothing, was "
            "its own, answer no, and add --address to the command",
            markup=False,
        )
    if found.unreadable:
        console.print(
            f"The stack has another Space for backups, because those in {found.unreadable} cannot be read without "
            "their key. With a copy of the output backup, answer no, and add --keys FILE to the command",
            markup=False,
        )
    if found.useless:
        console.print("Deleted, because it holds no data and is created again:", markup=False)
        for one in found.useless:
            console.print(f"  {one.noun} {one.name} (ID {one.identifier})", markup=False)


def remove(one: Stray) -> None:
    """Delete it; a droplet is shut down first.

    Raises:
        ToolError: the API refuses.
    """
    try:
        if one.noun == "Droplet":
            _shut_down(one)
        if one.remove is not None:
            one.remove()
    except RuntimeError as error:
        raise ToolError(f"{one.noun} {one.name} could not be deleted: {error}. Run the same command again") from error
    say(f"recover: deleted {one.noun} {one.name}")


def _shut_down(droplet: Stray) -> None:
    """In order, because a database may be running on its volume."""
    path, deadline = f"/v2/droplets/{droplet.identifier}", time.monotonic() + _SHUTDOWN
    if request(path)["droplet"]["status"] == "active":
        request(f"{path}/actions", {"type": "shutdown"})
    while request(path)["droplet"]["status"] == "active":
        if time.monotonic() > deadline:
            raise RuntimeError(f"it has not shut down within {_SHUTDOWN} s; switch it off in the control panel")
        time.sleep(_POLL)


def _update(stack: str, file: Path, changes: Mapping[str, Any]) -> None:
    """Run an update with a copy of the stack file, in which top-level settings are others; None removes one."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    for key, value in changes.items():
        content["config"].pop(f"slipway:{key}", None)
        if value is not None:
            content["config"][f"slipway:{key}"] = value
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        copy.write_text(yaml.safe_dump(content), encoding="utf-8")
        command = ["pulumi", "up", "--stack", stack, "--config-file", str(copy), "--yes", "--skip-preview"]
        if processes.run_attached(command, os.environ) != 0:
            raise ToolError(
                f"the update failed (see above). Nothing is lost: fix the cause, then run make recover STACK={stack} "
                "again, which goes on where it stopped"
            )


def _in_gitlab(stack: str, settings: Settings) -> dict[str, dict[str, str]]:
    """The IDs of the groups and projects of the stack file that GitLab has, by path, as `recover` takes them."""
    try:
        client = Outputs.of_stack(stack).gitlab()
        paths = {one.path_with_namespace.lower(): str(one.id) for one in client.projects.list(get_all=True)}
        groups = {one.full_path.lower(): str(one.id) for one in client.groups.list(get_all=True)}
    except (*FAILURES, GitlabError) as error:
        raise ToolError(
            f"GitLab does not say which projects and groups it has: {error}. Run the same command again"
        ) from error
    full_paths = {
        project.path: f"{project.group or ADMINISTRATOR}/{project.path}".lower()
        for project in settings.projects
        if not project.imported
    }
    return {
        "groups": {one.path: groups[one.key] for one in settings.groups if not one.imported and one.key in groups},
        "projects": {path: paths[where] for path, where in full_paths.items() if where in paths},
    }
