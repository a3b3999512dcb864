"""Which scope of a token each request needs, as the public OpenAPI document of the API says under `security`."""

from __future__ import annotations

import re

from tests.sandbox.digitalocean.models.kubernetes import ACCESS_SCOPE

_VERBS = {"GET": "read", "POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}

#: Paths whose scope does not follow from the method, and the scope; the first that matches applies.
_EXCEPTIONS = (
    (r"GET /v2/actions\b.*", "actions:read"),
    (r"GET /v2/regions", "regions:read"),
    (r"GET /v2/sizes", "sizes:read"),
    (r"GET /v2/droplets/\d+/firewalls", "firewall:read"),
    (r"GET /v2/kubernetes/clusters/[^/]+/(kubeconfig|credentials)", ACCESS_SCOPE),
    (r"POST /v2/droplets/(\d+/)?actions", "droplet:update"),
    (r"POST /v2/reserved_ips/[^/]+/actions", "reserved_ip:update"),
    (r"(POST|DELETE) /v2/firewalls/[^/]+/.+", "firewall:update"),
    (r"(POST|DELETE) /v2/databases/[^/]+/(users|dbs)(/[^/]+)?", "database:update"),
    (r"POST /v2/projects/[^/]+/resources", "project:assign_resource"),
    (r"POST /v2/spaces/keys", "spaces_key:create_credentials"),
)
#: The kind of resource in a scope, by how its paths begin; the first that matches applies.
_KINDS = (
    (r"/v2/account/keys", "ssh_key"),
    (r"/v2/account", "account"),
    (r"/v2/databases", "database"),
    (r"/v2/domains", "domain"),
    (r"/v2/droplets", "droplet"),
    (r"/v2/firewalls", "firewall"),
    (r"/v2/images", "image"),
    (r"/v2/kubernetes", "kubernetes"),
    (r"/v2/monitoring", "monitoring"),
    (r"/v2/projects", "project"),
    (r"/v2/reserved_ips", "reserved_ip"),
    (r"/v2/snapshots", "snapshot"),
    (r"/v2/spaces/keys", "spaces_key"),
    (r"/v2/tags", "tag"),
    (r"/v2/uptime", "uptime"),
    (r"/v2/volumes/[^/]+/snapshots", "block_storage_snapshot"),
    (r"/v2/volumes/([^/]+/)?actions", "block_storage_action"),
    (r"/v2/volumes", "block_storage"),
    (r"/v2/vpcs", "vpc"),
)


#: Requests for which another scope is enough as well.
_ALTERNATIVES = ((r"(POST|DELETE) /v2/domains/[^/]+/records(/\d+)?", "domain:update"),)


def allowed(method: str, path: str, scopes: list[str]) -> bool:
    """Whether a token with these scopes may make a request."""
    needed = scope_of(method, path)
    others = {scope for pattern, scope in _ALTERNATIVES if re.fullmatch(pattern, f"{method} {path}")}
    return needed is None or not others.union({needed}).isdisjoint(scopes)


def scope_of(method: str, path: str) -> str | None:
    """The scope that a request needs, such as `droplet:create`; None for a path that the API does not have."""
    method = "GET" if method == "HEAD" else method
    request = f"{method} {path}"
    for pattern, scope in _EXCEPTIONS:
        if re.fullmatch(pattern, request):
            return scope
    kind = next((kind for pattern, kind in _KINDS if re.match(rf"{pattern}(/|$)", path)), None)
    # Assigning a tag is `tag:create`, taking it away is `tag:delete`: as the methods say.
    return f"{kind}:{_VERBS[method]}" if kind and method in _VERBS else None
