"""Tokens of kubeconfigs. API servers ask the service about every token that they do not know."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
import time
from typing import Any

from tests.sandbox.digitalocean.models import KubernetesCluster, KubernetesToken
from tests.sandbox.digitalocean.models.kubernetes import ACCESS_SCOPE
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.projects import owner_uuid

#: How long a token is valid unless somebody asks for less, in seconds: seven days, as documented.
LIFETIME = 7 * 24 * 3600


def issue(cloud: Cloud, cluster: KubernetesCluster, seconds: int) -> tuple[str, str]:
    """A new token for a cluster, and when it expires, as the API writes it. 0 seconds are the usual lifetime."""
    token = f"dop_v1_{secrets.token_hex(32)}"
    expires_at = time.time() + (seconds or LIFETIME)
    cloud.store.put(KubernetesToken(digest=_digest(token), cluster_id=cluster.id, expires_at=expires_at))
    return token, dt.datetime.fromtimestamp(expires_at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def review(cloud: Cloud, cluster: KubernetesCluster, token: str) -> dict[str, Any]:
    """The status of a TokenReview."""
    if not _is_valid(cloud, cluster, token):
        return {"authenticated": False}
    groups = ["k8saas:authenticated", "k8saas:owner"]
    user = {"username": cloud.config.email, "uid": owner_uuid(cloud), "groups": groups}
    return {"authenticated": True, "user": user}


def _is_valid(cloud: Cloud, cluster: KubernetesCluster, token: str) -> bool:
    known = cloud.store.get(KubernetesToken, _digest(token))
    if known is not None:
        return known.cluster_id == cluster.id and known.expires_at > time.time()
    # A token of the API is good for its clusters as well, if it may reach them.
    account = cloud.account
    for other, scopes in {cloud.config.token: account.scopes, **account.tokens}.items():
        if hmac.compare_digest(token.encode(), other.encode()):
            return scopes is None or ACCESS_SCOPE in scopes
    return False


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
