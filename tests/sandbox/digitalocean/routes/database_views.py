"""The JSON of managed databases."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from tests.sandbox.digitalocean.models import DatabaseCluster, DatabaseRule, DatabaseUser
from tests.sandbox.digitalocean.models import database_catalog as offered
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.projects import project_of

Json = dict[str, Any]


def _shows_credentials(request: Request) -> bool:
    """Whether a token may see passwords: a token with custom scopes needs `database:view_credentials`."""
    account = request.app.state.cloud.account
    token = request.headers.get("authorization", "").partition(" ")[2].strip()
    scopes = account.tokens.get(token, account.scopes)
    return scopes is None or "database:view_credentials" in scopes


def user_json(user: DatabaseUser, request: Request) -> Json:
    """A role; its password only for those who may see it."""
    password = {"password": user.password} if _shows_credentials(request) else {}
    return {"name": user.name, "role": user.role, **password}


def rule_json(cluster: DatabaseCluster, rule: DatabaseRule) -> Json:
    """A trusted source."""
    return {**rule.model_dump(), "cluster_uuid": cluster.id}


def _connection(cluster: DatabaseCluster, request: Request, *, private: bool) -> Json:
    admin, host = cluster.users[0], cluster.host(private=private)
    postgresql = cluster.engine == "pg"
    database = "defaultdb" if postgresql else ""
    user, password = (admin.name, admin.password) if _shows_credentials(request) else ("", "")
    scheme, rest = ("postgresql", "defaultdb?sslmode=require") if postgresql else ("rediss", "")
    at = f"{user}:{password}@" if password else ""
    return {
        "protocol": scheme,
        "uri": f"{scheme}://{at}{host}:{cluster.port}" + (f"/{rest}" if rest else ""),
        "database": database,
        "host": host,
        "port": cluster.port,
        "user": user,
        "password": password,
        "ssl": True,
    }


def cluster_json(cloud: Cloud, cluster: DatabaseCluster, request: Request) -> Json:
    """A cluster. What only exists once it runs is left out before."""
    running = cluster.status != "creating"
    return {
        "id": cluster.id,
        "name": cluster.name,
        "engine": cluster.engine,
        "version": cluster.version,
        "semantic_version": cluster.version,
        "connection": _connection(cluster, request, private=False),
        "private_connection": _connection(cluster, request, private=True),
        "users": [user_json(user, request) for user in cluster.users] if running else None,
        "db_names": cluster.databases if running and cluster.engine == "pg" else None,
        "num_nodes": cluster.num_nodes,
        "region": cluster.region,
        "status": cluster.status,
        "created_at": cluster.created_at,
        "maintenance_window": {**cluster.window.model_dump(), "pending": False, "description": None},
        "size": cluster.size,
        "tags": cluster.tags or None,
        "private_network_uuid": cluster.vpc_uuid,
        "project_id": project_of(cloud, cluster.urn),
        "storage_size_mib": cluster.storage_size_mib,
        "rules": [rule_json(cluster, rule) for rule in cluster.rules],
    }


def options_json() -> Json:
    """What can be created."""
    engines = {
        engine: {
            "regions": list(offered.REGIONS),
            "versions": list(offered.VERSIONS[engine]),
            "layouts": [
                {
                    "num_nodes": nodes,
                    "sizes": [size.slug for size in offered.SIZES.values() if nodes in size.layouts],
                }
                for nodes in (1, 2, 3)
            ],
            "default_version": offered.DEFAULT_VERSIONS[engine],
        }
        for engine in offered.VERSIONS
    }
    availability = {
        engine: [
            {"end_of_life": None, "end_of_availability": None, "version": version}
            for version in offered.VERSIONS[engine]
        ]
        for engine in offered.VERSIONS
    }
    return {"options": engines, "version_availability": availability}
