"""What a stack costs per month, known before it is created."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from components.database_plan import ClusterPlan
from components.settings import RunnerSettings, Settings, droplets_of

#: US dollars, by hand: the API has prices for sizes of droplets only. DigitalOcean's price list has the last word.
_VOLUME_GIB: Final = 0.10
#: A reserved address that points to no droplet; one that does is free.
IDLE_ADDRESS: Final = 5.00
#: Snapshots of droplets and volumes, per GiB.
_SNAPSHOT_GIB: Final = 0.06
#: One subscription for all Spaces of the account; 250 GiB of storage and 1 TiB of outbound transfer are included.
_SPACES_SUBSCRIPTION: Final = 5.00
#: One check of a target, from any number of regions. Its alerts, and alerts on metrics, are free.
_UPTIME_CHECK: Final = 1.00
#: The control plane of a cluster with high availability; without, it is free.
REPLICATED_CONTROL_PLANE: Final = 40.00
#: Nodes of managed databases by size, the same for both engines. Storage beyond what a size includes has a price
#: that is not known here.
_DATABASE_NODES: Final = {
    "db-s-1vcpu-1gb": 15.15,
    "db-s-1vcpu-2gb": 30.45,
    "db-s-2vcpu-4gb": 60.90,
    "db-s-4vcpu-8gb": 122.10,
    "db-s-6vcpu-16gb": 244.15,
}
#: The storage of sizes of PostgreSQL, in GiB: what they include, and the most that they can have.
STORAGE_GIB: Final = {
    "db-s-1vcpu-1gb": (10, 30),
    "db-s-1vcpu-2gb": (30, 60),
    "db-s-2vcpu-4gb": (60, 120),
    "db-s-4vcpu-8gb": (140, 280),
    "db-s-6vcpu-16gb": (290, 580),
}
#: The checks of a stack with alerts: the sign-in page, the registry, and what the server checks by itself.
_CHECKS: Final = 3


def monthly_cost(
    settings: Settings,
    prices: Mapping[str, float],
    *,
    has_bucket: bool,
    databases: Mapping[str, ClusterPlan] | None = None,
) -> dict[str, float]:
    """Return the price of everything in the stack, in US dollars per month by item.

    `prices` are those of droplet sizes, by slug. What has no price of its own is left out: the private network,
    firewalls, DNS, and the reserved address while it points to a droplet. So is traffic beyond what is included.
    `databases` are the clusters of managed databases, by engine.
    """
    server = settings.server
    items = {f"server, {server.size}": prices.get(server.size, 0.0)}
    for runner in settings.runners:
        if runner.is_cluster:
            items |= _cluster(runner, prices)
            continue
        items[f"runner {runner.name}, {runner.count} x {runner.size}"] = runner.count * prices.get(runner.size, 0.0)
    for _, name, _, droplet in droplets_of(settings):
        items[f"{name.replace('-', ' ', 1)}, {droplet.size}"] = prices.get(droplet.size, 0.0)
    items[f"data volume, {server.volume_size_gb} GiB"] = server.volume_size_gb * _VOLUME_GIB
    for engine, plan in (databases or {}).items():
        items |= _database(engine, plan)
    if has_bucket:
        items["Spaces subscription, shared by all Spaces of the account"] = _SPACES_SUBSCRIPTION
    if settings.alerts.enabled:
        items[f"uptime checks, {_CHECKS} x {_UPTIME_CHECK:.2f}"] = _CHECKS * _UPTIME_CHECK
    return {item: round(price, 2) for item, price in items.items()}


def _cluster(runner: RunnerSettings, prices: Mapping[str, float]) -> dict[str, float]:
    """What of a cluster is always there. Its control plane is free, unless it is replicated."""
    own, nodes = runner.cluster, runner.cluster.min_nodes
    items = {f"runner {runner.name}, manager, {own.manager_size}": prices.get(own.manager_size, 0.0)}
    each = prices.get(runner.size, 0.0)
    most = f"at most {own.max_nodes}, each {each:.2f} while it is there"
    items[f"runner {runner.name}, {nodes} x {runner.size} ({most})"] = nodes * each
    if own.high_availability:
        items[f"runner {runner.name}, control plane with high availability"] = REPLICATED_CONTROL_PLANE
    return items


def _database(engine: str, plan: ClusterPlan) -> dict[str, float]:
    each, notes = _DATABASE_NODES.get(plan.size), []
    if each is None:
        notes.append("no price known, see DigitalOcean's list")
    if not plan.uses:
        notes.append("not used any more")
    note = f" ({'; '.join(notes)})" if notes else ""
    items = {f"managed {engine}, {plan.nodes} x {plan.size}{note}": plan.nodes * (each or 0.0)}
    gigabytes = int(plan.storage_mib or 0) // 1024 - STORAGE_GIB.get(plan.size, (0, 0))[0]
    if plan.storage_mib and gigabytes > 0:
        items[f"managed {engine}, {gigabytes} GiB of further storage (see DigitalOcean's price list)"] = 0.0
    return items


def price_of(noun: str, values: Mapping[str, Any]) -> float:
    """Return the price of one resource in US dollars per month, by its kind and its properties as Pulumi names them.

    A reserved address is free while it points to a droplet, which this function cannot see: `values` say it with
    `dropletId`.
    """
    size = float(values.get("size") or 0) if noun in {"Volume", "Snapshot"} else 0.0
    prices = {
        "Droplet": float(values.get("priceMonthly") or 0),
        "KubernetesCluster": float(values.get("priceMonthly") or 0),
        "Volume": size * _VOLUME_GIB,
        "Snapshot": size * _SNAPSHOT_GIB,
        "DatabaseCluster": int(values.get("nodeCount") or 0) * _DATABASE_NODES.get(str(values.get("size")), 0.0),
        "ReservedIp": 0.0 if values.get("dropletId") else IDLE_ADDRESS,
        "SpacesBucket": _SPACES_SUBSCRIPTION,
        "UptimeCheck": _UPTIME_CHECK,
    }
    return round(prices.get(noun, 0.0), 2)


def as_output(items: Mapping[str, float]) -> dict[str, Any]:
    """Return the items for `pulumi.export`, with their total."""
    return {"currency": "USD", "items": dict(items), "total": round(sum(items.values()), 2)}


def cost_report(items: Mapping[str, float], deployed: Mapping[str, float]) -> str:
    """Return the items as a text for people, with the difference to what is `deployed`."""
    return "\n".join(_lines(items, deployed))


def _lines(items: Mapping[str, float], deployed: Mapping[str, float]) -> Iterator[str]:
    total, before = sum(items.values()), sum(deployed.values())
    yield "Cost per month in US dollars, without tax and extra traffic:"
    for item, price in items.items():
        yield f"  {price:9.2f}  {item}"
    for item in deployed.keys() - items.keys():
        yield f"  {-deployed[item]:9.2f}  {item}, no longer needed"
    change = f"{total - before:+.2f} compared with the deployed {before:.2f}"
    if round(total - before, 2) == 0:
        change = "as deployed"
    elif not deployed:
        change = "nothing is deployed yet"
    yield f"  {total:9.2f}  in total ({change})"
