"""A create whose answer was lost: what it has left is found at once, and deleted.

The API may have done the work before the connection broke. The provider then reports an error, or repeats the request;
a second one is refused for the same name, or makes a second droplet, or a second key, which no state has. So what the
account has under a name is listed before a create and after it. What appeared in between, and is not what the provider
reports, was made by the lost request: nothing can be in it, and no one has its secret.

After an error the create is then repeated. An engine that is killed runs none of this; see `tools/repair.py`.

While a hook runs after a create, the engine (3.259) holds the lock of the new resource, cannot save its state, and lets
everything else wait: whatever needs time runs before a create.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import pulumi

from components import api
from components.component import ancestry
from components.cost import IDLE_ADDRESS
from components.leftovers import PLACES, import_command

Entry = Mapping[str, Any]
Inputs = Mapping[str, Any]

#: Seconds that what happens to a thing may take.
_PATIENCE: Final = 300
_POLL: Final = 2
#: Until all of the API knows a cluster that is online.
_CLUSTER_SPREADS_SECONDS: Final = 10
#: Seconds that a cluster with many nodes may take to go.
_END_OF_A_CLUSTER: Final = 900
#: Seconds that another release may take to be on all nodes of a cluster.
_END_OF_AN_UPGRADE: Final = 3600
#: Answers that may get lost in a row.
_TRIES: Final = 3


def _named(entry: Entry, inputs: Inputs) -> bool:
    return bool(entry["name"] == inputs.get("name"))


def _deletable(entry: Entry, inputs: Inputs) -> bool:
    # The first network of a region becomes its default. The next update finds that by itself.
    return _named(entry, inputs) and not entry["default"]


def _in_region(entry: Entry, inputs: Inputs) -> bool:
    return _named(entry, inputs) and entry["region"]["slug"] == inputs.get("region")


def _same_key(entry: Entry, inputs: Inputs) -> bool:
    return str(entry["public_key"]).strip() == str(inputs.get("publicKey")).strip()


def _described(entry: Entry, inputs: Inputs) -> bool:
    return bool(entry["description"] == inputs.get("description"))


def _same_record(entry: Entry, inputs: Inputs) -> bool:
    # The API leaves out the final dot of a name.
    found = (entry["type"], entry["name"], str(entry["data"]).rstrip("."))
    return found == (inputs.get("type"), inputs.get("name"), str(inputs.get("value")).rstrip("."))


@dataclass(frozen=True)
class Kind:
    """How the API lists things of one kind, and which of them a create with certain inputs could have made."""

    noun: str
    path: str
    root: str
    matches: Callable[[Entry, Inputs], bool] = _named
    identifier: str = "id"

    def list_path(self, inputs: Inputs) -> str:
        """Where the API lists them."""
        return self.path.format(
            domain=quote(str(inputs.get("domain")), safe=""),
            check=inputs.get("checkId"),
            cluster=inputs.get("clusterId"),
        )

    def list(self, inputs: Inputs) -> set[str]:
        """The identifiers of those that match."""
        found = api.every(self.list_path(inputs), self.root, api.request)
        return {str(one[self.identifier]) for one in found if self.matches(one, inputs)}


DROPLET: Final = Kind("droplet", "/v2/droplets", "droplets")
VOLUME: Final = Kind("volume", "/v2/volumes", "volumes", _in_region)
CLUSTER: Final = Kind("cluster", "/v2/kubernetes/clusters", "kubernetes_clusters")
NODE_POOL: Final = Kind("node pool", "/v2/kubernetes/clusters/{cluster}/node_pools", "node_pools")
DATABASE_CLUSTER: Final = Kind("database cluster", "/v2/databases", "databases")
DATABASE: Final = Kind("database", "/v2/databases/{cluster}/dbs", "dbs", identifier="name")
DATABASE_USER: Final = Kind("database user", "/v2/databases/{cluster}/users", "users", identifier="name")
VPC: Final = Kind("network", "/v2/vpcs", "vpcs", _deletable)
FIREWALL: Final = Kind("firewall", "/v2/firewalls", "firewalls")
SSH_KEY: Final = Kind("SSH key", "/v2/account/keys", "ssh_keys", _same_key)
SPACES_KEY: Final = Kind("Spaces key", "/v2/spaces/keys", "keys", identifier="access_key")
DOMAIN: Final = Kind("zone", "/v2/domains", "domains", identifier="name")
UPTIME_CHECK: Final = Kind("uptime check", "/v2/uptime/checks", "checks")
UPTIME_ALERT: Final = Kind("uptime alert", "/v2/uptime/checks/{check}/alerts", "alerts")
ALERT_POLICY: Final = Kind("alert policy", "/v2/monitoring/alerts", "policies", _described, "uuid")
DNS_RECORD: Final = Kind("record", "/v2/domains/{domain}/records", "domain_records", _same_record)


@dataclass
class _Create:
    """One create: what was there before it, or None if that is not known."""

    kind: Kind
    before: set[str] | None = None

    def note(self, inputs: Inputs) -> None:
        """List what is there before the create."""
        try:
            self.before = self.kind.list(inputs)
        except RuntimeError as error:
            # Whatever keeps the API from answering is the provider's to report. In what it does not know is nothing.
            is_unknown = isinstance(error, api.RefusedError) and error.status == HTTPStatus.NOT_FOUND
            self.before = set() if is_unknown else None

    def delete_others(self, inputs: Inputs, own: str | None, errors: str = "") -> bool:
        """Delete what appeared since, except `own` and what the provider's message names: it has recorded that."""
        if self.before is None:
            return False
        appeared = self.kind.list(inputs) - self.before - {own}
        lost = [one for one in sorted(appeared) if self.kind is DOMAIN or not _mentions(errors, one)]
        name = inputs.get("name") or inputs.get("description")
        for identifier in lost:
            api.delete(f"{self.kind.list_path(inputs)}/{identifier}")
            pulumi.log.warn(
                f"{self.kind.noun} {name} (ID {identifier}) was created by a request whose answer was "
                "lost, and nothing refers to it: it was deleted"
            )
        return bool(lost)


