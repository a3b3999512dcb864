"""A DigitalOcean API for the tests of tools: lists, single things, deletions. Two items are on a page."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

_PAGE = 2
#: The key of each kind's identifier, unless it is `id`.
_IDENTIFIERS = {"tags": "name", "domains": "name", "keys": "access_key", "reserved_ips": "ip"}
_IDENTIFIERS |= dict.fromkeys(("users", "dbs"), "name")
_ROOTS = {
    "/v2/account/keys": "ssh_keys",
    "/v2/spaces/keys": "keys",
    "/v2/kubernetes/clusters": "kubernetes_clusters",
}
#: What is deleted at a path of its own.
_WITH_ALL = "/destroy_with_associated_resources/dangerous"


@dataclass
class AccountApi:
    """What the account has, by path of its list, and what was asked besides reading."""

    things: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    #: Refused once each, before it succeeds: status by method and path.
    refusals: dict[str, int] = field(default_factory=dict)

    def answer(self, method: str, path: str, page: int, tag: str | None = None) -> tuple[int, Any]:
        """Status and body of the response to a request; of a list, what has the tag."""
        if method != "GET":
            self.writes.append(f"{method} {path}")
            if status := self.refusals.pop(f"{method} {path}", 0):
                return status, {"message": "Can not delete VPC with members"}
        listed = self.things.get(path)
        if method == "GET" and (listed is not None or path in _ALWAYS):
            items, root = [one for one in listed or [] if tag in (None, *one.get("tags", []))], _root(path)
            rest = {"pages": {"next": "another"}} if len(items) > _PAGE * page else {}
            return 200, {root: items[_PAGE * (page - 1) : _PAGE * page], "links": rest}
        folder, _, identifier = path.removesuffix(_WITH_ALL).rpartition("/")
        root = _root(folder)
        key = _IDENTIFIERS.get(root, "id")
        found = [one for one in self.things.get(folder, []) if str(one[key]) == identifier]
        if not found:
            return 404, {"message": "The resource you were accessing could not be found."}
        if method == "DELETE":
            self.things[folder].remove(found[0])
            return 204, None
        return 200, {root.removesuffix("s"): found[0]}


def _root(path: str) -> str:
    return "domain_records" if path.endswith("/records") else _ROOTS.get(path, path.rpartition("/")[2])


_ALWAYS = frozenset(
    f"/v2/{kind}"
    for kind in (
        *("droplets", "snapshots", "volumes", "firewalls", "vpcs", "tags", "account/keys", "spaces/keys"),
        *("domains", "reserved_ips", "databases"),
    )
)


@contextmanager
def served(patch: pytest.MonkeyPatch) -> Iterator[AccountApi]:
    """The API, where programs look for it."""
    api = AccountApi()

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            [page], [tag] = query.get("page", ["1"]), query.get("tag_name", [None])
            status, body = api.answer(self.command, parts.path, int(page), tag)
            self.send_response(status)
            self.end_headers()
            if body is not None:
                self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST = do_DELETE = _respond  # noqa: N815 - the names that the base class looks for

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    patch.setenv("DIGITALOCEAN_API_URL", f"http://127.0.0.1:{server.server_port}")
    patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
