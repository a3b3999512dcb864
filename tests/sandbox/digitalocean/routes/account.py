"""/v2/account and /v2/account/keys."""

from __future__ import annotations

import base64
import binascii
import hashlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import SshKey
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, no_content, page
from tests.sandbox.digitalocean.state.errors import NotFound, SshKeyInUse, SshKeyInvalid, Unprocessable
from tests.sandbox.digitalocean.state.projects import owner_uuid

KEY_TYPES = frozenset(
    {
        "ssh-rsa",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)


class NewKey(Body):
    name: str = ""
    public_key: str = ""


class ChangedKey(Body):
    name: str | None = None


async def show_account(request: Request) -> Response:
    cloud = cloud_of(request)
    config, account = cloud.config, cloud.account
    uuid = owner_uuid(cloud)
    shown: dict[str, object] = {
        "volume_limit": cloud.volume_limit,
        "email": config.email,
        "name": "Sandbox",
        "uuid": uuid,
        "email_verified": account.email_verified,
        "status": account.status,
        "status_message": account.status_message,
        "team": {"uuid": uuid, "name": "My Team"},
    }
    # Each limit needs a scope of its own.
    if account.scopes is None or "droplet:read" in account.scopes:
        shown["droplet_limit"] = cloud.droplet_limit
    if account.scopes is None or "reserved_ip:read" in account.scopes:
        shown |= {"floating_ip_limit": config.reserved_ip_limit, "reserved_ip_limit": config.reserved_ip_limit}
    return answer({"account": shown})


def fingerprint_of(public_key: str) -> str:
    """MD5 fingerprint of a public key in OpenSSH's format. Raises SshKeyInvalid."""
    parts = public_key.split(None, 2)
    if len(parts) < 2 or parts[0] not in KEY_TYPES:
        raise SshKeyInvalid
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise SshKeyInvalid from error
    name = parts[0].encode()
    if blob[: 4 + len(name)] != len(name).to_bytes(4, "big") + name:
        raise SshKeyInvalid
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def key_json(key: SshKey) -> dict[str, object]:
    return {"id": key.id, "public_key": key.public_key, "name": key.name, "fingerprint": key.fingerprint}


async def list_keys(request: Request) -> Response:
    return page(request, "ssh_keys", cloud_of(request).store.all(SshKey), key_json)


async def create_key(request: Request) -> Response:
    body = await body_of(request, NewKey)
    store = cloud_of(request).store
    if not body.name:
        raise Unprocessable("Name can't be blank")
    fingerprint = fingerprint_of(body.public_key)
    if store.where(SshKey, fingerprint=fingerprint):
        raise SshKeyInUse
    key = SshKey(
        id=store.next_number("ssh_key", 44_000_001),
        name=body.name,
        public_key=body.public_key.strip(),
        fingerprint=fingerprint,
    )
    store.put(key)
    return answer({"ssh_key": key_json(key)}, 201)


def _find_key(request: Request) -> SshKey:
    """A key by its number or its fingerprint."""
    wanted = request.path_params["key"]
    for key in cloud_of(request).store.all(SshKey):
        if wanted in (str(key.id), key.fingerprint):
            return key
    raise NotFound


async def show_key(request: Request) -> Response:
    return answer({"ssh_key": key_json(_find_key(request))})


async def change_key(request: Request) -> Response:
    key = _find_key(request)
    body = await body_of(request, ChangedKey)
    if body.name is not None:
        if not body.name:
            raise Unprocessable("Name can't be blank")
        key.name = body.name
        cloud_of(request).store.put(key)
    return answer({"ssh_key": key_json(key)})


async def delete_key(request: Request) -> Response:
    cloud_of(request).store.delete(_find_key(request))
    return no_content()


ROUTES = [
    Route("/v2/account", show_account, methods=["GET"]),
    Route("/v2/account/keys", list_keys, methods=["GET"]),
    Route("/v2/account/keys", create_key, methods=["POST"]),
    Route("/v2/account/keys/{key}", show_key, methods=["GET"]),
    Route("/v2/account/keys/{key}", change_key, methods=["PUT"]),
    Route("/v2/account/keys/{key}", delete_key, methods=["DELETE"]),
]