def once(kind: Kind, name: str, **further: Sequence[Any]) -> pulumi.ResourceHookBinding:
    """Return the hooks of a resource with the logical `name`, beside `further` ones."""
    create = _Create(kind)

    async def before(args: pulumi.ResourceHookArgs) -> None:
        await asyncio.to_thread(create.note, args.new_inputs or {})

    async def after(args: pulumi.ResourceHookArgs) -> None:
        await asyncio.to_thread(create.delete_others, args.new_inputs or {}, args.id)

    async def failed(args: pulumi.ErrorHookArgs) -> bool:
        if not may_be_repeated(args):
            return False
        return await asyncio.to_thread(_tried, create.delete_others, args.new_inputs or {}, None, args.errors[0])

    return _binding(name, before=before, after=after, failed=failed, **further)


def once_in_cluster(name: str, kind: Kind | None = None) -> pulumi.ResourceHookBinding:
    """Return the hooks of something in a database cluster.

    DigitalOcean says that a cluster is online, and a moment later that there is no such cluster: its provider does not
    repeat what it has asked for. What is in a cluster has a name of its own, so one that a lost request has created
    would be in the way, and nothing is in it.
    """
    create = _Create(kind) if kind else None

    async def before(args: pulumi.ResourceHookArgs) -> None:
        if create:
            await asyncio.to_thread(create.note, args.new_inputs or {})

    async def failed(args: pulumi.ErrorHookArgs) -> bool:
        if not may_be_repeated(args):
            return False
        if "404" in args.errors[0]:
            await asyncio.sleep(_CLUSTER_SPREADS_SECONDS)
            return True
        return create is not None and await asyncio.to_thread(_tried, create.delete_others, args.new_inputs or {}, None)

    return _binding(name, before=before if kind else None, failed=failed)


