"""/v2/databases/ID/…: users, databases and trusted sources of a cluster."""

from __future__ import annotations

import re
import secrets
import uuid
from ipaddress import ip_network

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import DatabaseCluster, DatabaseRule, DatabaseUser, Droplet, now
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, gap, no_content, page, unsupported
from tests.sandbox.digitalocean.routes.database_views import rule_json, user_json
from tests.sandbox.digitalocean.routes.databases import apply, find_cluster, online
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import NotFound, ServerError, Unprocessable

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
LACKING = frozenset({"app", "k8s"})
SOURCES = ("droplet", "k8s", "ip_addr", "tag", "app")


class Named(Body):
    name: str = ""


class NewRule(Body):
    type: str
    value: str


class NewRules(Body):
    rules: list[NewRule]


def _postgresql(request: Request) -> DatabaseCluster:
    cluster = online(find_cluster(request))
    if cluster.engine != "pg":
        raise Unprocessable("operation is not supported for this cluster type")
    return cluster


def _check_name(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise Unprocessable(f"invalid {what} name")
    return name


def _user(request: Request, cluster: DatabaseCluster) -> DatabaseUser:
    wanted = request.path_params["username"]
    found = next((user for user in cluster.users if user.name == wanted), None)
    if found is None:
        raise NotFound("user not found")
    return found


async def list_users(request: Request) -> Response:
    cluster = online(find_cluster(request))
    return page(request, "users", cluster.users, lambda user: user_json(user, request))


async def add_user(request: Request) -> Response:
    cloud, cluster = cloud_of(request), online(find_cluster(request))
    body = await body_of(request, Named)
    if cluster.engine != "pg":
        raise gap(request, "users of Valkey")
    name = _check_name(body.name, "user")
    if any(user.name == name for user in cluster.users):
        # The words are not documented.
        raise Unprocessable("user already exists")
    user = DatabaseUser(name=name, password=f"AVNS_{secrets.token_urlsafe(14)}")
    cluster.users.append(user)
    cloud.store.put(cluster)
    await apply(cloud, cluster)
    return answer({"user": user_json(user, request)}, 201)


async def show_user(request: Request) -> Response:
    return answer({"user": user_json(_user(request, online(find_cluster(request))), request)})


async def delete_user(request: Request) -> Response:
    cloud, cluster = cloud_of(request), _postgresql(request)
    user = _user(request, cluster)
    if user.role == "primary":
        # The words are not documented.
        raise Unprocessable("primary user cannot be deleted")
    try:
        await apply(cloud, cluster, dropped_users=[user.name])
    except ServerError as error:
        # PostgreSQL keeps a role that owns something; the words are not documented.
        raise Unprocessable("user cannot be deleted while it owns objects in the cluster") from error
    _forget_user(cloud, cluster.id, user.name)
    return no_content()


def _forget_user(cloud: Cloud, cluster_id: str, name: str) -> None:
    if cluster := cloud.store.get(DatabaseCluster, cluster_id):
        cluster.users = [user for user in cluster.users if user.name != name]
        cloud.store.put(cluster)


async def list_databases(request: Request) -> Response:
    return page(request, "dbs", _postgresql(request).databases, lambda name: {"name": name})


async def add_database(request: Request) -> Response:
    cloud, cluster = cloud_of(request), _postgresql(request)
    name = _check_name((await body_of(request, Named)).name, "database")
    if name in cluster.databases:
        # The words are not documented.
        raise Unprocessable("database already exists")
    cluster.databases.append(name)
    cloud.store.put(cluster)
    await apply(cloud, cluster)
    return answer({"db": {"name": name}}, 201)


def _database(request: Request, cluster: DatabaseCluster) -> str:
    name: str = request.path_params["name"]
    if name not in cluster.databases:
        raise NotFound("database not found")
    return name


async def show_database(request: Request) -> Response:
    return answer({"db": {"name": _database(request, _postgresql(request))}})


async def delete_database(request: Request) -> Response:
    cloud, cluster = cloud_of(request), _postgresql(request)
    name = _database(request, cluster)
    await apply(cloud, cluster, dropped_databases=[name])
    if found := cloud.store.get(DatabaseCluster, cluster.id):
        found.databases = [other for other in found.databases if other != name]
        cloud.store.put(found)
    return no_content()


async def list_rules(request: Request) -> Response:
    cluster = find_cluster(request)
    return answer({"rules": [rule_json(cluster, rule) for rule in cluster.rules]})


async def change_rules(request: Request) -> Response:
    """Replace all trusted sources. None at all lets the whole internet try its passwords."""
    cloud, cluster = cloud_of(request), online(find_cluster(request))
    body = await body_of(request, NewRules)
    for rule in body.rules:
        _check_rule(request, rule)
    kept = {(rule.type, rule.value): rule for rule in cluster.rules}
    cluster.rules = [
        kept.get((rule.type, rule.value))
        or DatabaseRule(uuid=str(uuid.uuid4()), type=rule.type, value=rule.value, created_at=now())
        for rule in body.rules
    ]
    cloud.store.put(cluster)
    cloud.network.changed()
    await cloud.network.in_force()
    return no_content()


def _check_rule(request: Request, rule: NewRule) -> None:
    """Refuse a source that is not one. The words of these refusals are not documented."""
    if rule.type not in SOURCES:
        raise Unprocessable("invalid firewall rule type")
    if rule.type in LACKING:
        raise gap(request, f"trusted sources of type {rule.type}")
    if rule.type == "droplet" and cloud_of(request).store.get(Droplet, rule.value) is None:
        raise Unprocessable("invalid droplet ID in firewall rule")
    if rule.type == "ip_addr":
        try:
            ip_network(rule.value, strict=False)
        except ValueError as error:
            raise Unprocessable("invalid IP address in firewall rule") from error


_ONE = "/v2/databases/{cluster_id}"
ROUTES = [
    Route(f"{_ONE}/users", list_users, methods=["GET"]),
    Route(f"{_ONE}/users", add_user, methods=["POST"]),
    Route(f"{_ONE}/users/{{username}}", show_user, methods=["GET"]),
    Route(f"{_ONE}/users/{{username}}", delete_user, methods=["DELETE"]),
    Route(f"{_ONE}/users/{{username}}", unsupported("changes of database users"), methods=["PUT"]),
    Route(f"{_ONE}/users/{{username}}/reset_auth", unsupported("new passwords of database users"), methods=["POST"]),
    Route(f"{_ONE}/dbs", list_databases, methods=["GET"]),
    Route(f"{_ONE}/dbs", add_database, methods=["POST"]),
    Route(f"{_ONE}/dbs/{{name}}", show_database, methods=["GET"]),
    Route(f"{_ONE}/dbs/{{name}}", delete_database, methods=["DELETE"]),
    Route(f"{_ONE}/firewall", list_rules, methods=["GET"]),
    Route(f"{_ONE}/firewall", change_rules, methods=["PUT"]),
]
