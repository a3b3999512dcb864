"""Settle what an interrupted update has left: created in the account, and recorded in no state.

Pulumi records a create before it starts and after it has answered. A kill in between leaves a pending operation, which
no update clears, and perhaps the thing itself; an answer that was lost leaves the thing alone. What can be imported is
taken over. A droplet or a Spaces key is deleted: nothing has run on the one, nobody has the secret of the other, and
the next update creates both again.

Whose a thing is, its name alone does not say. But an update registers its components only after it has seen that every
name is free. So in a state with components, what carries such a name and is younger than the state is its own. It is
still shown first, and nothing is done without a yes.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.prompt import Confirm

from components.api import every
from components.database_engines import ENGINES
from components.leftovers import PLACES, Place, firewall_place
from components.settings import DnsZone, Settings, droplets_of
from tools import processes, recover
from tools.clients import try_run
from tools.progress import ToolError, say
from tools.stack_files import read_settings
from tools.state import StackState
from tools.strays import FOUND, Known, Stray, account, records_of

#: What the clocks of this machine and of the API may differ by.
_CLOCKS: Final = datetime.timedelta(minutes=5)
#: Is in the state only if an update has found all names free.
_NETWORK: Final = "network"
#: What holds nothing that is needed, because the state does not have it: it is created again.
_CREATED_AGAIN: Final = frozenset({"Droplet", "KubernetesCluster", "SpacesKey", "UptimeCheck"})
#: Seconds for a command that reads and writes the state alone.
_LIMIT: Final = 300
#: Host and process that hold a lock, in Pulumi's message (`backend/diy/lock.go`).
_LOCKED: Final = re.compile(r"created by \S+@(\S+) \(pid (\d+)\)")
_SUFFIXES: Final = {
    ("Volume", "-data"): "volume",
    ("SshKey", "-admin"): "ssh-key",
    **{("DatabaseCluster", f"-{engine}"): engine for engine in ENGINES},
    ("Firewall", "-server-base"): "server-base",
    ("Firewall", "-runner"): "runner",
    ("Firewall", "-public"): "public",
}


@dataclass(frozen=True)
class Leftover:
    """One thing, and what happens to it: it is taken over at a `place`, or deleted if it has none."""

    stray: Stray
    place: Place | None

    def line(self) -> str:
        """What it is and what happens to it."""
        one = self.stray
        deed = f"taken over as {self.place.name}" if self.place else "deleted, and created again by the update"
        return f"{one.noun} {one.name} (ID {one.identifier}): {deed}"


def repair(stack: str, *, file: Path | None = None, confirmed: bool) -> int:
    """Show what an interrupted update has left, ask, and settle it; 0 if nothing is left.

    Raises:
        ToolError: the state or the account cannot be read, or something cannot be taken over or deleted.
    """
    drop_empty_attributes()
    state = StackState.of_stack(stack)
    found = list(look(stack, state, file, confirmed=confirmed)) if _has_begun(state) else []
    if found and not _agreed(stack, found, confirmed=confirmed):
        return FOUND
    if state.pending:
        _clear(stack, file, state)
    for one in found:
        if one.place is None:
            recover.remove(one.stray)
    if taken_over := [one for one in found if one.place is not None]:
        _import(stack, file, taken_over)
    if not (found or state.pending):
        say(f"repair: no update of stack {stack} has left anything")
    return 0


def drop_empty_attributes() -> None:
    """Remove what a kill has left of the attributes of files in a folder with states: with it, no command works.

    The library that Pulumi keeps files with (`gocloud.dev/blob/fileblob`) writes them beside each file, not in one go,
    and does without a file that is not there. So nothing is lost, not even for a command that is just writing it.
    """
    scheme, _, folder = os.environ.get("PULUMI_BACKEND_URL", "").partition("://")
    if scheme != "file":
        return
    kept = Path(folder).expanduser() / ".pulumi"
    for file in (one for part in ("stacks", "locks") for one in (kept / part).rglob("*.attrs")):
        if not file.stat().st_size:
            say(f"repair: an update was killed while it wrote {file.with_suffix('').name}, which is whole; going on")
            file.unlink(missing_ok=True)


def _has_begun(state: StackState) -> bool:
    return any(one.name == _NETWORK for one in state.resources)


def look(stack: str, state: StackState, file: Path | None, *, confirmed: bool) -> Iterator[Leftover]:
    """What is in the account, carries a name that the stack gives, and is in no state, in the order of removal.

    An address has no name. If nothing says that its creation was interrupted, it is left out where nobody is asked.

    Raises:
        ToolError: the account or the states cannot be read.
    """
    settings = read_settings(stack, file)
    known, born = Known.read(stack), _born(state)
    known = replace(
        known,
        has_clusters=known.has_clusters or any(runner.is_cluster for runner in settings.runners),
        has_databases=known.has_databases or settings.databases.has_managed,
    )
    try:
        strays = [one for one in account(known) if recover.is_ours(one, known.prefix, settings)]
        strays += list(_names(settings, known))
        for one in strays:
            place = _place(one, known.prefix, settings)
            is_free = place is not None and not any(other.name == place.name for other in state.cloud)
            if _is_older(one, born) or not _is_untouched(one, settings, state):
                continue
            if place is not None and is_free:
                yield Leftover(one, place)
            elif one.noun in _CREATED_AGAIN or (place is not None and one.noun == "DnsRecord"):
                yield Leftover(one, None)
        yield from _address(settings, known, state, confirmed=confirmed)
    except RuntimeError as error:
        raise ToolError(str(error)) from error


def _names(settings: Settings, known: Known) -> Iterator[Stray]:
    """The zone and the records of the stack: they carry no mark but the name that the settings give."""
    if not recover.has_zone(settings.domain):
        return
    if settings.dns.zone is DnsZone.CREATE and not known.has("Domain", settings.domain):
        yield Stray("Domain", settings.domain, settings.domain, {}, None)
    yield from records_of(settings.domain, settings.hostname, known)


def _place(one: Stray, prefix: str, settings: Settings) -> Place | None:
    if one.noun == "Domain":
        return PLACES["domain"]
    if one.noun == "DnsRecord":
        return PLACES["record" if one.values["type"] == "A" else "caa"]
    if one.noun == "Vpc":
        cidr = settings.server.vpc_cidr
        name = "-".join([prefix, settings.region, *([str(cidr).replace("/", "-")] if cidr else [])])
        return PLACES["vpc"] if one.name == name else None
    kinds = {f"registry-{settings.registry.port}", *(name for _, name, _, _ in droplets_of(settings))}
    if one.noun == "Firewall" and (kind := one.name.removeprefix(f"{prefix}-")) in kinds:
        return firewall_place(kind)
    key = _SUFFIXES.get((one.noun, one.name.removeprefix(prefix)))
    return PLACES[key] if key else None


def _born(state: StackState) -> datetime.datetime | None:
    times = [str(one.raw["created"]) for one in state.resources if one.raw.get("created")]
    return min(map(_moment, times), default=None)


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")[:19] + "+00:00")


def _is_older(one: Stray, born: datetime.datetime | None) -> bool:
    """Whether it was there before this stack; `make strays` and `make recover` name it then."""
    created = one.values.get("createdAt")
    return bool(created) and born is not None and _moment(str(created)) < born - _CLOCKS


def _is_untouched(one: Stray, settings: Settings, state: StackState) -> bool:
    """Whether it is as an interrupted create leaves it, as far as that can be seen."""
    if one.noun == "Droplet":
        return not one.values.get("volumeIds")
    if one.noun == "SshKey":
        pairs = [other for other in state.resources if other.noun == "PrivateKey"]
        keys = {str(other.values.get("publicKeyOpenssh")).strip() for other in pairs}
        return str(one.values.get("publicKey")).strip() in keys
    if one.noun == "Domain":
        # Somebody's own zone has other records.
        records = every(f"/v2/domains/{one.name}/records", "domain_records")
        return {(record["type"], record["name"]) for record in records if record["type"] not in {"SOA", "NS"}} <= {
            (kind, settings.hostname) for kind in ("A", "CAA")
        }
    if one.noun == "DnsRecord" and one.values["type"] == "A":
        return one.values["data"] in {other.id for other in state.of("ReservedIp")}
    return True


def _address(settings: Settings, known: Known, state: StackState, *, confirmed: bool) -> Iterator[Leftover]:
    """The reserved address whose creation was interrupted, if no other one could be meant."""
    place = PLACES["address"]
    is_pending = any(str(one["resource"]["urn"]).endswith(f"::{place.name}") for one in state.pending)
    has_server = any(one.name == place.parent for one in state.resources)
    if state.of("ReservedIp") or not has_server or (confirmed and not is_pending):
        return
    idle, _ = recover.addresses_of(settings.region, known)
    if len(idle) == 1:
        yield Leftover(Stray("ReservedIp", idle[0], idle[0], {}, None), place)


def _agreed(stack: str, found: Sequence[Leftover], *, confirmed: bool) -> bool:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"An update of stack {stack} was interrupted, and its state lacks what it had created:")
    for one in found:
        console.print(f"  {one.line()}", markup=False)
    if confirmed or (sys.stdin.isatty() and Confirm.ask("Go on?", default=False)):
        return True
    console.print(f"Nothing was changed. To do it without being asked: make repair STACK={stack} ARGS=--yes")
    return False


def _import(stack: str, file: Path | None, found: Sequence[Leftover]) -> None:
    content = import_file(stack, found)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "import.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        words = ["--file", str(path), "--generate-code=false", "--protect=false", "--yes", "--skip-preview"]
        if processes.run_attached(["pulumi", "import", *_which(stack, file), *words], os.environ) != 0:
            raise ToolError(
                f"what is in the account could not be taken over (see above). Fix the cause, then run "
                f"make repair STACK={stack} again"
            )


def import_file(stack: str, found: Sequence[Leftover]) -> dict[str, Any]:
    """What `pulumi import --file` reads."""
    urn = f"urn:pulumi:{stack.rpartition('/')[2]}::{Known.project_name()}::"
    names = {"provider": f"{urn}pulumi:providers:digitalocean::digitalocean"}
    resources = []
    for one in found:
        place = one.place
        if place is None:
            continue
        entry = {"type": place.type, "name": place.name, "id": one.stray.identifier, "provider": "provider"}
        if place.parent:
            names[place.parent] = f"{urn}{place.parent_type}::{place.parent}"
            entry["parent"] = place.parent
        resources.append(entry)
    return {"nameTable": names, "resources": resources}


def _clear(stack: str, file: Path | None, state: StackState) -> None:
    """Remove the pending operations, and before them the lock of an engine that was killed on this machine.

    Only the stack itself is read again: GitLab and the machines may be out of reach.
    """
    say(f"repair: clearing {len(state.pending)} pending operation(s) of an update that was killed")
    for one in state.pending:
        print(f"  {str(one['resource']['urn']).rpartition('::')[2]}, interrupted while {one['type']}")
    roots = [word for one in state.resources if one.type == "pulumi:pulumi:Stack" for word in ("--target", one.urn)]
    words = ["--clear-pending-creates", "--yes", "--skip-preview", *roots]
    command = ["pulumi", "refresh", "--non-interactive", *_which(stack, file), *words]
    done = try_run(*command, timeout=_LIMIT)
    if (holders := _LOCKED.findall(done.stdout + done.stderr)) and all(_is_dead(*one) for one in holders):
        say("repair: removing the lock of that update, whose process no longer runs")
        try_run("pulumi", "cancel", "--yes", stack, timeout=_LIMIT)
        done = try_run(*command, timeout=_LIMIT)
    if done.returncode != 0:
        raise ToolError(f"the pending operations could not be cleared:\n{(done.stdout + done.stderr).strip()}")


def _is_dead(host: str, process: str) -> bool:
    if host != platform.node():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _which(stack: str, file: Path | None) -> list[str]:
    return ["--stack", stack, *(["--config-file", str(file)] if file else [])]