def once_for_a_cluster(name: str) -> pulumi.ResourceHookBinding:
    """Return the hooks of a cluster of Kubernetes.

    The provider does not wait for the end of one, which keeps its name until then, nor for the end of an upgrade, while
    nobody can reach what is inside.
    """

    async def before(args: pulumi.ResourceHookArgs) -> None:
        await asyncio.to_thread(wait_for_the_name, args.new_inputs or {})

    async def updated(args: pulumi.ResourceHookArgs) -> None:
        await asyncio.to_thread(wait_for_the_upgrade, args.id, args.new_inputs or {})

    return once(
        CLUSTER,
        name,
        before_create=[pulumi.ResourceHook(f"{name}-name-is-free", before)],
        after_update=[pulumi.ResourceHook(f"{name}-is-upgraded", updated)],
    )


def is_leaving(cluster: Entry) -> bool:
    """Whether DigitalOcean is deleting a cluster."""
    return (cluster.get("status") or {}).get("state") in {"deleting", "deleted"}


def wait_for_the_name(inputs: Inputs) -> None:
    """Wait until no cluster of that name is being deleted."""
    deadline = time.monotonic() + _END_OF_A_CLUSTER
    while any(
        _named(one, inputs) and is_leaving(one)
        for one in api.every(CLUSTER.list_path(inputs), CLUSTER.root, api.request)
    ):
        if time.monotonic() > deadline:
            # DigitalOcean's own refusal says what is wrong.
            return
        time.sleep(_POLL)


def wait_for_the_upgrade(cluster_id: str, inputs: Inputs) -> None:
    """Wait until a cluster runs in the minor release that it is to have."""
    deadline = time.monotonic() + _END_OF_AN_UPGRADE
    major, minor, *_ = str(inputs["version"]).split(".")
    while time.monotonic() < deadline:
        found = api.request(f"{CLUSTER.path}/{cluster_id}")["kubernetes_cluster"]
        if found["status"]["state"] == "running" and str(found["version"]).startswith(f"{major}.{minor}."):
            return
        time.sleep(_POLL)
    # Whatever follows says what is wrong.


def once_assigned(name: str) -> pulumi.ResourceHookBinding:
    """Return the hooks of a reserved address's assignment: the API refuses to assign it a second time."""

    async def failed(args: pulumi.ErrorHookArgs) -> bool:
        return may_be_repeated(args) and await asyncio.to_thread(_tried, _unassign, args.new_inputs or {})

    return _binding(name, failed=failed)


def once_in_spaces(name: str, parent: str) -> pulumi.ResourceHookBinding:
    """Return the hooks of a bucket of the component `parent`.

    The API token lists none; that one of its random name exists is proof enough.
    """

    async def failed(args: pulumi.ErrorHookArgs) -> bool:
        if args.failed_operation == "create" and "BucketAlready" in args.errors[0]:
            inputs = args.new_inputs or {}
            pulumi.log.warn(
                f"The bucket {inputs['name']} exists: the answer to its creation was lost. Take it over, "
                f"and run the update again:\n{_import_of_bucket(args.urn, parent, inputs)}\n"
            )
        return False

    return _binding(name, failed=failed)


def _import_of_bucket(urn: str, parent: str, inputs: Inputs) -> str:
    """The command that imports it, with the provider that has a key for it."""
    types, name = urn.split("::")[2:4]
    component, own = types.removeprefix(ancestry()).split("$")
    return import_command(
        (pulumi.get_stack(), pulumi.get_project()),
        own,
        name,
        f"{inputs['region']},{inputs['name']}",
        (component, parent),
        provider=f"{component}$pulumi:providers:digitalocean::{parent}-maker",
    )


def once_attached(name: str) -> pulumi.ResourceHookBinding:
    """Return the hooks of a volume's attachment, which the provider does not repeat where it is there already."""

    async def failed(args: pulumi.ErrorHookArgs) -> bool:
        return may_be_repeated(args) and await asyncio.to_thread(_tried, _is_attached, args.new_inputs or {})

    return _binding(name, failed=failed)


