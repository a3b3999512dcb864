"""Answers of the recording engine: what providers work out, what is late, and what is refused."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]
from pulumi.runtime import mocks, rpc

#: How long a registration that is held back waits for the others. Nothing waits this long unless a test is to fail.
_PATIENCE_SECONDS = 10


@dataclass
class Hold:
    """Leaves the registration of one resource unanswered until the program has registered all that is `awaited`."""

    urn: str
    awaited: set[str]
    #: The resources that were registered before the held one was answered.
    registered: set[str] = field(default_factory=set)
    _released: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def note(self, urn: str) -> None:
        """Take note of a registration, and return when it may be answered."""
        with self._changed:
            if not self._released:
                self.registered.add(urn)
                self._changed.notify_all()
            if urn == self.urn:
                self._changed.wait_for(lambda: self.awaited <= self.registered, _PATIENCE_SECONDS)
                self._released = True


class RefusedCall(grpc.RpcError):  # type: ignore[misc]
    """What the engine answers when a provider reports an error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self._reason = reason

    def code(self) -> grpc.StatusCode:
        """The status on the wire."""
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        """The provider's message."""
        return self._reason


def computed(args: mocks.MockResourceArgs) -> dict[str, Any]:
    """What the provider of a resource works out itself."""
    name, inputs = args.name, args.inputs
    known: dict[str, dict[str, Any]] = {
        "Droplet": {"ipv4Address": "203.0.113.10", "ipv4AddressPrivate": "10.10.0.10", "vcpus": 4},
        "KubernetesCluster": {
            "endpoint": "https://example.k8s.ondigitalocean.com",
            "ipv4Address": "203.0.113.99",
            "kubeConfigs": [{"clusterCaCertificate": "Q0E=", "token": "dop_v1_of-the-cluster"}],
        },
        "DatabaseCluster": {
            "host": f"{inputs.get('name')}.m.db.ondigitalocean.com",
            "privateHost": f"private-{inputs.get('name')}.m.db.ondigitalocean.com",
            "port": 25060 if inputs.get("engine") == "pg" else 25061,
            "user": "doadmin" if inputs.get("engine") == "pg" else "default",
            "password": f"admin-password-{name}",
            "storageSizeMib": inputs.get("storageSizeMib") or "30720",
        },
        "DatabaseUser": {"password": f"password-{name}", "role": "normal"},
        "ReservedIp": {"ipAddress": "198.51.100.7"},
        "UserRunner": {"token": f"glrt-{name}"},
        "SshKey": {"fingerprint": "aa:bb"},
        "SpacesKey": {"accessKey": f"DO-{name}", "secretKey": f"secret-{name}"},
        "DnsRecord": {"fqdn": f"{inputs.get('name')}.{inputs.get('domain')}"},
        "Command": {"stdout": f"{_reported(inputs) or f'stdout of {name}'}\n", "stderr": ""},
        "RandomPassword": {"result": f"password-{name}"},
        "Project": {
            "webUrl": f"https://gitlab.example.test/root/{inputs.get('path')}",
            "pathWithNamespace": f"root/{inputs.get('path')}",
        },
        "Group": {"fullPath": str(inputs.get("path"))},
        "ProjectDeployToken": {"token": f"gldt-{name}"},
        "RandomId": {"hex": "0badcafe"},
        "PrivateKey": {
            "privateKeyOpenssh": f"PRIVATE {name}\n",
            "privateKeyPem": f"-----BEGIN EC {name}-----\nline\none\n-----END EC {name}-----\n",
            "publicKeyOpenssh": f"ssh-ed25519 {name}\n",
            "publicKeyPem": f"-----BEGIN PUBLIC KEY-----\n{name}\n-----END PUBLIC KEY-----\n",
        },
    }
    return known.get(args.typ.rsplit(":", 1)[1], {})


def _reported(inputs: dict[str, Any]) -> str:
    """What a step reports: the version that it installed, the expiry of its token, the values of deploy tokens."""
    stdin = str(rpc.unwrap_rpc_secret(inputs.get("stdin")))
    found = re.search(r"^(?:GITLAB_VERSION|TOKEN_EXPIRES_AT)=(.+)$", stdin, re.MULTILINE)
    if tokens := re.search(r"^TOKENS=('[^']*'|\S*)$", stdin, re.MULTILINE):
        return json.dumps({one: f"gldt-{one.removeprefix('id-of-')}" for one in tokens[1].strip("'").splitlines()})
    return found[1] if found else ""
