"""The paths of the API, one module per kind of resource."""

from starlette.routing import Route

from tests.sandbox.digitalocean.routes import (
    account,
    actions,
    catalog,
    database_contents,
    databases,
    domains,
    droplet_actions,
    droplets,
    firewalls,
    kubernetes,
    kubernetes_pools,
    monitoring,
    projects,
    reserved_ips,
    snapshots,
    spaces,
    tags,
    uptime,
    volumes,
    vpcs,
)

ROUTES: list[Route] = [
    *account.ROUTES,
    *actions.ROUTES,
    *catalog.ROUTES,
    *databases.ROUTES,
    *database_contents.ROUTES,
    *domains.ROUTES,
    *droplet_actions.ROUTES,
    *droplets.ROUTES,
    *firewalls.ROUTES,
    *kubernetes.ROUTES,
    *kubernetes_pools.ROUTES,
    *monitoring.ROUTES,
    *projects.ROUTES,
    *reserved_ips.ROUTES,
    *snapshots.ROUTES,
    *spaces.ROUTES,
    *tags.ROUTES,
    *uptime.ROUTES,
    *volumes.ROUTES,
    *vpcs.ROUTES,
]

__all__ = ["ROUTES"]