def once_reserved(name: str) -> pulumi.ResourceHookBinding:
    """Return the hooks of a reserved address. It has no name, so one that appeared meanwhile is only reported."""
    create = _Create(Kind("reserved address", "/v2/reserved_ips", "reserved_ips", _idle, "ip"))

    def report(inputs: Inputs, own: str | None) -> bool:
        appeared = set() if create.before is None else create.kind.list(inputs) - create.before - {own}
        for address in sorted(appeared):
            pulumi.log.warn(
                f"The reserved address {address} appeared while the stack reserved one, and points to nothing: it was "
                f"probably made by a request whose answer was lost. It costs {IDLE_ADDRESS:.2f} US dollars per month. "
                + _advice(address, has_own=own is not None)
            )
        return False

    async def before(args: pulumi.ResourceHookArgs) -> None:
        await asyncio.to_thread(create.note, args.new_inputs or {})

    async def after(args: pulumi.ResourceHookArgs) -> None:
        await asyncio.to_thread(report, args.new_inputs or {}, args.id)

    async def failed(args: pulumi.ErrorHookArgs) -> bool:
        return await asyncio.to_thread(_tried, report, args.new_inputs or {}, None)

    return _binding(name, before=before, after=after, failed=failed)


def _advice(address: str, *, has_own: bool) -> str:
    if has_own:
        return f"Delete it: doctl compute reserved-ip delete {address}"
    place = PLACES["address"]
    where = (pulumi.get_stack(), pulumi.get_project())
    line = import_command(where, place.type, place.name, address, (place.parent_type, place.parent))
    return f"Take it over before the next update, which would reserve another one:\n{line}\n"


def _idle(entry: Entry, inputs: Inputs) -> bool:
    return entry["droplet"] is None and entry["region"]["slug"] == inputs.get("region")


def _binding(
    name: str,
    *,
    before: Callable[[pulumi.ResourceHookArgs], Any] | None = None,
    after: Callable[[pulumi.ResourceHookArgs], Any] | None = None,
    failed: Callable[[pulumi.ErrorHookArgs], Any],
    **further: Sequence[Any],
) -> pulumi.ResourceHookBinding:
    before_create = [
        *further.pop("before_create", ()),
        *([pulumi.ResourceHook(f"{name}-before-create", before)] if before else []),
    ]
    return pulumi.ResourceHookBinding(
        before_create=before_create or None,
        after_create=[pulumi.ResourceHook(f"{name}-after-create", after)] if after else None,
        on_error=[pulumi.ErrorHook(f"{name}-on-error", failed)],
        **{key: list(hooks) for key, hooks in further.items()},
    )


def may_be_repeated(args: pulumi.ErrorHookArgs) -> bool:
    """Whether a create has failed, not too often, and not because somebody has stopped the engine."""
    return args.failed_operation == "create" and len(args.errors) < _TRIES and "cancel" not in args.errors[0].lower()


def _mentions(message: str, identifier: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(identifier)}(?![\w-])", message) is not None


def _tried(work: Callable[..., bool], *values: Any) -> bool:
    """What `work` returns. Its error must not hide that of the create."""
    try:
        return work(*values)
    except RuntimeError as error:
        pulumi.log.warn(f"what a request whose answer was lost has left could not be put right: {error}")
        return False


def _unassign(inputs: Inputs) -> bool:
    """Take the address from the droplet that it is to be assigned to; False if it is not there."""
    address, droplet = inputs["ipAddress"], int(inputs["dropletId"])
    path = f"/v2/reserved_ips/{address}"
    _wait_for_actions(path)
    if (api.request(path)["reserved_ip"].get("droplet") or {}).get("id") != droplet:
        return False
    api.request(f"{path}/actions", {"type": "unassign"})
    _wait_for_actions(path)
    pulumi.log.warn(f"The reserved address {address} points to droplet {droplet} already: assigning it once more")
    return True


def _is_attached(inputs: Inputs) -> bool:
    """Whether a volume is on the droplet that it is to be attached to: then the provider has nothing to ask for."""
    path = f"/v2/volumes/{inputs['volumeId']}"
    _wait_for_actions(path)
    return int(inputs["dropletId"]) in (api.request(path)["volume"].get("droplet_ids") or [])


def _wait_for_actions(path: str) -> None:
    """Wait until nothing happens to a thing any more.

    Raises:
        RuntimeError: the API refuses, or something goes on after five minutes.
    """
    deadline = time.monotonic() + _PATIENCE
    while any(one["status"] == "in-progress" for one in api.request(f"{path}/actions")["actions"]):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} is still busy after {_PATIENCE} s")
        time.sleep(_POLL)
